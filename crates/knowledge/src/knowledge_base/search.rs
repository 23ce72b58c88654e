//! Search by words (BM25), by meaning (cosine of embeddings), or both fused.
//!
//! Reciprocal rank fusion (Cormack, Clarke and Büttcher 2009): a chunk's score is the sum of 1 / (60 + rank) over
//! the methods that found it. Weighted fusion adds the scores themselves, each method's spread over its best
//! candidates brought to 0 to 1.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::update::{check_shape, other_embedder};
use super::{KnowledgeBase, Metadata};
use crate::chunk::{Chunk, ChunkId};
use crate::document::{Document, DocumentId};
use crate::embed::Embedder;
use crate::error::Result;
use crate::filter::Filter;

/// The constant of the paper.
const RRF_K: f64 = 60.0;

/// Chunks that stand for all in [`KnowledgeBase::usual_cosine`].
const SAMPLE: usize = 64;

/// How deep each method is asked before fusion.
pub(crate) const CANDIDATES: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    Bm25,
    Dense,
    Hybrid,
}

/// How the two rankings of a hybrid search become one.
///
/// By default words and meaning weigh the same: better than ranks alone on every judged collection, worse on
/// questions in everyday words (LOG.md).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fusion {
    ReciprocalRank,
    /// `dense` is the share of meaning, 0 to 1; the rest is the words'.
    Weighted {
        dense: f64,
    },
}

impl Default for Fusion {
    fn default() -> Self {
        Self::Weighted { dense: 0.5 }
    }
}

/// A question to a base.
#[derive(Debug, Clone)]
pub struct Query<'a> {
    pub text: &'a str,
    pub method: Method,
    pub fusion: Fusion,
    /// Hits at most.
    pub k: usize,
    pub filter: Filter,
}

impl<'a> Query<'a> {
    pub fn new(text: &'a str, method: Method, k: usize) -> Self {
        Self { text, method, fusion: Fusion::default(), k, filter: Filter::default() }
    }
}

/// A found chunk. Ranks count from 1.
#[derive(Debug, Clone)]
pub struct Hit<'a> {
    pub rank: usize,
    pub score: f64,
    pub chunk: &'a Chunk,
    pub document: &'a Document,
    /// The rank by BM25, where that method was asked and found it.
    pub bm25_rank: Option<usize>,
    pub dense_rank: Option<usize>,
    /// The cosine, where meaning was asked and found it.
    pub cosine: Option<f32>,
}

impl<'a> Hit<'a> {
    /// A chunk that is given without having been searched for.
    pub fn of(rank: usize, chunk: &'a Chunk, document: &'a Document) -> Self {
        Self { rank, score: 0.0, chunk, document, bm25_rank: None, dense_rank: None, cosine: None }
    }
}

impl KnowledgeBase {
    /// The `k` best chunks for a question, the best first; the two rankings of [`Method::Hybrid`] are joined by ranks,
    /// which finds more for questions in everyday words.
    pub fn search(
        &self,
        query: &str,
        method: Method,
        k: usize,
        embedder: &dyn Embedder,
    ) -> Result<Vec<Hit<'_>>> {
        let query = Query { fusion: Fusion::ReciprocalRank, ..Query::new(query, method, k) };
        self.find(&query, Some(embedder))
    }

    /// The best chunks for a query, the best first; equal scores by id. `embedder` is needed for meaning alone.
    pub fn find(&self, query: &Query<'_>, embedder: Option<&dyn Embedder>) -> Result<Vec<Hit<'_>>> {
        let vector = match query.method {
            Method::Bm25 => None,
            Method::Dense | Method::Hybrid => Some(self.embed_query(query.text, embedder)?),
        };
        Ok(self.find_with(query, vector.as_deref()))
    }

    /// [`KnowledgeBase::find`] with the query's vector, from [`KnowledgeBase::embed_query`]; without one, words alone count.
    pub fn find_with(&self, query: &Query<'_>, vector: Option<&[f32]>) -> Vec<Hit<'_>> {
        let depth = if query.method == Method::Hybrid { query.k.max(CANDIDATES) } else { query.k };
        let found = self.candidates(query, vector, depth);
        let scored = found.fused(query.method, query.fusion);
        let scored = scored.into_iter().take(query.k).enumerate();
        scored.filter_map(|(index, (id, score))| self.hit(index + 1, id, score, &found)).collect()
    }

    /// What each of the query's methods finds, `depth` at most.
    pub(crate) fn candidates(
        &self,
        query: &Query<'_>,
        vector: Option<&[f32]>,
        depth: usize,
    ) -> Candidates<u32> {
        let allowed = self.allowed(&query.filter);
        let keep = |id: u32| {
            let owner = self.owners.get(id as usize);
            allowed.as_ref().is_none_or(|allowed| owner.is_some_and(|id| allowed.binary_search(id).is_ok()))
        };
        let keep: Option<crate::top_k::Keep<'_>> = if allowed.is_some() { Some(&keep) } else { None };
        let bm25 = match query.method {
            Method::Dense => Vec::new(),
            Method::Bm25 | Method::Hybrid => self.bm25.search(query.text, depth, keep),
        };
        let vector = vector.filter(|_| query.method != Method::Bm25);
        let dense = vector.map_or_else(Vec::new, |vector| self.vectors.search(vector, depth, keep));
        Candidates { bm25, dense }
    }

    fn hit(&self, rank: usize, id: u32, score: f64, found: &Candidates<u32>) -> Option<Hit<'_>> {
        let chunk = self.chunk(ChunkId(id))?;
        let document = self.document(chunk.document)?;
        let place = |list: &[(u32, f32)]| list.iter().position(|&(other, _)| other == id);
        let (bm25, dense) = (place(&found.bm25), place(&found.dense));
        Some(Hit {
            rank,
            score,
            chunk,
            document,
            bm25_rank: bm25.map(|at| at + 1),
            dense_rank: dense.map(|at| at + 1),
            cosine: dense.map(|at| found.dense[at].1),
        })
    }

    /// The vector of a query; the embedder must be the base's own.
    pub fn embed_query(&self, text: &str, embedder: Option<&dyn Embedder>) -> Result<Vec<f32>> {
        let given = embedder.map(super::super::embed::Embedder::name);
        match embedder {
            Some(embedder) if given == self.embedder() => {
                let vectors = check_shape(embedder, embedder.embed_queries(&[text]), 1)?;
                Ok(vectors.into_iter().next().unwrap_or_default())
            }
            _ => Err(other_embedder(self.embedder(), given)),
        }
    }

    /// The vector of a chunk, if this base has vectors.
    pub(crate) fn vector(&self, id: ChunkId) -> Option<Vec<f32>> {
        self.vectors.vector(id.0)
    }

    /// The mean cosine of two chunks, from some of them; none without vectors or with fewer than two chunks.
    pub fn usual_cosine(&self) -> Option<f64> {
        let step = self.chunks.len().div_ceil(SAMPLE).max(1);
        let sample = self.chunks.iter().step_by(step).filter_map(|chunk| self.vector(chunk.id));
        let sample: Vec<Vec<f32>> = sample.collect();
        let pairs = sample.iter().enumerate().flat_map(|(at, a)| sample[..at].iter().map(move |b| (a, b)));
        let cosine = |(a, b): (&Vec<f32>, &Vec<f32>)| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let (sum, count) = pairs
            .map(cosine)
            .fold((0.0, 0usize), |(sum, count), cosine| (sum + f64::from(cosine), count + 1));
        (count > 0).then(|| sum / count as f64)
    }

    /// How rare each word of a query is in this base.
    pub fn rarity(&self, query: &str) -> Vec<(String, f32)> {
        self.bm25.rarity(query)
    }

    /// The documents a filter lets through, if it holds any back.
    fn allowed(&self, filter: &Filter) -> Option<Vec<DocumentId>> {
        if filter.is_empty() {
            return None;
        }
        let all = self.documents.iter().zip(&self.origins);
        let through = all.filter(|(document, origin)| filter.admits(document, &origin.metadata));
        Some(through.map(|(document, _)| document.id).collect())
    }
}

impl Filter {
    fn admits(&self, document: &Document, metadata: &Metadata) -> bool {
        self.matches(|name| match name {
            "path" => Some(document.path.clone()),
            "title" => Some(document.title.clone()),
            "kind" => serde_json::to_value(document.kind).ok()?.as_str().map(str::to_owned),
            _ => metadata.get(name).cloned(),
        })
    }
}

/// What the methods found, each list best first. `K` names a chunk.
#[derive(Debug, Clone)]
pub(crate) struct Candidates<K> {
    pub(crate) bm25: Vec<(K, f32)>,
    pub(crate) dense: Vec<(K, f32)>,
}

impl<K: Copy + Ord> Candidates<K> {
    /// One ranking, the best first; equal scores by key.
    pub(crate) fn fused(&self, method: Method, fusion: Fusion) -> Vec<(K, f64)> {
        match (method, fusion) {
            (Method::Bm25, _) => widen(&self.bm25),
            (Method::Dense, _) => widen(&self.dense),
            (Method::Hybrid, Fusion::ReciprocalRank) => fuse(&[&self.bm25, &self.dense]),
            (Method::Hybrid, Fusion::Weighted { dense: share }) => {
                weigh(&[(&self.bm25, 1.0 - share), (&self.dense, share)])
            }
        }
    }
}

fn widen<K: Copy>(found: &[(K, f32)]) -> Vec<(K, f64)> {
    found.iter().map(|&(id, score)| (id, f64::from(score))).collect()
}

/// Reciprocal rank fusion; equal scores by key.
pub(crate) fn fuse<K: Copy + Ord, S>(lists: &[&[(K, S)]]) -> Vec<(K, f64)> {
    let mut scores: BTreeMap<K, f64> = BTreeMap::new();
    for list in lists {
        for (index, (id, _)) in list.iter().enumerate() {
            *scores.entry(*id).or_default() += 1.0 / (RRF_K + index as f64 + 1.0);
        }
    }
    sorted(scores)
}

/// The sum of each list's scores, brought to 0 (its last) to 1 (its first), times its weight; equal scores by key.
pub(crate) fn weigh<K: Copy + Ord, S: Copy + Into<f64>>(lists: &[(&[(K, S)], f64)]) -> Vec<(K, f64)> {
    let mut scores: BTreeMap<K, f64> = BTreeMap::new();
    for (list, weight) in lists {
        let score = |hit: Option<&(K, S)>| hit.map_or(0.0, |hit| hit.1.into());
        let (best, worst) = (score(list.first()), score(list.last()));
        let width = (best - worst).max(1e-9);
        for &(id, score) in *list {
            let scaled = if list.len() == 1 { 1.0 } else { (score.into() - worst) / width };
            *scores.entry(id).or_default() += weight * scaled;
        }
    }
    sorted(scores)
}

fn sorted<K: Ord>(scores: BTreeMap<K, f64>) -> Vec<(K, f64)> {
    let mut fused: Vec<(K, f64)> = scores.into_iter().collect();
    fused.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    fused
}
