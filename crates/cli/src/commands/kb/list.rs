//! What is there: bases, documents, skipped files; and what a file would give.

use anyhow::{Result, bail};
use hearth_knowledge::chunk::{Chunk, chunk_corpus};
use hearth_knowledge::embed::Embedder;
use hearth_knowledge::folder::read_path;
use hearth_knowledge::knowledge_base::KnowledgeBase;
use serde_json::{Value, json};

use super::{Context, change, embedder, open};
use crate::args::{KbListArgs, KbPreviewArgs};
use crate::pictures::Pictures;

pub(super) fn run(context: &Context, args: &KbListArgs) -> Result<()> {
    match &args.name {
        Some(name) => documents(context, &open(context, name)?),
        None => {
            bases(context);
            Ok(())
        }
    }
}

fn bases(context: &Context) {
    let home = context.machine.home.knowledge();
    let mut folders: Vec<_> = match fs_err::read_dir(&home) {
        Ok(entries) => entries.filter_map(Result::ok).map(|entry| entry.path()).collect(),
        Err(_) => Vec::new(),
    };
    folders.sort();
    let mut lines = Vec::new();
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let line = match KnowledgeBase::open(folder) {
            Ok(base) => json!({
                "name": name, "documents": base.documents().len(), "chunks": base.chunks().len(),
                "embedder": base.embedder(),
            }),
            Err(error) => json!({ "name": name, "error": error.to_string() }),
        };
        lines.push(line);
    }
    for line in &lines {
        if context.json {
            context.print_json(line);
        } else if let Some(error) = line["error"].as_str() {
            context.print(&format!("{}: {error}", text(&line["name"])));
        } else {
            let embedder = line["embedder"].as_str().unwrap_or("words alone");
            let (name, documents) = (text(&line["name"]), &line["documents"]);
            context.print(&format!("{name}: {documents} documents, {} chunks, {embedder}", line["chunks"]));
        }
    }
    if lines.is_empty() && !context.json {
        context.print("no knowledge bases; make one with: hearth kb create NAME FOLDER");
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn documents(context: &Context, base: &KnowledgeBase) -> Result<()> {
    for document in base.documents() {
        let chunks = base.chunks().iter().filter(|chunk| chunk.document == document.id).count();
        let origin = base.origin(document.id);
        if context.json {
            context.print_json(&json!({
                "document": document.path, "title": document.title, "kind": document.kind,
                "pages": document.num_pages(), "chunks": chunks, "notes": document.notes,
                "file": origin.map(|origin| &origin.file), "metadata": origin.map(|origin| &origin.metadata),
            }));
        } else {
            context.print(&format!("{} · {} · {chunks} chunks", document.path, document.title));
        }
    }
    for file in base.files()? {
        let Some(reason) = file.skipped else { continue };
        if context.json {
            context.print_json(&json!({ "skipped": file.path, "reason": reason }));
        } else {
            context.print(&format!("skipped {}: {reason}", file.path));
        }
    }
    Ok(())
}

pub(super) fn preview(context: &Context, args: &KbPreviewArgs) -> Result<()> {
    if !args.path.exists() {
        bail!("`{}` isn't there", args.path.display());
    }
    let embedder = embedder(context, &args.embedder)?;
    let config = change::config(args.chunk, embedder.as_ref())?;
    let pictures = Pictures::new(&context.machine, &context.terminal);
    let corpus = read_path(&args.path, &pictures.options(), &context.terminal)?;
    let count = |text: &str| match &embedder {
        Some(embedder) => embedder.count_tokens(text),
        None => hearth_knowledge::words::plain_words(text).len(),
    };
    for chunk in chunk_corpus(&corpus, &config.chunk, &count) {
        let document = &corpus.documents[chunk.document.0 as usize];
        let Chunk { page, headings, range, text, num_tokens, .. } = &chunk;
        if context.json {
            context.print_json(&json!({
                "document": document.path, "page": page, "headings": headings,
                "range": [range.start, range.end], "tokens": num_tokens, "text": text,
            }));
        } else {
            let page = page.map(|page| format!(", p. {page}")).unwrap_or_default();
            let path = headings.join(" > ");
            context.print(&format!(
                "── {}{page} · {path} · {num_tokens} tokens, bytes {} to {}\n{text}\n",
                document.path, range.start, range.end
            ));
        }
    }
    Ok(())
}
