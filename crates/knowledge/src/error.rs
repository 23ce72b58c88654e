//! What can go wrong between a folder of documents and a cited answer.
//!
//! A file that cannot be read is no [`Error`]: it is a `Skipped` entry with an [`ExtractError`] as its reason.

use std::path::PathBuf;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{}` isn't a folder", path.display())]
    NotAFolder { path: PathBuf },
    #[error(
        "`{}` holds no document that can be read ({skipped} files skipped); \
         hearth reads {readable}{first}", path.display()
    )]
    NoDocuments {
        path: PathBuf,
        skipped: usize,
        readable: &'static str,
        /// The first skipped file with its reason, or nothing.
        first: String,
    },
    #[error("`{}` can't be read: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: ExtractError },
    #[error("embedder `{embedder}`: {reason}")]
    Embed { embedder: String, reason: String },
    #[error("the knowledge base was built with embedder `{built_with}`, the query uses `{given}`")]
    OtherEmbedder { built_with: String, given: String },
    #[error("embedder `{embedder}` gave {got} where {expected} was expected")]
    EmbedShape { embedder: String, got: String, expected: String },
    #[error("reranker `{reranker}`: {reason}")]
    Rerank { reranker: String, reason: String },
    #[error("`{}` has format version {found}, this hearth reads {supported}", path.display())]
    Format { path: PathBuf, found: String, supported: u32 },
    #[error("`{}` holds no knowledge base", path.display())]
    Missing { path: PathBuf },
    #[error("`{}` is there already", path.display())]
    Exists { path: PathBuf },
    #[error("`{filter}` is no filter: `{part}` should be `name=value` or `name!=value`")]
    Filter { filter: String, part: String },
    #[error("`{}`: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("`{}` line {line}: {reason}", path.display())]
    Question { path: PathBuf, line: usize, reason: String },
    #[error(
        "`{}` line {line}: `source` is `{source_name}`, but the documents are {}",
        path.display(), documents.join(", ")
    )]
    UnknownSource { path: PathBuf, line: usize, source_name: String, documents: Vec<String> },
    #[error("stopped; what was done is kept and the next start goes on from there")]
    Cancelled,
    #[error("`{}`: {source}", path.display())]
    Sqlite { path: PathBuf, source: rusqlite::Error },
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Artifacts(#[from] hearth_artifacts::Error),
}

/// Why one file gave no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExtractError {
    #[error("hidden file")]
    Hidden,
    #[error("unknown type `{extension}`")]
    UnknownType { extension: String },
    #[error("a link to a folder or file outside the folder")]
    Link,
    #[error("{bytes} bytes, more than the limit of {limit}")]
    TooLarge { bytes: u64, limit: u64 },
    #[error("unpacks to more than {limit} bytes (a compression bomb?)")]
    Bomb { limit: u64 },
    #[error("holds {count} objects, more than the limit of {limit}")]
    TooManyObjects { count: usize, limit: usize },
    #[error("protected by a password")]
    Encrypted,
    #[error("no text inside")]
    NoText,
    #[error("pages without text: probably scanned pictures, and there is no reader of pictures (OCR)")]
    Scan,
    #[error("a picture, and there is no reader of pictures (OCR)")]
    Picture,
    #[error("the reader of pictures failed: {reason}")]
    PictureReader { reason: String },
    #[error("its fonts don't say which characters they show ({unknown} of {total} unknown)")]
    UnknownCharacters { unknown: usize, total: usize },
    #[error("binary data, not text")]
    Binary,
    #[error("damaged: {reason}")]
    Damaged { reason: String },
    #[error("the reader failed on this file: {reason}")]
    Panicked { reason: String },
    #[error("can't be opened: {reason}")]
    Unreadable { reason: String },
}

impl ExtractError {
    pub(crate) fn damaged(reason: impl std::fmt::Display) -> Self {
        Self::Damaged { reason: reason.to_string() }
    }
}
