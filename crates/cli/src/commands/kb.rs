//! `hearth kb create|search|eval`.

mod eval;

use std::path::PathBuf;

use anyhow::{Result, bail};
use hearth_knowledge::folder::read_folder;
use hearth_knowledge::knowledge_base::{KnowledgeBase, Method};
use serde_json::json;

use super::Context;
use crate::args::{KbCommand, KbCreateArgs, KbSearchArgs, SearchMethod};
use crate::up::knowledge_config;

pub(super) fn run(context: &Context, command: &KbCommand) -> Result<()> {
    match command {
        KbCommand::Create(args) => create(context, args),
        KbCommand::Search(args) => search(context, args),
        KbCommand::Eval(args) => eval::run(context, args),
    }
}

fn folder(context: &Context, name: &str) -> Result<PathBuf> {
    let plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        bail!("`{name}` can't name a knowledge base: use letters, digits, `-`, `_` and `.`");
    }
    Ok(context.machine.home.knowledge().join(name))
}

fn create(context: &Context, args: &KbCreateArgs) -> Result<()> {
    let folder = folder(context, &args.name)?;
    let corpus = read_folder(&args.folder, &context.terminal)?;
    let embedder = context.machine.embedder(&args.embedder, &context.terminal)?;
    let base = KnowledgeBase::build(&corpus, &knowledge_config(), &embedder, &context.terminal, &folder)?;
    let (documents, chunks) = (base.documents().len(), base.chunks().len());
    if context.json {
        context.print_json(&json!({ "name": args.name, "documents": documents, "chunks": chunks }));
    } else {
        context.print(&format!("{}: {documents} documents, {chunks} chunks", args.name));
    }
    Ok(())
}

fn open(context: &Context, name: &str) -> Result<KnowledgeBase> {
    let folder = folder(context, name)?;
    if !folder.is_dir() {
        bail!("no knowledge base is called `{name}`; make it with: hearth kb create {name} FOLDER");
    }
    Ok(KnowledgeBase::open(&folder)?)
}

impl From<SearchMethod> for Method {
    fn from(method: SearchMethod) -> Self {
        match method {
            SearchMethod::Bm25 => Self::Bm25,
            SearchMethod::Dense => Self::Dense,
            SearchMethod::Hybrid => Self::Hybrid,
        }
    }
}

fn search(context: &Context, args: &KbSearchArgs) -> Result<()> {
    let base = open(context, &args.name)?;
    let embedder = context.machine.embedder(&args.embedder, &context.terminal)?;
    for hit in base.search(&args.query, args.method.into(), args.k, &embedder)? {
        let (chunk, document) = (hit.chunk, hit.document);
        if context.json {
            context.print_json(&json!({
                "rank": hit.rank, "score": hit.score, "document": document.path, "chunk": chunk.id,
                "page": chunk.page, "headings": chunk.headings, "text": chunk.text,
            }));
        } else {
            let place = chunk.headings.last().map_or("", String::as_str);
            context.print(&format!(
                "{}. {:.4}  {} · {place}\n{}\n",
                hit.rank, hit.score, document.path, chunk.text
            ));
        }
    }
    Ok(())
}
