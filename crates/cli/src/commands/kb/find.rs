//! Passages found, in one base or several.

use anyhow::{Result, bail};
use hearth_knowledge::embed::Reranker;
use hearth_knowledge::evidence::{evidence, signs};
use hearth_knowledge::filter::Filter;
use hearth_knowledge::knowledge_base::{Fusion, KnowledgeBase, Method};
use hearth_knowledge::retrieve::{self, Options, Passage, Rerank, Source, Stage, retrieve};
use serde_json::{Value, json};

use super::{Context, as_dyn, embedder_of, open};
use crate::args::{ContextArg, FindArgs, KbSearchArgs, SearchMethod};
use crate::models::TextEmbedder;
use crate::rerank;

/// Bases with the embedders their vectors were made by.
pub(super) struct Bases {
    named: Vec<(String, KnowledgeBase)>,
    /// For each base the place of its embedder.
    places: Vec<Option<usize>>,
    embedders: Vec<TextEmbedder>,
}

impl Bases {
    /// Opens bases by their names, with commas between; each embedder is loaded once, and only if it is asked.
    pub(super) fn open(context: &Context, names: &str, with_embedders: bool) -> Result<Self> {
        let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
        let mut all = Self { named: Vec::new(), places: Vec::new(), embedders: Vec::new() };
        for name in names {
            if all.named.iter().any(|(other, _)| other == name) {
                bail!("`{name}` is named twice");
            }
            let base = open(context, name)?;
            let same = all.named.iter().position(|(_, other)| other.embedder() == base.embedder());
            let place = match (same, with_embedders) {
                (Some(at), _) => all.places[at],
                (None, false) => None,
                (None, true) => embedder_of(context, &base)?.map(|embedder| {
                    all.embedders.push(embedder);
                    all.embedders.len() - 1
                }),
            };
            all.places.push(place);
            all.named.push((name.to_owned(), base));
        }
        if all.named.is_empty() {
            bail!("no knowledge base is named");
        }
        Ok(all)
    }

    pub(super) fn sources(&self) -> Vec<Source<'_>> {
        let embedder = |place: &Option<usize>| place.map(|at| &self.embedders[at]);
        let all = self.named.iter().zip(&self.places);
        all.map(|((name, base), place)| Source { name, base, embedder: as_dyn(embedder(place)) }).collect()
    }

    pub(super) fn have_vectors(&self) -> bool {
        self.named.iter().any(|(_, base)| base.embedder().is_some())
    }

    /// The method that these bases can serve: by words alone where no base has vectors and none was asked for.
    pub(super) fn method(&self, asked: SearchMethod) -> SearchMethod {
        if asked == SearchMethod::Hybrid && !self.have_vectors() { SearchMethod::Bm25 } else { asked }
    }
}

/// What a search does, but for the reranker.
pub(super) fn options<'a>(
    args: &FindArgs,
    method: SearchMethod,
    k: usize,
    reranker: Option<&'a dyn Reranker>,
) -> Result<Options<'a>> {
    if let Some(share) = args.dense_share.filter(|share| !(0.0..=1.0).contains(share)) {
        bail!("`--dense-share` is {share}, it should be from 0 to 1");
    }
    if k == 0 {
        bail!("`-k` is 0: at least 1 passage is needed");
    }
    Ok(Options {
        fusion: match (args.by_ranks, args.dense_share) {
            (true, _) => Fusion::ReciprocalRank,
            (false, Some(dense)) => Fusion::Weighted { dense },
            (false, None) => Fusion::default(),
        },
        filter: Filter::parse(&args.filter)?,
        context: match args.context {
            ContextArg::Chunk => retrieve::Context::Chunk,
            ContextArg::Neighbours => retrieve::Context::Neighbours,
            ContextArg::Section => retrieve::Context::Section,
        },
        max_tokens: args.max_passage_tokens.unwrap_or(usize::MAX),
        drop_duplicates: !args.keep_duplicates,
        rerank: match (method, reranker) {
            (SearchMethod::Rerank, Some(reranker)) => Rerank::Model(reranker),
            (SearchMethod::Rerank, None) => Rerank::Clusters,
            _ => Rerank::Off,
        },
        ..Options::new(first_method(method), k)
    })
}

/// The model that reranks, where one is asked for.
pub(super) fn reranker(
    context: &Context,
    args: &FindArgs,
    method: SearchMethod,
) -> Result<Option<Box<dyn Reranker>>> {
    match &args.reranker {
        Some(name) if method == SearchMethod::Rerank => Ok(Some(rerank::load(context, name)?)),
        _ => Ok(None),
    }
}

/// What finds the candidates.
pub(super) fn first_method(method: SearchMethod) -> Method {
    match method {
        SearchMethod::Bm25 => Method::Bm25,
        SearchMethod::Dense => Method::Dense,
        SearchMethod::Hybrid | SearchMethod::Rerank => Method::Hybrid,
    }
}

pub(super) fn search(context: &Context, args: &KbSearchArgs) -> Result<()> {
    let bases = Bases::open(context, &args.name, args.method != SearchMethod::Bm25)?;
    let method = bases.method(args.method);
    let reranker = reranker(context, &args.find, method)?;
    let options = options(&args.find, method, args.k, reranker.as_deref())?;
    let sources = bases.sources();
    let found = retrieve(&[&args.query], &sources, &options)?;
    for (index, passage) in found.passages.iter().enumerate() {
        if context.json {
            context.print_json(&passage_json(index + 1, passage));
        } else {
            let place = passage.chunk.headings.last().map_or("", String::as_str);
            let (path, text) = (&passage.document.path, &passage.chunk.text);
            context.print(&format!("{}. {:.4}  {path} · {place}\n{text}\n", index + 1, passage.score));
        }
    }
    if args.trace {
        let signs = signs(&args.query, &found.passages, &sources);
        match context.json {
            true => context.print_json(&json!({
                "trace": found.trace, "evidence": evidence(signs),
                "signs": { "words": signs.words, "cosine": signs.cosine },
            })),
            false => context.print(&format!("evidence {:.2}; {}", evidence(signs), shown(&found.trace))),
        }
    }
    Ok(())
}

pub(in crate::commands) fn passage_json(rank: usize, passage: &Passage<'_>) -> Value {
    let chunk = &passage.chunk;
    json!({
        "rank": rank, "score": passage.score, "document": passage.document.path, "chunk": chunk.id,
        "page": chunk.page, "text": chunk.text, "title": passage.document.title, "headings": chunk.headings,
        "range": [chunk.range.start, chunk.range.end], "base": passage.base, "bm25_rank": passage.bm25_rank,
        "dense_rank": passage.dense_rank, "cosine": passage.cosine, "rerank": passage.rerank,
    })
}

pub(super) fn shown(trace: &[Stage]) -> String {
    let stage = |stage: &Stage| format!("{} {:.1} ms → {}", stage.stage, stage.milliseconds, stage.left);
    trace.iter().map(stage).collect::<Vec<_>>().join(", ")
}
