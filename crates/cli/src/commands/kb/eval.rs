//! `hearth kb eval`: methods of search side by side, on judged queries.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::{Result, bail};
use hearth_artifacts::progress::{Event, Progress, Unit};
use hearth_eval::bootstrap::{Interval, mean_interval, paired_difference};
use hearth_eval::retrieval::{Gains, Judged, ndcg, recall, reciprocal_rank};
use hearth_knowledge::knowledge_base::{KnowledgeBase, Method};
use serde_json::json;

use super::{Context, open};
use crate::args::{KbEvalArgs, SearchMethod};
use crate::commands::bench_serve::percentiles;
use crate::models::TextEmbedder;

/// Chunks asked for each document of a ranking: one document may have several among the best.
const CHUNKS_A_DOCUMENT: usize = 10;

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
    if args.k == 0 || args.methods.is_empty() {
        bail!("`-k` is {}, `--methods` has {}: at least 1 of each is needed", args.k, args.methods.len());
    }
    let base = open(context, &args.name)?;
    let mut judged = Judged::read(&args.queries, args.qrels.as_deref())?;
    let num_unknown = rename(&mut judged, &base);
    if num_unknown == judged.queries.iter().map(|(_, gains)| gains.len()).sum::<usize>() {
        bail!(
            "none of the {num_unknown} judged documents is in `{}`, whose first is `{}`\nhint: documents are named by their path in the folder, with or without its ending",
            args.name,
            base.documents().first().map_or("", |document| &document.path)
        );
    }
    let embedder = context.machine.embedder(&args.embedder, &context.terminal)?;
    let mut all = Vec::new();
    for &method in &args.methods {
        all.push(score(context, (&base, &embedder), &judged, method, args.k)?);
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
    (base, embedder): (&KnowledgeBase, &TextEmbedder),
    judged: &Judged,
    method: SearchMethod,
    k: usize,
) -> Result<Scores> {
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
        let hits = base.search(&query.text, Method::from(method), k * CHUNKS_A_DOCUMENT, embedder)?;
        scores.milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
        let mut ranking: Vec<&str> = Vec::new();
        for hit in &hits {
            if !ranking.contains(&&*hit.document.path) {
                ranking.push(&hit.document.path);
            }
        }
        scores.ndcg.push(ndcg(&ranking, gains, k));
        scores.recall.push(recall(&ranking, gains, k));
        scores.reciprocal_rank.push(reciprocal_rank(&ranking, gains, k));
        progress.event(Event::Advance { stage: STAGE, done: done as u64 + 1 });
    }
    let summary = format!("{count} by {}", name(method));
    progress.event(Event::Finish { stage: STAGE, summary: &summary });
    Ok(scores)
}

fn print(context: &Context, args: &KbEvalArgs, (judged, num_unknown): (&Judged, usize), all: &[Scores]) {
    let first = &all[0];
    let k = args.k;
    if context.json {
        let methods = all.iter().map(|scores| {
            let [median_ms, _, p99_ms] = percentiles(scores.milliseconds.clone());
            let difference = paired_difference(&scores.ndcg, &first.ndcg, SEED);
            json!({
                "method": name(scores.method), "ndcg": interval(&scores.ndcg), "recall": interval(&scores.recall),
                "reciprocal_rank": interval(&scores.reciprocal_rank), "ndcg_less_first": difference,
                "median_ms": median_ms, "p99_ms": p99_ms,
            })
        });
        let methods: Vec<_> = methods.collect();
        return context.print_json(&json!({
            "name": args.name, "k": k, "queries": judged.queries.len(), "unjudged_queries": judged.num_unjudged,
            "unknown_documents": num_unknown, "methods": methods,
        }));
    }
    context.print(&format!(
        "{} queries ({} more without judgement), {num_unknown} judged documents not in the base",
        judged.queries.len(),
        judged.num_unjudged
    ));
    context.print(&format!(
        "{:8} {:>25} {:>25} {:>25} {:>9}",
        "method",
        format!("nDCG@{k}"),
        format!("recall@{k}"),
        format!("MRR@{k}"),
        "median ms"
    ));
    for scores in all {
        let [median, ..] = percentiles(scores.milliseconds.clone());
        context.print(&format!(
            "{:8} {:>25} {:>25} {:>25} {median:>9.1}",
            name(scores.method),
            shown(interval(&scores.ndcg)),
            shown(interval(&scores.recall)),
            shown(interval(&scores.reciprocal_rank)),
        ));
    }
    for scores in &all[1..] {
        if let Some(difference) = paired_difference(&scores.ndcg, &first.ndcg, SEED) {
            let verdict = if difference.holds_zero() { "may be chance" } else { "is no chance" };
            context.print(&format!(
                "{} less {}: {} {verdict}",
                name(scores.method),
                name(first.method),
                shown(Some(difference))
            ));
        }
    }
}

fn name(method: SearchMethod) -> &'static str {
    match method {
        SearchMethod::Bm25 => "bm25",
        SearchMethod::Dense => "dense",
        SearchMethod::Hybrid => "hybrid",
    }
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
