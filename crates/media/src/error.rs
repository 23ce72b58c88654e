//! What can go wrong between a picture and its text.

use std::path::PathBuf;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{}` holds no text detector and recogniser in ONNX files (found {found})", path.display())]
    NoModel { path: PathBuf, found: String },
    #[error("`{}` isn't a model of the expected kind: {reason}", path.display())]
    BadModel { path: PathBuf, reason: String },
    #[error("the picture is said to be {width}x{height}, but comes with {bytes} bytes instead of {expected}")]
    PictureSize { width: u32, height: u32, bytes: usize, expected: u128 },
    /// The model gave values that are no numbers.
    #[error("the network gave a value that is no number at `{node}`")]
    NotANumber { node: String },
    #[error("`{node}` ({op}): {reason}")]
    Node { node: String, op: String, reason: String },
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
