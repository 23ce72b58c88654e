//! What can be wrong with a model.

use std::path::PathBuf;

use crate::config::Family;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    File(#[from] crate::files::Error),
    #[error(transparent)]
    Tokenizer(#[from] hearth_tokenizer::Error),
    #[error(transparent)]
    Artifact(#[from] hearth_artifacts::Error),
    #[error("model family `{name}` isn't supported yet; supported are {known}")]
    Family { name: String, known: String },
    #[error("{what}")]
    Config { what: String },
    #[error("tensor `{tensor}` has the shape {found:?}, expected {expected:?}")]
    Shape { tensor: String, found: Vec<usize>, expected: Vec<usize> },
    #[error(
        "tensor `{tensor}` isn't part of the family {family:?} as it is known here; without it results would be wrong"
    )]
    UnknownTensor { tensor: String, family: Family },
    #[error("tensor `{tensor}` holds values that aren't finite; the file is damaged")]
    NotFinite { tensor: String },
    #[error("`{path}` is neither a GGUF file nor a folder with config.json")]
    NotAModel { path: PathBuf },
    #[error("token id {id} isn't in the vocabulary of {vocab_size}")]
    TokenId { id: u32, vocab_size: usize },
    #[error("`{path}` is there already\nhint: {hint}")]
    Exists { path: PathBuf, hint: &'static str },
    #[error("{what}")]
    Unconvertible { what: String },
    #[error("tensor `{tensor}` holds {value}, more than {format} can\nhint: convert to f32 or bf16")]
    TooLarge { tensor: String, value: f32, format: &'static str },
    #[error("stopped; nothing was written")]
    Cancelled,
    #[error("adapter `{path}`: {what}")]
    Adapter { path: PathBuf, what: String },
}

pub type Result<T> = std::result::Result<T, Error>;
