//! Held-out questions and training pairs that share no fact.
//!
//! Pairs come from the chat model, which reads one chunk at a time, and from rules; a pair is kept only if its
//! answer's words stand in the chunk, and one of the model's only if the model, asked the question with the chunk
//! before it, gives the answer again (round-trip consistency, Alberti et al. 2019). Without a questions file some facts are held out, with every pair about them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hearth_artifacts::progress::{Event, Progress, Unit};
use hearth_engine::{Error, Request, Stream};
use hearth_eval::metrics;
use hearth_eval::question::{self, Question};
use hearth_knowledge::chunk::Chunk;
use hearth_knowledge::document::Corpus;
use hearth_knowledge::facts::fact_pairs;
use hearth_knowledge::knowledge_base::KnowledgeBase;
use hearth_knowledge::pairs::{Language, is_brief, pair_prompt, parse_pairs};
use hearth_knowledge::questions::{Pair, exclude_leaks, read_questions, split};
use hearth_tokenizer::{Conversation, Message};
use serde::{Deserialize, Serialize};

use super::Job;
use super::grounding::Documents;

const STAGE: &str = "questions";

/// Questions asked of the model about one chunk: more repeat themselves on a small model.
const PAIRS_PER_CHUNK: usize = 3;
/// Tokens of a reply with that many pairs.
const REPLY_TOKENS: usize = 160;
/// Chunks asked about together: the engine's batch.
const TOGETHER: usize = 8;
/// Training pairs by rule for each chunk at most, so that they don't drown those of the model.
const FACTS_PER_CHUNK: usize = 4;

/// Held-out questions come from the model alone if two thirds of its brief pairs are this many.
const MIN_WRITTEN: usize = 12;

/// Tokens of the second answer at most: what is longer isn't a fact.
const CONFIRM_TOKENS: usize = 48;
/// Token F1 of the first and the second answer from which on they say the same.
const SAME_ANSWER_F1: f64 = 0.6;

/// All pairs, and how they came about.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Pairs {
    pub(super) written: Vec<Pair>,
    pub(super) by_rule: Vec<Pair>,
    pub(super) rejected: usize,
    /// Pairs whose answer the model didn't give again.
    pub(super) unconfirmed: usize,
    pub(super) chunks_read: usize,
    pub(super) chunks: usize,
    pub(super) seconds: f64,
}

/// What the comparison asks, and what the adapter learns from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Sets {
    pub(super) held_out: Vec<Question>,
    pub(super) generated: bool,
    pub(super) training: Vec<Pair>,
    /// Pairs that were left out because they are about a held-out fact or question.
    pub(super) excluded: usize,
}

/// Reads a questions file before anything costly begins: a broken line or an unknown source is an error.
pub(super) fn check_file(path: &Path, corpus: &Corpus) -> Result<()> {
    read_questions(path, &corpus.documents)?;
    question::read(path)?;
    Ok(())
}

/// Asks the model for pairs, chunk by chunk, until every chunk is read or the time is over.
pub(super) fn make_pairs(job: &Job<'_>, progress: &dyn Progress, time: Duration) -> Result<Pairs> {
    let base = &job.base;
    let documents =
        Documents::new(Arc::clone(base), Arc::clone(&job.embedder), Arc::clone(job.engine.model()));
    let start = Instant::now();
    let order = spread(base.chunks().len(), job.args.seed);
    let mut pairs = Pairs {
        written: Vec::new(),
        by_rule: base.chunks().iter().flat_map(|chunk| by_rule(base, chunk)).collect(),
        rejected: 0,
        unconfirmed: 0,
        chunks_read: 0,
        chunks: order.len(),
        seconds: 0.0,
    };
    progress.event(Event::Start { stage: STAGE, total: Some(order.len() as u64), unit: Unit::Items });
    for group in order.chunks(TOGETHER) {
        if progress.cancelled() {
            bail!("stopped while making questions; run the same command again to go on");
        }
        if start.elapsed() > time {
            break;
        }
        let asked: Vec<(&Chunk, Result<Stream, Error>)> =
            group.iter().map(|&index| &base.chunks()[index]).map(|chunk| (chunk, ask(job, chunk))).collect();
        let mut found = Vec::new();
        for (chunk, stream) in asked {
            let reply = stream.and_then(Stream::collect).context("the model can't write questions")?;
            let (kept, rejected) = parse_pairs(&reply.text, chunk);
            found.extend(kept);
            pairs.rejected += rejected.len();
            pairs.chunks_read += 1;
        }
        let num_found = found.len();
        let confirmed = confirm(job, &documents, found)?;
        pairs.unconfirmed += num_found - confirmed.len();
        pairs.written.extend(confirmed);
        progress.event(Event::Advance { stage: STAGE, done: pairs.chunks_read as u64 });
    }
    pairs.seconds = start.elapsed().as_secs_f64();
    let summary = format!(
        "{} pairs from the model over {} of {} chunks ({} rejected, {} not confirmed), {} by rule",
        pairs.written.len(),
        pairs.chunks_read,
        pairs.chunks,
        pairs.rejected,
        pairs.unconfirmed,
        pairs.by_rule.len()
    );
    progress.event(Event::Finish { stage: STAGE, summary: &summary });
    Ok(pairs)
}

/// The pairs whose answer the model gives again when it reads their chunk.
fn confirm(job: &Job<'_>, documents: &Documents, pairs: Vec<Pair>) -> Result<Vec<Pair>> {
    let asked: Vec<(Pair, Result<Stream, Error>)> = pairs
        .into_iter()
        .map(|pair| {
            let prompt = documents.with_chunk(&pair.question, pair.chunk);
            let messages = vec![Message::system(prompt.system), Message::user(prompt.user)];
            let stream = submit(job, messages, CONFIRM_TOKENS);
            (pair, stream)
        })
        .collect();
    let mut confirmed = Vec::new();
    for (pair, stream) in asked {
        let reply = stream.and_then(Stream::collect).context("the model can't answer its questions")?;
        if says(&reply.text, &pair.answer) {
            confirmed.push(pair);
        }
    }
    Ok(confirmed)
}

fn says(reply: &str, answer: &str) -> bool {
    let accepted = [answer.to_owned()];
    metrics::contains(reply, &accepted) > 0.0 || metrics::token_f1(reply, &accepted) >= SAME_ANSWER_F1
}

fn by_rule(base: &KnowledgeBase, chunk: &Chunk) -> Vec<Pair> {
    let Some(document) = base.document(chunk.document) else { return Vec::new() };
    let mut pairs = fact_pairs(chunk, document);
    pairs.truncate(FACTS_PER_CHUNK);
    pairs
}

fn ask(job: &Job<'_>, chunk: &Chunk) -> Result<Stream, Error> {
    let title = job.base.document(chunk.document).map_or("", |document| document.title.as_str());
    let messages = pair_prompt(chunk, title, Language::of(&chunk.text), PAIRS_PER_CHUNK)
        .into_iter()
        .map(
            |(role, content)| {
                if role == "system" { Message::system(content) } else { Message::user(content) }
            },
        )
        .collect();
    submit(job, messages, REPLY_TOKENS)
}

fn submit(job: &Job<'_>, messages: Vec<Message>, max_tokens: usize) -> Result<Stream, Error> {
    let chat = &job.engine.model().chat;
    let prompt = chat.prompt(&Conversation { messages, ..Conversation::default() });
    // A template that refuses a system message and a question can't run at all; an empty prompt says so.
    let prompt = prompt.unwrap_or_default();
    job.engine.submit(Request::greedy(prompt, max_tokens, chat.stops().to_vec()))
}

/// Every index once, spread over the whole range from the start: a run that ends early has seen all documents.
fn spread(len: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    let mut state = seed;
    for i in (1..len).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(i, (state >> 33) as usize % (i + 1));
    }
    order
}

/// Divides pairs into what is asked and what is learned.
pub(super) fn sets(job: &Job<'_>, pairs: &Pairs) -> Result<Sets> {
    let all = || pairs.written.iter().chain(&pairs.by_rule).cloned();
    let total = pairs.written.len() + pairs.by_rule.len();
    let (held_out, training, generated) = match &job.args.questions {
        Some(path) => (question::read(path)?, all().collect(), false),
        None => {
            // Questions that the model wrote read more like a person's than those made by rule.
            let brief: Vec<Pair> =
                pairs.written.iter().filter(|pair| is_brief(&pair.answer)).cloned().collect();
            let (source, count) = match brief.len() * 2 / 3 {
                enough if enough >= job.args.num_questions.min(MIN_WRITTEN) => {
                    (brief, job.args.num_questions.min(enough))
                }
                _ => (all().collect(), job.args.num_questions),
            };
            let (asked, rest) = split(&source, count, job.args.seed);
            let others = all().filter(|pair| !source.contains(pair));
            let training =
                rest.into_iter().chain(others).filter(|pair| !asked.iter().any(|held| same_fact(held, pair)));
            let training = training.collect();
            (asked.iter().enumerate().map(|(i, pair)| as_question(job, i, pair)).collect(), training, true)
        }
    };
    if held_out.is_empty() {
        bail!(
            "no question can be made from these documents (too little text with facts in it); give some with `--questions FILE`"
        );
    }
    // In an order of the seed's: if time allows only some, they are of all documents and languages.
    let held_out: Vec<Question> =
        spread(held_out.len(), job.args.seed).into_iter().map(|index| held_out[index].clone()).collect();
    let questions: Vec<&str> = held_out.iter().map(|question| question.question.as_str()).collect();
    let training = exclude_leaks(training, &questions);
    let asked = if generated { held_out.len() } else { 0 };
    let excluded = total.saturating_sub(training.len() + asked);
    Ok(Sets { held_out, generated, training, excluded })
}

/// Whether two pairs ask for one fact: the same sentence, or the same answer in the same chunk.
fn same_fact(a: &Pair, b: &Pair) -> bool {
    a.chunk == b.chunk
        && (a.evidence == b.evidence
            || a.answer == b.answer
            || a.evidence.contains(&b.evidence)
            || b.evidence.contains(&a.evidence))
}

fn as_question(job: &Job<'_>, index: usize, pair: &Pair) -> Question {
    Question {
        id: format!("g{}", index + 1),
        question: pair.question.clone(),
        answers: vec![pair.answer.clone()],
        source: job.base.document(pair.document).map(|document| document.path.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_a_permutation_that_the_seed_decides() {
        let mut order = spread(50, 3);
        assert_eq!(order, spread(50, 3));
        assert_ne!(order, spread(50, 4));
        order.sort_unstable();
        assert_eq!(order, (0..50).collect::<Vec<_>>());
    }
}
