//! A knowledge base: built from a corpus, kept in a folder, searched by words, by meaning, or both.
//!
//! Both is reciprocal rank fusion (Cormack, Clarke and Büttcher 2009): a chunk's score is the sum of 1 / (60 + rank) over
//! the methods that found it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use hearth_artifacts::hash::sha256;
use hearth_artifacts::home::Lock;
use hearth_artifacts::progress::{Event, Progress, Unit};
use serde::{Deserialize, Serialize};

use crate::bm25::Bm25Index;
use crate::chunk::{Chunk, ChunkConfig, ChunkId, chunk_corpus};
use crate::document::{Corpus, Document, DocumentId};
use crate::embed::Embedder;
use crate::error::{Error, Result};
use crate::store::{FORMAT_VERSION, Store};
use crate::vector::{VectorIndex, normalize};

/// The constant of the paper.
const RRF_K: f64 = 60.0;

/// How deep each method is asked before fusion.
const CANDIDATES: usize = 100;

const STAGE: &str = "embed";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    pub chunk: ChunkConfig,
    /// Passages embedded, and kept, at once.
    pub embed_batch: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    Bm25,
    Dense,
    Hybrid,
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
}

#[derive(Debug)]
pub struct KnowledgeBase {
    documents: Vec<Document>,
    chunks: Vec<Chunk>,
    bm25: Bm25Index,
    vectors: VectorIndex,
    corpus_hash: String,
    config: Config,
    embedder: String,
}

impl KnowledgeBase {
    /// Chunks and embeds the corpus and saves all under `folder`. A build that was stopped goes on where it was;
    /// until the new base is whole, the old one stays.
    pub fn build(
        corpus: &Corpus,
        config: &Config,
        embedder: &dyn Embedder,
        progress: &dyn Progress,
        folder: &Path,
    ) -> Result<Self> {
        let _lock = Lock::try_acquire(&folder.join("build.lock"))?;
        let chunks = chunk_corpus(corpus, &config.chunk, &|text| embedder.count_tokens(text));
        let passages: Vec<String> = chunks
            .iter()
            .map(|chunk| chunk.passage(&corpus.documents[chunk.document.0 as usize].title))
            .collect();
        let hashes: Vec<String> = passages.iter().map(|passage| sha256(passage.as_bytes())).collect();
        let mut store = Store::building(folder)?;
        let mut known = store.vectors(embedder.name(), embedder.dim())?;
        if let Ok(last) = Store::open(folder) {
            let before = last.vectors(embedder.name(), embedder.dim())?;
            keep_used(&mut store, &before, &hashes, embedder.name())?;
            known.extend(before);
        }
        let job = EmbedJob { embedder, progress, batch: config.embed_batch.max(1) };
        job.run(&passages, &hashes, &mut known, &mut store)?;
        let corpus_hash = corpus.hash();
        let settings = [
            ("format_version", FORMAT_VERSION.to_string()),
            ("corpus_hash", corpus_hash),
            ("config", serde_json::to_string(config).expect("numbers become JSON")),
            ("embedder", embedder.name().to_string()),
            ("dim", embedder.dim().to_string()),
        ];
        let rows: Vec<(String, &Chunk)> = hashes.into_iter().zip(&chunks).collect();
        store.finish(&settings, &corpus.documents, &rows)?;
        Self::open(folder)
    }

    /// Opens the base that was built under `folder`; BM25 is made anew from the chunks.
    pub fn open(folder: &Path) -> Result<Self> {
        let store = Store::open(folder)?;
        let damaged = |reason: &str| Error::Damaged { path: folder.into(), reason: reason.into() };
        let setting = |name: &str| {
            let value = store.setting(name)?;
            value.ok_or_else(|| damaged(&format!("setting `{name}` is missing")))
        };
        let embedder = setting("embedder")?;
        let dim = setting("dim")?.parse().map_err(|_| damaged("setting `dim` is no number"))?;
        let config = serde_json::from_str(&setting("config")?).map_err(|e| damaged(&e.to_string()))?;
        let documents = store.documents()?;
        let known = store.vectors(&embedder, dim)?;
        let (mut chunks, mut bm25) = (Vec::new(), Bm25Index::new());
        let mut vectors = VectorIndex::new(dim);
        for (hash, chunk) in store.chunks()? {
            let document = documents.get(chunk.document.0 as usize);
            let document = document.ok_or_else(|| damaged("a chunk's document is missing"))?;
            bm25.push(&chunk.passage(&document.title));
            let vector = known.get(&hash).ok_or_else(|| damaged("a chunk's vector is missing"))?;
            vectors.push(chunks.len() as u32, vector);
            chunks.push(chunk);
        }
        Ok(Self { documents, chunks, bm25, vectors, corpus_hash: setting("corpus_hash")?, config, embedder })
    }

    /// True if building again from these would give this base.
    pub fn is_current(&self, corpus_hash: &str, config: &Config, embedder: &str) -> bool {
        // How many are embedded at once changes nothing in the result.
        self.corpus_hash == corpus_hash && self.config.chunk == config.chunk && self.embedder == embedder
    }

    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    pub fn document(&self, id: DocumentId) -> Option<&Document> {
        self.documents.get(id.0 as usize)
    }

    pub fn chunk(&self, id: ChunkId) -> Option<&Chunk> {
        self.chunks.get(id.0 as usize)
    }

    /// The name of the embedder whose vectors this base holds.
    pub fn embedder(&self) -> &str {
        &self.embedder
    }

    /// The `k` best chunks for a query, the best first.
    pub fn search(
        &self,
        query: &str,
        method: Method,
        k: usize,
        embedder: &dyn Embedder,
    ) -> Result<Vec<Hit<'_>>> {
        let depth = if method == Method::Hybrid { k.max(CANDIDATES) } else { k };
        let bm25 = match method {
            Method::Dense => Vec::new(),
            Method::Bm25 | Method::Hybrid => self.bm25.search(query, depth),
        };
        let dense = match method {
            Method::Bm25 => Vec::new(),
            Method::Dense | Method::Hybrid => self.search_dense(query, depth, embedder)?,
        };
        let bm25_ranks = ranks(&bm25);
        let dense_ranks = ranks(&dense);
        let scored: Vec<(u32, f64)> = match method {
            Method::Bm25 => widen(&bm25),
            Method::Dense => widen(&dense),
            Method::Hybrid => fuse(&[&bm25, &dense]),
        };
        let hits = scored.into_iter().take(k).enumerate().map(|(index, (id, score))| {
            let chunk = &self.chunks[id as usize];
            Hit {
                rank: index + 1,
                score,
                chunk,
                document: &self.documents[chunk.document.0 as usize],
                bm25_rank: bm25_ranks.get(&id).copied(),
                dense_rank: dense_ranks.get(&id).copied(),
            }
        });
        Ok(hits.collect())
    }

    fn search_dense(&self, query: &str, k: usize, embedder: &dyn Embedder) -> Result<Vec<(u32, f32)>> {
        if embedder.name() != self.embedder {
            return Err(Error::OtherEmbedder {
                built_with: self.embedder.clone(),
                given: embedder.name().into(),
            });
        }
        let vectors = check_shape(embedder, embedder.embed_queries(&[query]), 1)?;
        Ok(self.vectors.search(&vectors[0], k, None))
    }
}

/// Copies what the last base knows into the one being built, so that the rename loses nothing.
fn keep_used(
    store: &mut Store,
    before: &HashMap<String, Vec<f32>>,
    hashes: &[String],
    embedder: &str,
) -> Result<()> {
    let used = hashes.iter().filter_map(|hash| Some((hash.as_str(), before.get(hash)?.as_slice())));
    let used: Vec<(&str, &[f32])> = used.collect();
    store.add_vectors(embedder, &used)
}

struct EmbedJob<'a> {
    embedder: &'a dyn Embedder,
    progress: &'a dyn Progress,
    batch: usize,
}

impl EmbedJob<'_> {
    /// Embeds what isn't known, the shortest first: passages of one length make full batches.
    fn run(
        &self,
        passages: &[String],
        hashes: &[String],
        known: &mut HashMap<String, Vec<f32>>,
        store: &mut Store,
    ) -> Result<()> {
        let mut missing: BTreeMap<(usize, &str), &str> = BTreeMap::new();
        for (passage, hash) in passages.iter().zip(hashes) {
            if !known.contains_key(hash) {
                missing.insert((passage.len(), hash), passage);
            }
        }
        let missing: Vec<(&str, &str)> =
            missing.into_iter().map(|((_, hash), passage)| (hash, passage)).collect();
        let reused = passages.len() - missing.len();
        self.progress.event(Event::Start {
            stage: STAGE,
            total: Some(passages.len() as u64),
            unit: Unit::Items,
        });
        let mut done = reused as u64;
        for batch in missing.chunks(self.batch) {
            if self.progress.cancelled() {
                return Err(Error::Cancelled);
            }
            let texts: Vec<&str> = batch.iter().map(|(_, passage)| *passage).collect();
            let made = self.embedder.embed_passages(&texts);
            let mut vectors = check_shape(self.embedder, made, texts.len())?;
            for vector in &mut vectors {
                normalize(vector);
            }
            let rows = batch.iter().zip(&vectors).map(|((hash, _), vector)| (*hash, vector.as_slice()));
            let rows: Vec<(&str, &[f32])> = rows.collect();
            store.add_vectors(self.embedder.name(), &rows)?;
            for ((hash, _), vector) in batch.iter().zip(vectors) {
                known.insert((*hash).to_string(), vector);
            }
            done += batch.len() as u64;
            self.progress.event(Event::Advance { stage: STAGE, done });
        }
        let summary = format!("{} chunks, {reused} of them known before", passages.len());
        self.progress.event(Event::Finish { stage: STAGE, summary: &summary });
        Ok(())
    }
}

/// An embedder that gives the wrong number, length or kind of values must not spoil an index.
fn check_shape(
    embedder: &dyn Embedder,
    made: Result<Vec<Vec<f32>>, String>,
    expected: usize,
) -> Result<Vec<Vec<f32>>> {
    let vectors = made.map_err(|reason| Error::Embed { embedder: embedder.name().into(), reason })?;
    let dim = embedder.dim();
    let wrong = vectors.iter().find(|vector| vector.len() != dim || vector.iter().any(|x| !x.is_finite()));
    if vectors.len() == expected && wrong.is_none() {
        return Ok(vectors);
    }
    Err(Error::EmbedShape {
        embedder: embedder.name().into(),
        got: match wrong {
            Some(vector) => format!("a vector of {} values, some perhaps not finite", vector.len()),
            None => format!("{} vectors", vectors.len()),
        },
        expected: format!("{expected} finite vectors of {dim} values"),
    })
}

fn ranks(found: &[(u32, f32)]) -> HashMap<u32, usize> {
    found.iter().enumerate().map(|(index, &(id, _))| (id, index + 1)).collect()
}

fn widen(found: &[(u32, f32)]) -> Vec<(u32, f64)> {
    found.iter().map(|&(id, score)| (id, f64::from(score))).collect()
}

/// Reciprocal rank fusion; equal scores by id.
fn fuse(lists: &[&[(u32, f32)]]) -> Vec<(u32, f64)> {
    let mut scores: BTreeMap<u32, f64> = BTreeMap::new();
    for list in lists {
        for (index, &(id, _)) in list.iter().enumerate() {
            *scores.entry(id).or_default() += 1.0 / (RRF_K + index as f64 + 1.0);
        }
    }
    let mut fused: Vec<(u32, f64)> = scores.into_iter().collect();
    fused.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    fused
}

#[cfg(test)]
mod tests;
