//! `hearth kb`: knowledge bases made, changed, searched, asked and judged.

mod ask;
mod change;
mod eval;
mod find;
mod list;
mod web;

use std::path::PathBuf;

use anyhow::{Result, bail};
use hearth_knowledge::embed::Embedder;
use hearth_knowledge::knowledge_base::KnowledgeBase;

pub(super) use self::find::passage_json;
use super::Context;
use crate::args::KbCommand;
use crate::models::TextEmbedder;

pub(super) fn run(context: &Context, command: &KbCommand) -> Result<()> {
    match command {
        KbCommand::Create(args) => change::create(context, args),
        KbCommand::Add(args) => change::add(context, args),
        KbCommand::Remove(args) => change::remove(context, args),
        KbCommand::List(args) => list::run(context, args),
        KbCommand::Preview(args) => list::preview(context, args),
        KbCommand::Search(args) => find::search(context, args),
        KbCommand::Ask(args) => ask::run(context, args),
        KbCommand::Eval(args) => eval::run(context, args),
        KbCommand::Watch(args) => change::watch(context, args),
        KbCommand::ReEmbed(args) => change::re_embed(context, args),
        KbCommand::Export(args) => change::export(context, args),
        KbCommand::Import(args) => change::import(context, args),
        KbCommand::Delete(args) => change::delete(context, args),
    }
}

/// May a base be called so? The name becomes a folder.
pub(super) fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && !name.starts_with('.') && name.chars().all(plain)
}

fn folder(context: &Context, name: &str) -> Result<PathBuf> {
    if !is_name(name) {
        bail!("`{name}` can't name a knowledge base: use letters, digits, `-`, `_` and `.`");
    }
    Ok(context.machine.home.knowledge().join(name))
}

fn open(context: &Context, name: &str) -> Result<KnowledgeBase> {
    let folder = folder(context, name)?;
    if !folder.is_dir() {
        bail!("no knowledge base is called `{name}`; make it with: hearth kb create {name} FOLDER");
    }
    Ok(KnowledgeBase::open(&folder)?)
}

/// The embedder by what a user named it; none for `none`.
fn embedder(context: &Context, source: &str) -> Result<Option<TextEmbedder>> {
    match source {
        "none" => Ok(None),
        source => Ok(Some(context.machine.embedder(source, &context.terminal)?)),
    }
}

/// The embedder a base was made with.
fn embedder_of(context: &Context, base: &KnowledgeBase) -> Result<Option<TextEmbedder>> {
    embedder(context, base.embedder_source().unwrap_or("none"))
}

/// For functions that know embedders by what they do.
fn as_dyn(embedder: Option<&TextEmbedder>) -> Option<&dyn Embedder> {
    embedder.map(|embedder| embedder as &dyn Embedder)
}
