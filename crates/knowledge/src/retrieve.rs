//! A question → the passages an answer is made of: several queries and bases, reranking, near-duplicates dropped,
//! neighbours joined, within a budget of tokens; with what each stage did and took.

mod clusters;

use std::collections::BTreeSet;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::chunk::{Chunk, ChunkId};
use crate::document::Document;
use crate::embed::{Embedder, Reranker};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::knowledge_base::{CANDIDATES, Candidates, Fusion, Hit, KnowledgeBase, Method, Query, fuse, weigh};
use crate::words::content_words;

/// How many of the best a model reads once more.
pub const RERANKED: usize = 18;

/// The reranker's share of the final score; the rest is the first ranking's.
const RERANK_SHARE: f64 = 0.5;

/// Passages that share this much of their words are the same to a reader.
const NEAR_DUPLICATE: f64 = 0.85;

/// One base with the embedder it was made with.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    pub name: &'a str,
    pub base: &'a KnowledgeBase,
    pub embedder: Option<&'a dyn Embedder>,
}

/// What stands around a found chunk and is given with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Context {
    /// Nothing.
    Chunk,
    /// The chunks before and after it.
    Neighbours,
    /// All of its section: what stands under the same heading.
    Section,
}

/// What looks at the best candidates once more.
#[derive(Debug, Clone, Copy)]
pub enum Rerank<'a> {
    Off,
    /// The candidates themselves: those that lie near other good ones move up.
    Clusters,
    /// A model that reads question and passage.
    Model(&'a dyn Reranker),
}

/// How passages are found.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    pub method: Method,
    pub fusion: Fusion,
    pub filter: Filter,
    /// Passages at most.
    pub k: usize,
    pub rerank: Rerank<'a>,
    /// Tokens of all passages at most, as the embedder counts them.
    pub max_tokens: usize,
    pub context: Context,
    pub drop_duplicates: bool,
}

impl Options<'_> {
    pub fn new(method: Method, k: usize) -> Self {
        Self {
            method,
            fusion: Fusion::default(),
            filter: Filter::default(),
            k,
            rerank: Rerank::Off,
            max_tokens: usize::MAX,
            context: Context::Chunk,
            drop_duplicates: true,
        }
    }
}

/// A piece of a document: one chunk, or several that follow each other.
#[derive(Debug, Clone)]
pub struct Passage<'a> {
    pub base: &'a str,
    pub document: &'a Document,
    /// The text and its place; the id is that of the chunk that was found.
    pub chunk: Chunk,
    pub score: f64,
    pub bm25_rank: Option<usize>,
    pub dense_rank: Option<usize>,
    pub cosine: Option<f32>,
    /// The reranker's score.
    pub rerank: Option<f32>,
}

impl Passage<'_> {
    /// As answers and citations want it; ranks count from 1.
    pub fn hit(&self, rank: usize) -> Hit<'_> {
        Hit {
            rank,
            score: self.score,
            chunk: &self.chunk,
            document: self.document,
            bm25_rank: self.bm25_rank,
            dense_rank: self.dense_rank,
            cosine: self.cosine,
        }
    }
}

/// What one step did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stage {
    pub stage: &'static str,
    pub milliseconds: f64,
    /// Candidates that were left after it.
    pub left: usize,
}

#[derive(Debug, Clone)]
pub struct Retrieved<'a> {
    pub passages: Vec<Passage<'a>>,
    pub trace: Vec<Stage>,
}

/// Which base, which chunk.
type Key = (usize, u32);

/// Finds passages for `queries`, which are forms of one question, the question itself first.
pub fn retrieve<'a>(
    queries: &[&str],
    sources: &[Source<'a>],
    options: &Options<'_>,
) -> Result<Retrieved<'a>> {
    let mut watch = Watch::default();
    let depth = options.k.max(CANDIDATES);
    let vectors = watch.run("embed", || embed(queries, sources, options.method), Vec::len)?;
    let found = watch.run(
        "search",
        || Ok(search(queries, sources, options, &vectors, depth)),
        |found: &Vec<Candidates<Key>>| found.iter().map(|found| found.bm25.len() + found.dense.len()).sum(),
    )?;
    let mut ranking = watch.run(
        "fuse",
        || {
            let rankings: Vec<Vec<(Key, f64)>> =
                found.iter().map(|found| found.fused(options.method, options.fusion)).collect();
            Ok(match <[Vec<(Key, f64)>; 1]>::try_from(rankings) {
                Ok([only]) => only,
                Err(several) => fuse(&several.iter().map(Vec::as_slice).collect::<Vec<_>>()),
            })
        },
        Vec::len,
    )?;
    let mut reranked = Vec::new();
    match (options.rerank, queries.first()) {
        (Rerank::Off, _) | (_, None) => {}
        (Rerank::Clusters, _) => {
            ranking = watch.run("rerank", || Ok(clusters::rerank(sources, ranking)), Vec::len)?;
        }
        (Rerank::Model(reranker), Some(query)) => {
            let run = || rerank(query, sources, reranker, &ranking, &mut reranked);
            ranking = watch.run("rerank", run, Vec::len)?;
        }
    }
    let passages = watch.run(
        "passages",
        || {
            let passage = |&(key, score): &(Key, f64)| {
                let mut passage = passage(sources, key, score, found.first())?;
                passage.rerank = reranked.iter().find(|(other, _)| *other == key).map(|(_, score)| *score);
                Some(passage)
            };
            Ok(assemble(ranking.iter().filter_map(passage), sources, options))
        },
        Vec::len,
    )?;
    Ok(Retrieved { passages, trace: watch.stages })
}

#[derive(Default)]
struct Watch {
    stages: Vec<Stage>,
}

impl Watch {
    fn run<T>(
        &mut self,
        stage: &'static str,
        run: impl FnOnce() -> Result<T>,
        left: impl Fn(&T) -> usize,
    ) -> Result<T> {
        let start = Instant::now();
        let value = run()?;
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;
        self.stages.push(Stage { stage, milliseconds, left: left(&value) });
        Ok(value)
    }
}

/// For each query and each base the query's vector; computed once for bases with one embedder.
fn embed(queries: &[&str], sources: &[Source<'_>], method: Method) -> Result<Vec<Vec<Option<Vec<f32>>>>> {
    let of_query = |query: &&str| -> Result<Vec<Option<Vec<f32>>>> {
        let mut vectors: Vec<Option<Vec<f32>>> = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            let same = |other: &Source<'_>| other.base.embedder() == source.base.embedder();
            let known = sources[..index].iter().position(same).map(|at| vectors[at].clone());
            vectors.push(match known {
                Some(vector) => vector,
                None if method == Method::Bm25 => None,
                // A base without vectors takes part by its words.
                None if method == Method::Hybrid && source.base.embedder().is_none() => None,
                None => Some(source.base.embed_query(query, source.embedder)?),
            });
        }
        Ok(vectors)
    };
    queries.iter().map(of_query).collect()
}

/// For each query what was found in all bases together.
fn search(
    queries: &[&str],
    sources: &[Source<'_>],
    options: &Options<'_>,
    vectors: &[Vec<Option<Vec<f32>>>],
    depth: usize,
) -> Vec<Candidates<Key>> {
    let of_query = |(text, vectors): (&&str, &Vec<Option<Vec<f32>>>)| {
        let query = Query {
            fusion: options.fusion,
            filter: options.filter.clone(),
            ..Query::new(text, options.method, depth)
        };
        let mut all = Candidates { bm25: Vec::new(), dense: Vec::new() };
        for (index, (source, vector)) in sources.iter().zip(vectors).enumerate() {
            let found = source.base.candidates(&query, vector.as_deref(), depth);
            all.bm25.extend(found.bm25.into_iter().map(|(id, score)| ((index, id), score)));
            all.dense.extend(found.dense.into_iter().map(|(id, score)| ((index, id), score)));
        }
        for list in [&mut all.bm25, &mut all.dense] {
            list.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            list.truncate(depth);
        }
        all
    };
    queries.iter().zip(vectors).map(of_query).collect()
}

/// The best candidates in the order of the first ranking's and the reranker's scores together; the others behind them.
fn rerank(
    query: &str,
    sources: &[Source<'_>],
    reranker: &dyn Reranker,
    ranking: &[(Key, f64)],
    scores: &mut Vec<(Key, f32)>,
) -> Result<Vec<(Key, f64)>> {
    let (best, rest) = ranking.split_at(ranking.len().min(RERANKED));
    let texts: Vec<String> = best.iter().map(|&(key, _)| text(sources, key)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let failed = |reason: String| Error::Rerank { reranker: reranker.name().into(), reason };
    let made = reranker.score(query, &texts).map_err(failed)?;
    if made.len() != texts.len() || made.iter().any(|score| !score.is_finite()) {
        let reason = format!("{} scores for {} passages, some perhaps not finite", made.len(), texts.len());
        return Err(failed(reason));
    }
    *scores = best.iter().map(|&(key, _)| key).zip(made).collect();
    let mut second = scores.clone();
    second.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut order = weigh(&[(best, 1.0 - RERANK_SHARE), (&widened(&second), RERANK_SHARE)]);
    order.extend(behind(rest));
    Ok(order)
}

/// Candidates that were worse before keep their order below those that were looked at again.
fn behind(rest: &[(Key, f64)]) -> impl Iterator<Item = (Key, f64)> {
    rest.iter().enumerate().map(|(index, &(key, _))| (key, -(index as f64 + 1.0) * 1e-3))
}

/// What the indexes see of a candidate.
fn text(sources: &[Source<'_>], (source, id): Key) -> String {
    let base = sources[source].base;
    let chunk = base.chunk(ChunkId(id));
    let document = chunk.and_then(|chunk| base.document(chunk.document));
    chunk.zip(document).map_or_else(String::new, |(chunk, document)| chunk.passage(&document.title))
}

fn widened(list: &[(Key, f32)]) -> Vec<(Key, f64)> {
    list.iter().map(|&(key, score)| (key, f64::from(score))).collect()
}

fn passage<'a>(
    sources: &[Source<'a>],
    (source, id): Key,
    score: f64,
    found: Option<&Candidates<Key>>,
) -> Option<Passage<'a>> {
    let Source { name, base, .. } = sources[source];
    let chunk = base.chunk(ChunkId(id))?;
    let place = |list: &[(Key, f32)]| list.iter().position(|&(other, _)| other == (source, id));
    let (bm25, dense) = (found.and_then(|f| place(&f.bm25)), found.and_then(|f| place(&f.dense)));
    Some(Passage {
        base: name,
        document: base.document(chunk.document)?,
        chunk: chunk.clone(),
        score,
        bm25_rank: bm25.map(|at| at + 1),
        dense_rank: dense.map(|at| at + 1),
        cosine: found.zip(dense).map(|(found, at)| found.dense[at].1),
        rerank: None,
    })
}

/// Best first: near-duplicates dropped, context added, what touches joined, as far as count and budget allow.
fn assemble<'a>(
    ranked: impl Iterator<Item = Passage<'a>>,
    sources: &[Source<'a>],
    options: &Options<'_>,
) -> Vec<Passage<'a>> {
    let mut passages: Vec<Passage<'a>> = Vec::new();
    let mut known: Vec<BTreeSet<String>> = Vec::new();
    let mut tokens = 0;
    for mut passage in ranked {
        if passages.len() >= options.k || options.max_tokens.saturating_sub(tokens) == 0 {
            break;
        }
        if passages.iter().any(|other| contains(other, &passage)) {
            continue;
        }
        if options.drop_duplicates {
            let words: BTreeSet<String> = content_words(&passage.chunk.text).into_iter().collect();
            if known.iter().any(|other| overlap(other, &words) >= NEAR_DUPLICATE) {
                continue;
            }
            known.push(words);
        }
        let base = sources.iter().find(|source| source.name == passage.base).map(|source| source.base);
        if let Some(base) = base {
            widen(base, &mut passage, options.context, options.max_tokens.saturating_sub(tokens));
        }
        if tokens + passage.chunk.num_tokens > options.max_tokens {
            known.pop();
            continue;
        }
        tokens += passage.chunk.num_tokens;
        let touching = (options.context != Context::Chunk)
            .then(|| passages.iter_mut().find(|other| touches(other, &passage)))
            .flatten();
        match touching {
            Some(other) => join(other, &passage),
            None => passages.push(passage),
        }
    }
    passages
}

fn same_document(a: &Passage<'_>, b: &Passage<'_>) -> bool {
    a.base == b.base && a.document.id == b.document.id
}

fn contains(a: &Passage<'_>, b: &Passage<'_>) -> bool {
    let (a_range, b_range) = (&a.chunk.range, &b.chunk.range);
    same_document(a, b) && a_range.start <= b_range.start && b_range.end <= a_range.end
}

/// Do they follow each other, with nothing but a line end between?
fn touches(a: &Passage<'_>, b: &Passage<'_>) -> bool {
    let (a_range, b_range) = (&a.chunk.range, &b.chunk.range);
    same_document(a, b) && (a_range.end + 1 >= b_range.start && b_range.end + 1 >= a_range.start)
}

/// The share of the smaller set's words that both have.
fn overlap(a: &BTreeSet<String>, b: &BTreeSet<String>) -> f64 {
    let either = a.union(b).count();
    if either == 0 { 0.0 } else { a.intersection(b).count() as f64 / either as f64 }
}

/// Adds what stands around the chunk, as far as `room` allows.
fn widen(base: &KnowledgeBase, passage: &mut Passage<'_>, context: Context, room: usize) {
    let id = passage.chunk.id;
    let headings = passage.chunk.headings.clone();
    let step = |at: ChunkId, by: i64| -> Option<&Chunk> {
        let next = u32::try_from(i64::from(at.0) + by).ok()?;
        let chunk = base.chunk(ChunkId(next))?;
        let section = context == Context::Neighbours || chunk.headings.starts_with(&headings);
        (chunk.document == passage.document.id && section).then_some(chunk)
    };
    let reach = match context {
        Context::Chunk => 0,
        Context::Neighbours => 1,
        Context::Section => usize::MAX,
    };
    let (mut first, mut last, mut tokens) = (id, id, passage.chunk.num_tokens);
    let mut open = [reach > 0, reach > 0];
    let mut steps = 0;
    // What follows explains more than what stands before, so it comes first.
    while steps < reach && (open[0] || open[1]) {
        for (side, by) in [(0, 1), (1, -1)] {
            let from = if by > 0 { last } else { first };
            match step(from, by).filter(|chunk| open[side] && tokens + chunk.num_tokens <= room) {
                Some(chunk) => {
                    tokens += chunk.num_tokens;
                    if by > 0 { last = chunk.id } else { first = chunk.id }
                }
                None => open[side] = false,
            }
        }
        steps += 1;
    }
    let (Some(first), Some(last)) = (base.chunk(first), base.chunk(last)) else { return };
    let range = first.range.start..last.range.end;
    let text = passage.document.text();
    let Some(text) = text.get(range.clone()) else { return };
    let page = first.page;
    passage.chunk = Chunk { page, range, text: text.to_owned(), num_tokens: tokens, ..passage.chunk.clone() };
}

fn join(to: &mut Passage<'_>, other: &Passage<'_>) {
    let (a, b) = (&to.chunk.range, &other.chunk.range);
    let range = a.start.min(b.start)..a.end.max(b.end);
    let text = to.document.text();
    if let Some(text) = text.get(range.clone()) {
        let page = if b.start < a.start { other.chunk.page } else { to.chunk.page };
        let num_tokens = to.chunk.num_tokens + other.chunk.num_tokens;
        to.chunk = Chunk { page, range, text: text.to_owned(), num_tokens, ..to.chunk.clone() };
    }
}

#[cfg(test)]
mod tests;
