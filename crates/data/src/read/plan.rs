//! Which files there are, and how they are shared out: shards of about equal input, the same for any number of threads.
//!
//! A large file of lines is cut at line ends, Parquet by its row groups; what is packed stays in one piece.

use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Input;
use crate::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    JsonLines,
    Json,
    Csv,
    Tsv,
    Parquet,
    Text,
    Markdown,
    Html,
    Warc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Packing {
    None,
    Gzip,
    Zstd,
}

#[derive(Debug, Clone)]
pub struct InputFile {
    pub path: PathBuf,
    /// Relative to the folder that was given; what rows call their origin.
    pub name: String,
    pub num_bytes: u64,
    pub(crate) kind: Kind,
    pub(crate) packing: Packing,
}

/// A part of a file that is read in one go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub(crate) file: usize,
    /// Bytes of a file of lines, or the row groups of a Parquet file.
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Lines or rows of the file before this piece.
    pub(crate) before: u64,
}

/// What one thread works on between two completion markers.
#[derive(Debug, Clone, Default)]
pub struct Shard {
    pub(crate) pieces: Vec<Piece>,
    pub num_bytes: u64,
}

#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub files: Vec<InputFile>,
    pub shards: Vec<Shard>,
    /// Files of a type that isn't read.
    pub skipped: Vec<String>,
    /// Files that can't even be looked at, where that is allowed; with the reason.
    pub damaged: Vec<(String, String)>,
}

/// The kind and packing a file name promises.
fn kind_of(path: &Path) -> Option<(Kind, Packing)> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let (name, packing) = if let Some(inner) = name.strip_suffix(".gz") {
        (inner, Packing::Gzip)
    } else if let Some(inner) = name.strip_suffix(".zst").or_else(|| name.strip_suffix(".zstd")) {
        (inner, Packing::Zstd)
    } else {
        (name.as_str(), Packing::None)
    };
    let kind = match name.rsplit_once('.')?.1 {
        "jsonl" | "ndjson" => Kind::JsonLines,
        "json" => Kind::Json,
        "csv" => Kind::Csv,
        "tsv" | "tab" => Kind::Tsv,
        "parquet" if packing == Packing::None => Kind::Parquet,
        "txt" | "text" | "rst" | "org" | "tex" | "log" | "adoc" => Kind::Text,
        "md" | "markdown" => Kind::Markdown,
        "html" | "htm" | "xhtml" => Kind::Html,
        "warc" | "wet" => Kind::Warc,
        _ => return None,
    };
    Some((kind, packing))
}

impl Plan {
    pub fn new(input: &Input) -> Result<Self> {
        let mut plan = Self::default();
        for path in &input.paths {
            plan.add(path)?;
        }
        if plan.files.is_empty() {
            return Err(Error::NoInput { path: input.paths.first().cloned().unwrap_or_default() });
        }
        let limit = input.read.shard_bytes.max(1 << 10);
        let mut shard = Shard::default();
        for at in 0..plan.files.len() {
            let pieces = match plan.pieces(at, limit) {
                Ok(pieces) => pieces,
                Err(Error::Damaged { reason, .. }) if input.read.allow_damaged => {
                    plan.damaged.push((plan.files[at].name.clone(), reason));
                    continue;
                }
                Err(error) => return Err(error),
            };
            for (piece, num_bytes) in pieces {
                if shard.num_bytes + num_bytes > limit && !shard.pieces.is_empty() {
                    plan.shards.push(std::mem::take(&mut shard));
                }
                shard.pieces.push(piece);
                shard.num_bytes += num_bytes;
            }
        }
        if !shard.pieces.is_empty() {
            plan.shards.push(shard);
        }
        Ok(plan)
    }

    pub fn num_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.num_bytes).sum()
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        if !path.exists() {
            return Err(Error::Missing { path: path.into() });
        }
        if path.is_dir() {
            return self.add_folder(path, path);
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Who names a file wants it read.
        let (kind, packing) = kind_of(path).unwrap_or((Kind::Text, Packing::None));
        self.push(path, name, kind, packing)
    }

    fn push(&mut self, path: &Path, name: String, kind: Kind, packing: Packing) -> Result<()> {
        let num_bytes = fs_err::metadata(path)?.len();
        self.files.push(InputFile { path: path.into(), name, num_bytes, kind, packing });
        Ok(())
    }

    fn add_folder(&mut self, root: &Path, folder: &Path) -> Result<()> {
        // A folder that a job wrote gives its rows and not its reports.
        let is_job = folder.join(crate::job::JOB_FILE).exists();
        if is_job && !folder.join(crate::job::SUMMARY_FILE).exists() {
            let verb = crate::job::verb_of(folder);
            return Err(Error::Unfinished { folder: folder.into(), verb });
        }
        let mut paths: Vec<PathBuf> = Vec::new();
        for entry in fs_err::read_dir(folder)? {
            paths.push(entry?.path());
        }
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_part = name.starts_with(crate::job::PART_PREFIX);
            if name.starts_with('.') || (is_job && !is_part) {
                continue;
            }
            if path.is_dir() {
                self.add_folder(root, &path)?;
                continue;
            }
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            match kind_of(&path) {
                Some((kind, packing)) => self.push(&path, name, kind, packing)?,
                None => self.skipped.push(name),
            }
        }
        Ok(())
    }

    /// The pieces of a file with their sizes.
    fn pieces(&self, at: usize, limit: u64) -> Result<Vec<(Piece, u64)>> {
        let file = &self.files[at];
        match (file.kind, file.packing) {
            (Kind::Parquet, _) => super::parquet::pieces(at, file),
            (Kind::JsonLines, Packing::None) if file.num_bytes > limit => line_pieces(at, file, limit),
            _ => Ok(vec![(Piece { file: at, start: 0, end: file.num_bytes, before: 0 }, file.num_bytes)]),
        }
    }
}

/// Cuts a file of lines behind the first line end after every `limit` bytes.
fn line_pieces(at: usize, file: &InputFile, limit: u64) -> Result<Vec<(Piece, u64)>> {
    let mut reader = fs_err::File::open(&file.path)?;
    reader.rewind()?;
    let mut buffer = vec![0; 1 << 20];
    let mut pieces = Vec::new();
    let (mut start, mut before, mut offset, mut num_lines) = (0u64, 0u64, 0u64, 0u64);
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        for end in memchr::memchr_iter(b'\n', &buffer[..read]) {
            num_lines += 1;
            let end = offset + end as u64 + 1;
            if end - start >= limit {
                pieces.push((Piece { file: at, start, end, before }, end - start));
                (start, before) = (end, num_lines);
            }
        }
        offset += read as u64;
    }
    if offset > start {
        pieces.push((Piece { file: at, start, end: offset, before }, offset - start));
    }
    Ok(pieces)
}
