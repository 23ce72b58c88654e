//! Weights on disk, read where they lie: files are mapped into memory and handed out as slices.
//!
//! In: a path. Out: tensors by name, metadata, a tokenizer's vocabulary. A file may be cut short or made to
//! harm: every count, length and offset is checked before it is used, nothing is allocated from a number that
//! the file's own size doesn't back, and the error names the file and the place.
//!
//! * [`gguf`] — one file with everything in it
//! * [`safetensors`] — a folder with `config.json` and `*.safetensors`
//! * [`vocabulary`] — the tokenizer inside a GGUF file

mod error;
pub mod gguf;
pub mod safetensors;
pub mod vocabulary;

pub use error::{Error, Result};
pub use gguf::GgufFile;
pub use safetensors::SafetensorsFolder;

use hearth_kernels::quant::Format;

/// A tensor's bytes as they lie in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorView<'a> {
    /// Row-major: `[rows, cols]` for a matrix, `[len]` for a vector.
    pub shape: Vec<usize>,
    pub format: Format,
    /// Exactly the blocks that `shape` and `format` ask for. Not aligned to anything.
    pub bytes: &'a [u8],
}

impl TensorView<'_> {
    pub fn num_elements(&self) -> usize {
        // A dimension of 0 leaves the others unchecked: their product may not fit.
        if self.shape.contains(&0) { 0 } else { self.shape.iter().product() }
    }

    /// All weights as f32.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.num_elements()];
        hearth_kernels::quant::dequantize(self.format, self.bytes, &mut out);
        out
    }
}

/// The bytes of `shape` in `format`; `None` on overflow or when a row isn't a whole number of blocks.
fn tensor_bytes(shape: &[usize], format: Format) -> Option<usize> {
    let (cols, outer) = shape.split_last()?;
    if !cols.is_multiple_of(format.block_len()) {
        return None;
    }
    let row = (cols / format.block_len()).checked_mul(format.block_bytes())?;
    outer.iter().try_fold(row, |bytes, &dim| bytes.checked_mul(dim))
}
