//! Bases made, filled, emptied, watched, moved and deleted.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hearth_artifacts::progress::Progress;
use hearth_knowledge::chunk::ChunkConfig;
use hearth_knowledge::document::Skipped;
use hearth_knowledge::ingest::{self, Options, Report};
use hearth_knowledge::knowledge_base::{Changes, Config, KnowledgeBase, Metadata, Writer};
use serde_json::json;

use super::{Context, as_dyn, embedder, embedder_of, folder, open, web};
use crate::args::{
    ChunkArgs, KbAddArgs, KbCreateArgs, KbNameArgs, KbReEmbedArgs, KbRemoveArgs, KbTransferArgs, KbWatchArgs,
};
use crate::models::TextEmbedder;
use crate::pictures::Pictures;

/// Passages embedded, and kept, at once.
const EMBED_BATCH: usize = 16;

/// How documents are cut for this embedder: never larger than it reads.
pub(super) fn config(args: ChunkArgs, embedder: Option<&TextEmbedder>) -> Result<Config> {
    let max_tokens =
        embedder.map_or(args.max_tokens, |embedder| args.max_tokens.min(embedder.max_passage_tokens()));
    if args.target_tokens == 0 || max_tokens < 8 {
        bail!(
            "`--target-tokens` is {}, `--max-tokens` {}: chunks need at least 1 and 8",
            args.target_tokens,
            args.max_tokens
        );
    }
    let target_tokens = args.target_tokens.min(max_tokens);
    Ok(Config { chunk: ChunkConfig { target_tokens, max_tokens }, embed_batch: EMBED_BATCH })
}

pub(super) fn create(context: &Context, args: &KbCreateArgs) -> Result<()> {
    let folder = folder(context, &args.name)?;
    if let Some(path) = args.folder.as_ref().filter(|path| !path.exists()) {
        bail!("`{}` isn't there", path.display());
    }
    let embedder = embedder(context, &args.embedder)?;
    let config = config(args.chunk, embedder.as_ref())?;
    let mut base = KnowledgeBase::create(&folder, &config, as_dyn(embedder.as_ref())).with_context(|| {
        format!("hint: `hearth kb add {0} PATH` adds to a base, `hearth kb delete {0}` deletes it", args.name)
    })?;
    let paths: Vec<PathBuf> = args.folder.iter().cloned().collect();
    let pictures = Pictures::new(&context.machine, &context.terminal);
    let options = Options { extract: pictures.options(), ..Options::default() };
    let done = put(context, &mut base, embedder.as_ref(), &paths, &options)?;
    report(context, &args.name, &base, &done);
    Ok(())
}

pub(super) fn add(context: &Context, args: &KbAddArgs) -> Result<()> {
    let mut base = open(context, &args.name)?;
    let named: Vec<PathBuf> = match &args.urls {
        Some(file) => web::list(file)?.into_iter().map(PathBuf::from).collect(),
        None => Vec::new(),
    };
    let paths: Vec<PathBuf> = args.paths.iter().cloned().chain(named).collect();
    let missing = paths.iter().find(|path| url(path).is_none() && !path.exists());
    if let Some(path) = missing {
        bail!("`{}` isn't there", path.display());
    }
    let embedder = embedder_of(context, &base)?;
    let pictures = Pictures::new(&context.machine, &context.terminal);
    let (metadata, prune) = (metadata(&args.meta)?, args.prune);
    let options = Options { metadata, prune, extract: pictures.options() };
    let done = put(context, &mut base, embedder.as_ref(), &paths, &options)?;
    report(context, &args.name, &base, &done);
    let read = done.changes.added + done.changes.changed + done.changes.unchanged + done.report.unchanged;
    if read == 0 && !done.report.skipped.is_empty() {
        let first = &done.report.skipped[0];
        bail!("nothing could be read; `{}`: {}", first.path.display(), first.reason);
    }
    Ok(())
}

fn metadata(pairs: &[String]) -> Result<Metadata> {
    let pair = |pair: &String| {
        let (name, value) = pair
            .split_once('=')
            .filter(|(name, _)| !name.trim().is_empty())
            .with_context(|| format!("`--meta {pair}` should be `NAME=VALUE`"))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    pairs.iter().map(pair).collect()
}

struct Done {
    changes: Changes,
    report: Report,
    seconds: f64,
}

fn put(
    context: &Context,
    base: &mut KnowledgeBase,
    embedder: Option<&TextEmbedder>,
    paths: &[PathBuf],
    options: &Options<'_>,
) -> Result<Done> {
    let start = Instant::now();
    let progress: &dyn Progress = &context.terminal;
    let mut writer = base.writer(as_dyn(embedder), progress)?;
    let mut report = Report::default();
    for path in paths {
        if let Some(url) = url(path) {
            report.files += 1;
            match page(&mut writer, url, options) {
                Ok(new) => report.unchanged += usize::from(!new),
                Err(error) => {
                    let reason = format!("{error:#}");
                    context.terminal.say(&format!("skipped {url}: {reason}"));
                    report.skipped.push(Skipped { path: path.clone(), reason });
                }
            }
            continue;
        }
        let of_path = ingest::add_path(&mut writer, path, options, progress)
            .with_context(|| format!("`{}` can't be added", path.display()))?;
        report.files += of_path.files;
        report.unchanged += of_path.unchanged;
        report.skipped.extend(of_path.skipped);
    }
    let changes = writer.finish()?;
    Ok(Done { changes, report, seconds: start.elapsed().as_secs_f64() })
}

/// The address, if it is one.
fn url(path: &Path) -> Option<&str> {
    path.to_str().filter(|text| web::is_url(text))
}

fn page(writer: &mut Writer<'_>, url: &str, options: &Options<'_>) -> Result<bool> {
    let page = web::fetch(url)?;
    Ok(ingest::add_bytes(writer, url, (page.kind, &page.bytes), options)?)
}

fn report(context: &Context, name: &str, base: &KnowledgeBase, done: &Done) {
    let (documents, chunks) = (base.documents().len(), base.chunks().len());
    let Changes { added, changed, unchanged, removed, .. } = done.changes;
    let unchanged = unchanged + done.report.unchanged;
    if context.json {
        let skipped = done.report.skipped.iter();
        let skipped: Vec<_> =
            skipped.map(|file| json!({ "path": file.path, "reason": file.reason })).collect();
        return context.print_json(&json!({
            "name": name, "documents": documents, "chunks": chunks, "added": added, "changed": changed,
            "unchanged": unchanged, "removed": removed, "skipped": skipped, "seconds": done.seconds,
        }));
    }
    context.print(&format!(
        "{name}: {documents} documents, {chunks} chunks ({added} added, {changed} changed, {removed} removed, {unchanged} unchanged; {} files skipped)",
        done.report.skipped.len()
    ));
}

pub(super) fn remove(context: &Context, args: &KbRemoveArgs) -> Result<()> {
    let mut base = open(context, &args.name)?;
    let embedder = embedder_of(context, &base)?;
    let mut writer = base.writer(as_dyn(embedder.as_ref()), &context.terminal)?;
    let mut unknown = Vec::new();
    for path in &args.paths {
        if !writer.remove(path)? {
            unknown.push(path.as_str());
        }
    }
    let changes = writer.finish()?;
    report(context, &args.name, &base, &Done { changes, report: Report::default(), seconds: 0.0 });
    if !unknown.is_empty() {
        bail!("not in `{}`: {}; `hearth kb list {0}` shows what is", args.name, unknown.join(", "));
    }
    Ok(())
}

/// Looks again and again; a change that can't be taken over now is tried again at the next look.
pub(super) fn watch(context: &Context, args: &KbWatchArgs) -> Result<()> {
    let mut base = open(context, &args.name)?;
    let embedder = embedder_of(context, &base)?;
    let progress: &dyn Progress = &context.terminal;
    let pictures = Pictures::new(&context.machine, progress);
    let options = Options { prune: true, extract: pictures.options(), ..Options::default() };
    loop {
        let mut writer = base.writer(as_dyn(embedder.as_ref()), &hearth_artifacts::progress::Silent)?;
        let mut all = Report::default();
        for path in &args.paths {
            let quiet = Quiet(progress);
            let of_path = ingest::add_path(&mut writer, path, &options, &quiet)
                .with_context(|| format!("`{}` can't be watched", path.display()))?;
            all.files += of_path.files;
            all.unchanged += of_path.unchanged;
            all.skipped.extend(of_path.skipped);
        }
        let changes = writer.finish()?;
        if args.once || (changes.added, changes.changed, changes.removed) != (0, 0, 0) {
            report(context, &args.name, &base, &Done { changes, report: all, seconds: 0.0 });
        }
        let until = Instant::now() + Duration::from_secs(args.every.max(1));
        while Instant::now() < until && !args.once && !progress.cancelled() {
            std::thread::park_timeout(Duration::from_millis(50));
        }
        if args.once || progress.cancelled() {
            return Ok(());
        }
    }
}

/// Asks whether to stop, and says nothing.
struct Quiet<'a>(&'a dyn Progress);

impl Progress for Quiet<'_> {
    fn event(&self, _event: hearth_artifacts::progress::Event<'_>) {}

    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

pub(super) fn re_embed(context: &Context, args: &KbReEmbedArgs) -> Result<()> {
    let mut base = open(context, &args.name)?;
    let Some(embedder) = embedder(context, &args.embedder)? else {
        bail!("`--embedder none` makes no vectors");
    };
    let largest = base.chunks().iter().map(|chunk| chunk.num_tokens).max().unwrap_or(0);
    base.re_embed(&embedder, &context.terminal).with_context(|| {
        format!(
            "chunks have {largest} tokens at most, `{}` reads {}",
            args.embedder,
            embedder.max_passage_tokens()
        )
    })?;
    let line = json!({ "name": args.name, "embedder": base.embedder(), "chunks": base.chunks().len() });
    if context.json {
        context.print_json(&line);
    } else {
        let chunks = base.chunks().len();
        context.print(&format!("{}: {chunks} chunks by {}", args.name, base.embedder().unwrap_or_default()));
    }
    Ok(())
}

pub(super) fn export(context: &Context, args: &KbTransferArgs) -> Result<()> {
    let base = open(context, &args.name)?;
    base.export(&args.file)?;
    let bytes = fs_err::metadata(&args.file)?.len();
    moved(context, &args.name, &base, &args.file, bytes);
    Ok(())
}

pub(super) fn import(context: &Context, args: &KbTransferArgs) -> Result<()> {
    let base = KnowledgeBase::import(&args.file, &folder(context, &args.name)?)?;
    let bytes = fs_err::metadata(&args.file)?.len();
    moved(context, &args.name, &base, &args.file, bytes);
    Ok(())
}

fn moved(context: &Context, name: &str, base: &KnowledgeBase, file: &Path, bytes: u64) {
    let (documents, chunks) = (base.documents().len(), base.chunks().len());
    if context.json {
        context.print_json(&json!({
            "name": name, "file": file, "bytes": bytes, "documents": documents, "chunks": chunks,
        }));
    } else {
        let mib = bytes as f64 / f64::from(1 << 20);
        context.print(&format!(
            "{name}: {documents} documents, {chunks} chunks; `{}` has {mib:.1} MiB",
            file.display()
        ));
    }
}

pub(super) fn delete(context: &Context, args: &KbNameArgs) -> Result<()> {
    let folder = folder(context, &args.name)?;
    if !folder.is_dir() {
        bail!("no knowledge base is called `{}`", args.name);
    }
    // Another process that writes it keeps it.
    let lock = hearth_artifacts::home::Lock::try_acquire(&folder.join("build.lock"))?;
    fs_err::remove_dir_all(&folder)?;
    drop(lock);
    if context.json {
        context.print_json(&json!({ "deleted": args.name }));
    } else {
        context.print(&format!("deleted {}", args.name));
    }
    Ok(())
}
