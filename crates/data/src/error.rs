//! What can go wrong with data: always with the file, and with the line where there is one.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `source` carries the path and the operation (fs-err).
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Artifacts(#[from] hearth_artifacts::Error),
    #[error("`{path}` isn't there")]
    Missing { path: PathBuf },
    #[error(
        "`{path}` holds no file that is read; hearth reads text, Markdown, HTML, JSON, JSON Lines, CSV, Parquet and WARC, \
         plain or as .gz or .zst"
    )]
    NoInput { path: PathBuf },
    #[error("{} is damaged after {num_rows} rows: {reason}\nhint: `--allow-damaged` keeps the rows before the damage and counts the file", .origin)]
    Damaged { origin: String, num_rows: u64, reason: String },
    #[error("`{path}` isn't what it is named: {reason}")]
    Unreadable { path: PathBuf, reason: String },
    #[error(
        "`{folder}` holds a job that was begun with another `{field}`: `{old}`, now `{new}`\n\
         hint: give another output folder, or `--restart` to throw away what is there"
    )]
    ConfigChanged { folder: PathBuf, field: String, old: String, new: String },
    #[error("`{folder}` isn't empty and holds no job of hearth; give another output folder")]
    ForeignFolder { folder: PathBuf },
    #[error(
        "`{folder}` holds a job that isn't finished; run `hearth data {verb}` into it again to finish it"
    )]
    Unfinished { folder: PathBuf, verb: String },
    #[error("`{field}` is `{value}`: {expectation}")]
    Config { field: String, value: String, expectation: String },
    #[error("stopped; what is done lies in `{folder}`, and the same command goes on there")]
    Cancelled { folder: PathBuf },
    #[error("a worker ended with a panic in `{file}`: {reason}")]
    Panicked { file: String, reason: String },
}

pub type Result<T, E = Error> = std::result::Result<T, E>;
