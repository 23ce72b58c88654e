//! `hearth bench kb`: a knowledge base of made-up text filled, opened and searched, so that size alone counts.
//!
//! Words follow Zipf's law as they do in real text; vectors lie in clusters as those of embedders do.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use anyhow::Result;
use hearth_artifacts::progress::{Event, Progress, Silent, Unit};
use hearth_knowledge::document::{Block, BlockKind, Document, DocumentId, DocumentKind};
use hearth_knowledge::embed::Embedder;
use hearth_knowledge::knowledge_base::{FileState, KnowledgeBase, Metadata, Method};
use hearth_knowledge::retrieve::{Options, Source, retrieve};
use serde_json::json;

use super::Context;
use super::bench::peak_mib;
use super::bench_serve::percentiles;
use crate::args::KbBenchArgs;
use crate::random::Random;
use crate::up::knowledge_config;

/// Different words of the text.
const NUM_WORDS: u64 = 40_000;
/// Words of a chunk.
const CHUNK_WORDS: usize = 80;
/// Chunks of a document.
const DOCUMENT_CHUNKS: usize = 20;
/// Groups in which vectors lie.
const CLUSTERS: u64 = 256;

const STAGE: &str = "chunks";

pub(super) fn run(context: &Context, args: &KbBenchArgs) -> Result<()> {
    let folder = context.machine.home.cache().join(format!("bench-kb-{}", std::process::id()));
    let _ = fs_err::remove_dir_all(&folder);
    let measured = measure(context, args, &folder);
    let _ = fs_err::remove_dir_all(&folder);
    measured
}

fn measure(context: &Context, args: &KbBenchArgs, folder: &std::path::Path) -> Result<()> {
    let synthetic = Synthetic { dim: usize::from(args.dim) };
    let mut base = KnowledgeBase::create(folder, &knowledge_config(), Some(&synthetic))?;
    let progress: &dyn Progress = &context.terminal;
    progress.event(Event::Start { stage: STAGE, total: Some(u64::from(args.chunks)), unit: Unit::Items });
    let (num_chunks, start) = (args.chunks as usize, Instant::now());
    let mut random = Random(1);
    let mut writer = base.writer(Some(&synthetic), &Silent)?;
    for first in (0..num_chunks).step_by(DOCUMENT_CHUNKS) {
        if progress.cancelled() {
            anyhow::bail!("stopped; nothing is kept of a benchmark");
        }
        let count = DOCUMENT_CHUNKS.min(num_chunks - first);
        let document = document(first, count, &mut random);
        let path = document.path.clone();
        let (root, sha256) = (String::new(), String::new());
        let state = FileState { path, root, sha256, bytes: 0, modified: 0, skipped: None };
        writer.put(state, vec![document], &Metadata::new())?;
        progress.event(Event::Advance { stage: STAGE, done: (first + count) as u64 });
    }
    writer.finish()?;
    let seconds = start.elapsed().as_secs_f64();
    let chunks = base.chunks().len();
    progress.event(Event::Finish { stage: STAGE, summary: &format!("{chunks} in {seconds:.1} s") });
    let line = json!({ "what": "kb", "test": "add", "chunks": chunks, "seconds": seconds, "chunks_per_s": chunks as f64 / seconds });
    show(context, &line, &format!("add     {:.0} chunks a second", chunks as f64 / seconds));
    drop(base);
    let start = Instant::now();
    let base = KnowledgeBase::open(folder)?;
    let seconds = start.elapsed().as_secs_f64();
    let line = json!({ "what": "kb", "test": "open", "chunks": chunks, "seconds": seconds });
    show(context, &line, &format!("open    {seconds:.2} s"));
    for (name, method) in [("bm25", Method::Bm25), ("dense", Method::Dense), ("hybrid", Method::Hybrid)] {
        search(context, args, (&base, &synthetic), (name, method))?;
    }
    Ok(())
}

fn search(
    context: &Context,
    args: &KbBenchArgs,
    (base, synthetic): (&KnowledgeBase, &Synthetic),
    (name, method): (&str, Method),
) -> Result<()> {
    let mut random = Random(2);
    let options = Options::new(method, 10);
    let source = [Source { name: "bench", base, embedder: Some(synthetic) }];
    let mut milliseconds = Vec::with_capacity(args.queries as usize);
    for _ in 0..args.queries {
        let words: Vec<String> = (0..8).map(|_| word(&mut random)).collect();
        let query = words.join(" ");
        let start = Instant::now();
        retrieve(&[&query], &source, &options)?;
        milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let [p50, _, p99] = percentiles(milliseconds);
    let line = json!({
        "what": "kb", "test": name, "chunks": base.chunks().len(), "dim": args.dim, "queries": args.queries,
        "ms_p50": p50, "ms_p99": p99, "peak_mib": peak_mib(),
    });
    show(context, &line, &format!("{name:7} {p50:.2} ms median, {p99:.2} ms at the 99th percentile"));
    Ok(())
}

fn show(context: &Context, line: &serde_json::Value, text: &str) {
    if context.json { context.print_json(line) } else { context.print(text) }
}

fn document(first: usize, chunks: usize, random: &mut Random) -> Document {
    let blocks = (0..chunks).map(|index| {
        let words: Vec<String> = (0..CHUNK_WORDS).map(|_| word(random)).collect();
        Block::new(BlockKind::Paragraph, format!("{} part{}.", words.join(" "), first + index))
    });
    Document {
        id: DocumentId::default(),
        path: format!("{first}.txt"),
        title: String::new(),
        kind: DocumentKind::Text,
        blocks: blocks.collect(),
        notes: Vec::new(),
    }
}

/// The n-th word comes 1 / n times as often as the first.
fn word(random: &mut Random) -> String {
    let rank = (NUM_WORDS as f64).powf(random.unit()) as u64;
    format!("w{rank}")
}

/// Vectors by the hash of the text, around one of some centres.
struct Synthetic {
    dim: usize,
}

impl Synthetic {
    fn vectors(&self, texts: &[&str]) -> Vec<Vec<f32>> {
        let vector = |text: &&str| {
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            let mut own = Random(hasher.finish());
            let mut centre = Random(own.next() % CLUSTERS);
            let part = |random: &mut Random| (random.unit() - 0.5) as f32;
            (0..self.dim).map(|_| 0.3 + part(&mut centre) + 0.7 * part(&mut own)).collect()
        };
        texts.iter().map(vector).collect()
    }
}

impl Embedder for Synthetic {
    fn name(&self) -> &'static str {
        "synthetic"
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn embed_queries(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, String> {
        Ok(self.vectors(texts))
    }

    fn embed_passages(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, String> {
        Ok(self.vectors(texts))
    }

    fn count_tokens(&self, text: &str) -> usize {
        2 * text.split_whitespace().count()
    }
}
