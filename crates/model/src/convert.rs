//! A model on disk to another model on disk: GGUF to Hugging Face folder, back, and into fewer bits.
//!
//! In: a GGUF file or a folder. Out: the other kind, or the same with its weights in other formats. Tensors stream
//! through in pieces, so memory stays at a few megabytes whatever the model's size; the target appears when it is
//! whole. What has no place in the target is an error or a note, never dropped in silence.
//!
//! * `names` — what a family's tensors are called on the other side
//! * `shape` — `config.json` to metadata keys, and back; `rope` — a stretched RoPE that is a tensor in GGUF files
//! * `tokenizer` — `tokenizer.json` to `tokenizer.ggml.*`, and back
//! * `merge` — rows that an adapter changes on the way
//! * `mix` — which format each tensor gets; [`importance`] — which columns count more
//! * `plan` — all of that for one model; `stream` — the weights themselves

pub mod importance;
mod merge;
mod mix;
mod names;
mod plan;
mod rope;
mod shape;
mod stream;
mod tokenizer;

use std::path::Path;

use hearth_artifacts::atomic::PartialFolder;
use hearth_artifacts::progress::{Event, Progress, Unit};
use hearth_kernels::pool::Pool;
use hearth_kernels::quant::Format;

use crate::error::{Error, Result};
use crate::files::gguf::sink::GgufSink;
use crate::files::safetensors::sink::{SHARD_BYTES, SafetensorsSink};
use crate::files::{GgufFile, SafetensorsFolder};
pub use crate::lora::Merged;
use importance::Importance;
use merge::Places;
pub use mix::Mix;
pub(crate) use names::source_row;
use plan::{Plan, Source};
use stream::Sink;

/// What becomes of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As they are; a folder, which can't hold quantised weights, gets those as F16.
    Keep,
    /// All matrices in F32, F16 or BF16.
    Dense(Format),
    /// Quantised; GGUF only.
    Mix(Mix),
}

/// How to write a model.
#[derive(Debug)]
pub struct Options<'a> {
    pub encoding: Encoding,
    pub importance: Option<&'a Importance>,
    /// An adapter of the source to be made part of the weights.
    pub merged: Option<&'a Merged<'a>>,
    /// Take the place of a file that is there already.
    pub overwrite: bool,
    /// Bytes of a safetensors file at most.
    pub shard_bytes: usize,
}

impl Default for Options<'_> {
    fn default() -> Self {
        let (importance, merged) = (None, None);
        Self { encoding: Encoding::Keep, importance, merged, overwrite: false, shard_bytes: SHARD_BYTES }
    }
}

/// A tensor that was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    pub name: String,
    pub from: Format,
    pub to: Format,
    pub num_bytes: usize,
    /// Root mean square of the error over that of the weights; 0 where every weight is what it was.
    pub relative_error: f64,
}

/// What came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// In the order of the file.
    pub tensors: Vec<Written>,
    /// What the user should know: keys or tensors left behind, fallbacks.
    pub notes: Vec<String>,
}

impl Summary {
    pub fn num_bytes(&self) -> usize {
        self.tensors.iter().map(|tensor| tensor.num_bytes).sum()
    }

    /// Whether every weight is what it was.
    pub fn is_lossless(&self) -> bool {
        self.tensors.iter().all(|tensor| tensor.relative_error == 0.0)
    }

    /// Number of tensors and their bytes by format, in the order of [`Format::ALL`].
    pub fn by_format(&self) -> Vec<(Format, usize, usize)> {
        let of = |format| {
            let tensors = self.tensors.iter().filter(|tensor| tensor.to == format);
            tensors.fold((format, 0, 0), |(format, count, bytes), tensor| {
                (format, count + 1, bytes + tensor.num_bytes)
            })
        };
        Format::ALL.into_iter().map(of).filter(|(_, count, _)| *count > 0).collect()
    }
}

/// Writes `source` (GGUF file or folder) as `target`: a GGUF file if its name ends in `.gguf`, else a folder.
pub fn convert(
    source: &Path,
    target: &Path,
    options: &Options<'_>,
    pool: &Pool,
    progress: &dyn Progress,
) -> Result<Summary> {
    check_target(source, target, options.overwrite)?;
    let source = match source.is_dir() {
        true => Source::Folder(SafetensorsFolder::open(source)?),
        false => Source::Gguf(GgufFile::open(source)?),
    };
    let to_gguf = is_gguf(target);
    let plan = Plan::new(&source, to_gguf, options)?;
    let places = options.merged.map(|merged| Places::new(merged, &source, &plan)).transpose()?;
    let stage = match options.encoding {
        _ if places.is_some() => "merge",
        Encoding::Mix(_) => "quantize",
        Encoding::Keep | Encoding::Dense(_) => "convert",
    };
    let read = plan.tensors.iter().filter(|tensor| tensor.made.is_none());
    let total = read.map(|tensor| source.num_bytes(tensor)).sum::<Result<u64>>()?;
    progress.event(Event::Start { stage, total: Some(total), unit: Unit::Bytes });
    for note in &plan.notes {
        progress.event(Event::Note { stage, text: note });
    }
    let mut stage = Stage { name: stage, pool, progress, done: 0, places: places.as_ref() };
    let tensors = match to_gguf {
        true => write_file(&source, &plan, target, options, &mut stage)?,
        false => write_folder(&source, &plan, target, options, &mut stage)?,
    };
    let stage = stage.name;
    let summary = Summary { tensors, notes: plan.notes };
    let megabytes = summary.num_bytes() as f64 / 1e6;
    let text = format!("{} tensors, {megabytes:.1} MB", summary.tensors.len());
    progress.event(Event::Finish { stage, summary: &text });
    Ok(summary)
}

/// What the work is done with, and how far it is.
struct Stage<'a> {
    name: &'a str,
    pool: &'a Pool,
    progress: &'a dyn Progress,
    /// Bytes of the source that are through.
    done: u64,
    /// What an adapter changes.
    places: Option<&'a Places<'a>>,
}

impl Stage<'_> {
    /// Counts bytes of the source; an error once the user asked to stop.
    fn advance(&mut self, num_bytes: usize) -> Result<()> {
        self.done += num_bytes as u64;
        self.progress.event(Event::Advance { stage: self.name, done: self.done });
        if self.progress.cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// Whether `convert` may write there: an error says what is in the way.
pub fn check_target(source: &Path, target: &Path, overwrite: bool) -> Result<()> {
    if source == target {
        return Err(Error::Exists { path: target.into(), hint: "source and target are the same" });
    }
    if target.is_dir() {
        let is_empty = fs_err::read_dir(target).map_err(crate::files::Error::from)?.next().is_none();
        let hint = "a folder is never replaced: remove it, or name another";
        return if is_empty { Ok(()) } else { Err(Error::Exists { path: target.into(), hint }) };
    }
    if target.exists() && !overwrite {
        let hint = "name another, or give `--overwrite`";
        return Err(Error::Exists { path: target.into(), hint });
    }
    Ok(())
}

fn write_file(
    source: &Source,
    plan: &Plan,
    target: &Path,
    options: &Options<'_>,
    stage: &mut Stage<'_>,
) -> Result<Vec<Written>> {
    let mut sink = Sink::Gguf(GgufSink::create(target, &plan.metadata, &plan.entries())?);
    let written = stream::write_all(source, plan, options.importance, &mut sink, stage)?;
    sink.finish()?;
    Ok(written)
}

fn write_folder(
    source: &Source,
    plan: &Plan,
    target: &Path,
    options: &Options<'_>,
    stage: &mut Stage<'_>,
) -> Result<Vec<Written>> {
    let folder = PartialFolder::create(target)?;
    for (name, bytes) in &plan.files {
        hearth_artifacts::atomic::write(&folder.inside().join(name), bytes)?;
    }
    let sink = SafetensorsSink::create(&folder.inside(), &plan.entries(), options.shard_bytes)?;
    let mut sink = Sink::Folder(sink);
    let written = stream::write_all(source, plan, None, &mut sink, stage)?;
    sink.finish()?;
    folder.commit()?;
    Ok(written)
}
