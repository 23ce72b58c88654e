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
    #[error("no home folder: set HEARTH_HOME to a folder hearth may write to")]
    NoHome,
}

pub type Result<T> = std::result::Result<T, Error>;
