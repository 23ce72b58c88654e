//! What can go wrong between a file and a text's vector.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    File(#[from] crate::files::Error),
    #[error("`{path}` holds a vocabulary that can't be used: {source}")]
    Tokenizer {
        path: PathBuf,
        #[source]
        source: hearth_tokenizer::Error,
    },
    #[error(
        "encoder `{encoder}` gives text {text_index} a vector that isn't finite, so its weights are damaged\nhint: pull or copy the file again"
    )]
    NotFinite { encoder: String, text_index: usize },
}

pub type Result<T> = std::result::Result<T, Error>;
