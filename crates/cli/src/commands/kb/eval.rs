//! `hearth kb eval`: methods of search side by side, on judged queries.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::{Result, bail};
use hearth_artifacts::progress::{Event, Progress, Unit};
use hearth_eval::bootstrap::{Interval, mean_interval, paired_difference};
use hearth_eval::retrieval::{Gains, Judged, ndcg, recall, reciprocal_rank};
use hearth_knowledge::knowledge_base::KnowledgeBase;
use hearth_knowledge::retrieve::retrieve;
use serde_json::{Map, Value, json};

use super::Context;
use super::find::{Bases, options, reranker};
use crate::args::{KbEvalArgs, SearchMethod};
use crate::commands::bench_serve::percentiles;

/// Chunks asked for each document of a ranking: one document may have several among the best.
const CHUNKS_A_DOCUMENT: usize = 4;

/// Draws of the intervals.
const SEED: u64 = 1;

const STAGE: &str = "queries";

/// One method's scores, a value a query.
struct Scores {
    method: SearchMethod,
    ndcg: Vec<f64>,
    recall: Vec<f64>,
    reciprocal_rank: Vec<f64>,
    milliseconds: Vec<f64>,
}

pub(super) fn run(context: &Context, args: &KbEvalArgs) -> Result<()> {
    if args.k == 0 || args.recall_at == 0 || args.methods.is_empty() {
        let (k, recall_at, methods) = (args.k, args.recall_at, args.methods.len());
        bail!(
            "`-k` is {k}, `--recall-at` {recall_at}, `--method` names {methods}: at least 1 of each is needed"
        );
    }
    let with_embedders = args.methods.iter().any(|method| *method != SearchMethod::Bm25);
    let bases = Bases::open(context, &args.name, with_embedders)?;
    let mut judged = Judged::read(&args.queries, args.qrels.as_deref())?;
    let base = bases.sources()[0].base;
    let num_unknown = rename(&mut judged, base);
    if num_unknown == judged.queries.iter().map(|(_, gains)| gains.len()).sum::<usize>() {
        bail!(
            "none of the {num_unknown} judged documents is in `{}`, whose first is `{}`\nhint: documents are named by their path in the folder, with or without its ending",
            args.name,
            base.documents().first().map_or("", |document| &document.path)
        );
    }
    let mut all = Vec::new();
    for &method in &args.methods {
        all.push(score(context, &bases, &judged, method, args)?);
    }
    print(context, args, (&judged, num_unknown), &all);
    let ndcg = mean(&all[0].ndcg);
    if let Some(least) = args.min_ndcg.filter(|least| ndcg < *least) {
        bail!("nDCG@{} is {ndcg:.4}, `--min-ndcg` asks for {least}", args.k);
    }
    Ok(())
}

/// Names judged documents as the base does. How many aren't in it: they stay, and count as not found.
fn rename(judged: &mut Judged, base: &KnowledgeBase) -> usize {
    let mut names: HashMap<&str, &str> = HashMap::new();
    for document in base.documents() {
        let stem = document.path.rsplit_once('.').map_or(&*document.path, |(stem, _)| stem);
        names.entry(stem).or_insert(&document.path);
    }
    let paths: Vec<&str> = base.documents().iter().map(|document| &*document.path).collect();
    names.extend(paths.into_iter().map(|path| (path, path)));
    let mut num_unknown = 0;
    for (_, gains) in &mut judged.queries {
        let renamed = std::mem::take(gains).into_iter().map(|(name, gain)| {
            let path = names.get(&*name).map(|path| (*path).to_owned());
            num_unknown += usize::from(path.is_none());
            (path.unwrap_or(name), gain)
        });
        *gains = renamed.collect::<Gains>();
    }
    num_unknown
}

fn score(
    context: &Context,
    bases: &Bases,
    judged: &Judged,
    method: SearchMethod,
    args: &KbEvalArgs,
) -> Result<Scores> {
    let reranker = reranker(context, &args.find, method)?;
    let mut options =
        options(&args.find, method, args.k.max(args.recall_at) * CHUNKS_A_DOCUMENT, reranker.as_deref())?;
    // Every document counts here, also one that says what another has said.
    options.drop_duplicates = false;
    let sources = bases.sources();
    let count = judged.queries.len();
    let progress: &dyn Progress = &context.terminal;
    progress.event(Event::Start { stage: STAGE, total: Some(count as u64), unit: Unit::Items });
    let list = || Vec::with_capacity(count);
    let mut scores =
        Scores { method, ndcg: list(), recall: list(), reciprocal_rank: list(), milliseconds: list() };
    for (done, (query, gains)) in judged.queries.iter().enumerate() {
        if progress.cancelled() {
            bail!("stopped after {done} of {count} queries");
        }
        let start = Instant::now();
        let found = retrieve(&[&query.text], &sources, &options)?;
        scores.milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
        let mut ranking: Vec<&str> = Vec::new();
        for passage in &found.passages {
            if !ranking.contains(&&*passage.document.path) {
                ranking.push(&passage.document.path);
            }
        }
        scores.ndcg.push(ndcg(&ranking, gains, args.k));
        scores.recall.push(recall(&ranking, gains, args.recall_at));
        scores.reciprocal_rank.push(reciprocal_rank(&ranking, gains, args.k));
        progress.event(Event::Advance { stage: STAGE, done: done as u64 + 1 });
    }
    let summary = format!("{count} by {}", method.name());
    progress.event(Event::Finish { stage: STAGE, summary: &summary });
    Ok(scores)
}

fn print(context: &Context, args: &KbEvalArgs, (judged, num_unknown): (&Judged, usize), all: &[Scores]) {
    if context.json {
        for scores in all {
            context.print_json(&line(args, (judged, num_unknown), scores, &all[0]));
        }
        return;
    }
    let (k, recall_at) = (args.k, args.recall_at);
    context.print(&format!(
        "{} queries ({} more without judgement), {num_unknown} judged documents not in the base",
        judged.queries.len(),
        judged.num_unjudged
    ));
    let heads = [format!("nDCG@{k}"), format!("recall@{recall_at}"), format!("MRR@{k}")];
    let [ndcg, recall, mrr] = &heads;
    context.print(&format!("{:8} {ndcg:>25} {recall:>25} {mrr:>25} {:>9}", "method", "median ms"));
    for scores in all {
        let [median, ..] = percentiles(scores.milliseconds.clone());
        context.print(&format!(
            "{:8} {:>25} {:>25} {:>25} {median:>9.1}",
            scores.method.name(),
            shown(interval(&scores.ndcg)),
            shown(interval(&scores.recall)),
            shown(interval(&scores.reciprocal_rank)),
        ));
    }
    for scores in &all[1..] {
        if let Some(difference) = paired_difference(&scores.ndcg, &all[0].ndcg, SEED) {
            let verdict = if difference.holds_zero() { "may be chance" } else { "is no chance" };
            let (name, first) = (scores.method.name(), all[0].method.name());
            context.print(&format!("{name} less {first}: {} {verdict}", shown(Some(difference))));
        }
    }
}

/// One method as a line of JSON. `ci95` is that of nDCG.
fn line(
    args: &KbEvalArgs,
    (judged, num_unknown): (&Judged, usize),
    scores: &Scores,
    first: &Scores,
) -> Value {
    let (k, recall_at) = (args.k, args.recall_at);
    let [median_ms, _, p99_ms] = percentiles(scores.milliseconds.clone());
    let ends = |interval: Option<Interval>| interval.map(|interval| [interval.low, interval.high]);
    let difference = paired_difference(&scores.ndcg, &first.ndcg, SEED);
    let mut line = Map::new();
    line.insert("method".into(), json!(scores.method.name()));
    line.insert(format!("ndcg@{k}"), json!(mean(&scores.ndcg)));
    line.insert(format!("recall@{recall_at}"), json!(mean(&scores.recall)));
    line.insert(format!("mrr@{k}"), json!(mean(&scores.reciprocal_rank)));
    line.insert("ci95".into(), json!(ends(interval(&scores.ndcg))));
    line.insert("recall_ci95".into(), json!(ends(interval(&scores.recall))));
    line.insert("mrr_ci95".into(), json!(ends(interval(&scores.reciprocal_rank))));
    line.insert("ndcg_less_first".into(), json!(difference));
    line.insert("queries".into(), json!(judged.queries.len()));
    line.insert("unjudged_queries".into(), json!(judged.num_unjudged));
    line.insert("unknown_documents".into(), json!(num_unknown));
    line.insert("ms_p50".into(), json!(median_ms));
    line.insert("ms_p99".into(), json!(p99_ms));
    line.insert("name".into(), json!(args.name));
    Value::Object(line)
}

fn interval(values: &[f64]) -> Option<Interval> {
    mean_interval(values, SEED)
}

fn shown(interval: Option<Interval>) -> String {
    interval
        .map_or_else(String::new, |Interval { mean, low, high }| format!("{mean:.4} ({low:.4} to {high:.4})"))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
