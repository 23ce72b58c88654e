//! What can go wrong with files: always with the path.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `source` carries the path and the operation (fs-err).
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("`{path}` isn't valid JSON: {reason}")]
    Json { path: PathBuf, reason: String },
    #[error(
        "another hearth process (pid {pid}) holds `{path}`; wait for it, or give this one its own HEARTH_HOME"
    )]
    Locked { path: PathBuf, pid: String },
    #[error("token shard `{path}` is damaged: {reason}; pack it anew, or restore it from a copy")]
    ShardDamaged { path: PathBuf, reason: String },
    #[error("`{path}` has format `{found}`, but hearth reads `{expected}`; pack it anew")]
    ShardFormat { path: PathBuf, found: u32, expected: u32 },
    #[error("document `{origin}` {problem}")]
    ShardDocument { origin: String, problem: String },
    #[error("`{path}` holds files already; name another folder, or empty this one")]
    FolderInUse { path: PathBuf },
    #[error("`{field}` is `{value}`, expected {expected}")]
    Packing { field: &'static str, value: u64, expected: &'static str },
    #[error("no home folder: set HEARTH_HOME to a folder hearth may write to")]
    NoHome,
}

pub type Result<T> = std::result::Result<T, Error>;
