//! What an encoder's weights are asked for, whatever the file they lie in.

use std::sync::Arc;

use hearth_kernels::quant::Format;

use super::error::Result;
use crate::files::{self, SafetensorsFolder};

/// A tensor by its place in the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Words,
    Positions,
    Types,
    EmbeddingNorm,
    Layer(usize, LayerPart),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LayerPart {
    Query,
    Key,
    Value,
    AttentionOutput,
    AttentionNorm,
    Intermediate,
    Output,
    OutputNorm,
}

/// The numbers of a BERT encoder, spelt as in its `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Config {
    pub(super) hidden_size: usize,
    pub(super) num_layers: usize,
    pub(super) num_heads: usize,
    pub(super) intermediate_size: usize,
    /// Rows of the word table: at least as many as there are pieces.
    pub(super) vocab_size: usize,
    /// Rows of the position table.
    pub(super) max_position_embeddings: usize,
    pub(super) type_vocab_size: usize,
    pub(super) layer_norm_eps: f32,
    /// The row of a text's first token: `RoBERTa`'s tables begin behind the padding token.
    pub(super) first_position: usize,
    /// Tokens of a text at most.
    pub(super) max_tokens: usize,
    pub(super) pooling: Pooling,
}

/// How a text's vector is made of its tokens'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pooling {
    /// Their mean.
    Mean,
    /// The first token's.
    First,
}

/// A file or folder that holds an encoder's tensors.
pub(super) trait Tensors {
    fn config(&self) -> &Config;

    /// The stored bytes of a matrix.
    fn matrix(&mut self, place: Place, rows: usize, cols: usize) -> Result<(Format, Vec<u8>)>;

    /// A table whose rows are read one at a time.
    fn table(&mut self, place: Place, rows: usize, cols: usize) -> Result<Table>;

    /// A norm's weight, or a table that is needed whole.
    fn vector(&mut self, place: Place, len: usize) -> Result<Vec<f32>>;

    fn bias(&mut self, place: Place, len: usize) -> Result<Vec<f32>>;

    /// An error about a tensor of this file.
    fn malformed(&self, place: Place, problem: String) -> files::Error;
}

/// Rows of a table: in memory, or in a mapped file of which a text touches a few rows.
pub(super) enum Table {
    Held { format: Format, bytes: Vec<u8> },
    Mapped { folder: Arc<SafetensorsFolder>, name: String },
}

impl Table {
    /// The format and the bytes of all rows.
    pub(super) fn rows(&self) -> (Format, &[u8]) {
        match self {
            Self::Held { format, bytes } => (*format, bytes),
            Self::Mapped { folder, name } => {
                let view = folder.tensor(name).expect("checked when it was opened");
                (view.format, view.bytes)
            }
        }
    }
}
