//! What can be wrong with a file of weights: always the path, the place, what was found and what was expected.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Carries the path and the operation (fs-err).
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("`{path}` isn't a GGUF file: it begins with {found:?} instead of \"GGUF\"")]
    NotGguf { path: PathBuf, found: String },
    #[error("`{path}` is GGUF version {version}; versions 2 and 3, little-endian, can be read")]
    Version { path: PathBuf, version: u32 },
    #[error(
        "`{path}` is cut short: {what} needs {expected} bytes, the file has {actual}\nhint: pull or copy the file again"
    )]
    Truncated { path: PathBuf, what: String, expected: u64, actual: u64 },
    #[error("`{path}` is damaged: {what} {problem}")]
    Malformed { path: PathBuf, what: String, problem: String },
    #[error(
        "`{path}`: tensor `{tensor}` is stored as {format}, which can't be read; readable are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K, IQ4_NL and IQ4_XS"
    )]
    UnsupportedFormat { path: PathBuf, tensor: String, format: String },
    #[error("`{path}` has no tensor `{tensor}`")]
    MissingTensor { path: PathBuf, tensor: String },
    #[error("`{path}` has no metadata key `{key}`")]
    MissingKey { path: PathBuf, key: String },
    #[error("`{path}`: metadata key `{key}` is {found}, expected {expected}")]
    KeyType { path: PathBuf, key: String, found: String, expected: &'static str },
    #[error("`{path}` isn't valid JSON: {reason}")]
    Json { path: PathBuf, reason: String },
    #[error("`{path}` holds no weights: expected `model.safetensors` or `model.safetensors.index.json`")]
    NoWeights { path: PathBuf },
}

pub type Result<T> = std::result::Result<T, Error>;
