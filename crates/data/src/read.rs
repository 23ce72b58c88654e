//! Files and folders to rows: what is read, in which pieces, and what a row that can't be read becomes.
//!
//! * `plan` — which files there are, and how they are shared out as shards
//! * `source` — a file as bytes: unpacked, bounded, counted
//! * `shape` — a JSON object to a row: texts, and conversations of every common form
//! * a reader for each format: `json`, `table`, `parquet`, `text`, `html`, `warc`
//!
//! Nothing is dropped in silence: a row that can't be read is an [`Item::Rejected`] with its file, line and reason, and a
//! file that breaks off is an error unless `allow_damaged` is set. A reader holds one row at a time, and a row is bounded.

mod decode;
mod html;
mod json;
mod parquet;
mod plan;
mod shape;
mod source;
mod table;
mod text;
mod warc;

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;

use serde::{Deserialize, Serialize};

pub use self::html::main_text;
pub use self::plan::{InputFile, Piece, Plan, Shard};
use crate::row::{Origin, Row};
use crate::{Error, Result};

/// How files become rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadConfig {
    /// The field or column that holds the text; none for `text`, else `content`, `body` or `document`.
    pub text_field: Option<String>,
    /// The field or column that holds the row's id; rows without one are named by file and line.
    pub id_field: String,
    /// A longer row is set aside; a longer text file becomes several rows.
    pub max_row_bytes: u64,
    /// Input of a shard: what one thread works on between two completion markers.
    pub shard_bytes: u64,
    /// Go on behind a file that breaks off; its rows before the damage are kept, and the file is counted.
    pub allow_damaged: bool,
    /// Keep all text of HTML pages, and not only the main part.
    pub whole_pages: bool,
    /// The text is all strings of a row, one a line: for evaluation sets, whose fields have any names.
    pub all_strings: bool,
}

impl Default for ReadConfig {
    fn default() -> Self {
        Self {
            text_field: None,
            id_field: "id".into(),
            max_row_bytes: 32 << 20,
            shard_bytes: 32 << 20,
            allow_damaged: false,
            whole_pages: false,
            all_strings: false,
        }
    }
}

/// What a job reads.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// Files and folders, in this order; a folder's files come in the order of their names.
    pub paths: Vec<PathBuf>,
    pub read: ReadConfig,
}

impl Input {
    pub fn new<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Self {
        Self { paths: paths.into_iter().map(Into::into).collect(), read: ReadConfig::default() }
    }
}

/// A row that couldn't be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    #[serde(flatten)]
    pub origin: Origin,
    pub reason: String,
    /// How the row begins.
    pub sample: String,
}

impl Rejected {
    /// Characters of a sample.
    const SAMPLE_BYTES: usize = 200;

    pub(crate) fn new(origin: Origin, reason: impl Into<String>, bytes: &[u8]) -> Self {
        let start = &bytes[..bytes.len().min(Self::SAMPLE_BYTES)];
        Self { origin, reason: reason.into(), sample: String::from_utf8_lossy(start).into_owned() }
    }
}

/// What a reader gives.
#[derive(Debug)]
pub enum Item {
    Row(Box<Row>),
    Rejected(Rejected),
    /// A file that breaks off, where `allow_damaged` is set.
    Damaged {
        file: String,
        reason: String,
    },
}

/// Takes items, in order.
pub type Sink<'a> = dyn FnMut(Item) -> Result<()> + 'a;

/// Reads one shard. `read_bytes` is moved on as bytes of files are read, for progress.
pub fn read_shard(
    plan: &Plan,
    shard: &Shard,
    config: &ReadConfig,
    read_bytes: &AtomicU64,
    sink: &mut Sink<'_>,
) -> Result<()> {
    for piece in &shard.pieces {
        let file = &plan.files[piece.file];
        let context = Context { config, file, piece, read_bytes };
        match read_piece(&context, sink) {
            Err(Error::Damaged { reason, .. } | Error::Unreadable { reason, .. }) if config.allow_damaged => {
                sink(Item::Damaged { file: file.name.clone(), reason })?;
            }
            other => other?,
        }
    }
    Ok(())
}

/// What every reader is given.
#[derive(Debug, Clone, Copy)]
struct Context<'a> {
    config: &'a ReadConfig,
    file: &'a InputFile,
    piece: &'a Piece,
    read_bytes: &'a AtomicU64,
}

impl Context<'_> {
    fn damaged(&self, origin: &Origin, num_rows: u64, reason: impl std::fmt::Display) -> Error {
        let origin = format!("`{origin}` ({})", self.file.path.display());
        Error::Damaged { origin, num_rows, reason: reason.to_string() }
    }
}

fn read_piece(context: &Context<'_>, sink: &mut Sink<'_>) -> Result<()> {
    use plan::Kind;
    match context.file.kind {
        Kind::JsonLines => json::lines(context, sink),
        Kind::Json => json::values(context, sink),
        Kind::Csv => table::read(context, b',', sink),
        Kind::Tsv => table::read(context, b'\t', sink),
        Kind::Parquet => parquet::read(context, sink),
        Kind::Text => text::plain(context, sink),
        Kind::Markdown => text::markdown(context, sink),
        Kind::Html => text::page(context, sink),
        Kind::Warc => warc::read(context, sink),
    }
}

/// Reads all rows of files, one after the other: for small inputs such as evaluation sets.
pub fn read_all(input: &Input, sink: &mut Sink<'_>) -> Result<()> {
    let plan = Plan::new(input)?;
    let read_bytes = AtomicU64::new(0);
    plan.shards.iter().try_for_each(|shard| read_shard(&plan, shard, &input.read, &read_bytes, sink))
}

#[cfg(test)]
mod tests;
