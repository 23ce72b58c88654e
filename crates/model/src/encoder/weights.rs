//! An encoder's weights in memory: matrices packed for the products, everything else dense.

use hearth_kernels::matmul::fine::{FineMatrix, matmul_fine};
use hearth_kernels::matmul::{PackedMatrix, matmul};
use hearth_kernels::pool::Pool;
use hearth_kernels::quant::{self, Format};
use hearth_tokenizer::TokenId;

use super::error::Result;
use super::tensors::{Config, LayerPart, Place, Table, Tensors};

#[derive(Debug)]
pub(super) enum Matrix {
    /// As the file has it.
    Packed(PackedMatrix),
    /// Dense in the file: rounded to twelve bits, which moves a vector's cosine by less than 1e-5 (LOG.md).
    Fine(FineMatrix),
}

impl Matrix {
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Packed(weight) => weight.rows(),
            Self::Fine(weight) => weight.rows(),
        }
    }

    pub(super) fn cols(&self) -> usize {
        match self {
            Self::Packed(weight) => weight.cols(),
            Self::Fine(weight) => weight.cols(),
        }
    }

    /// `y = x Wᵀ`.
    pub(super) fn multiply(&self, pool: &Pool, x: &[f32], y: &mut [f32]) {
        match self {
            Self::Packed(weight) => matmul(pool, x, weight, y),
            Self::Fine(weight) => matmul_fine(pool, x, weight, y),
        }
    }
}

/// `y = x Wᵀ + bias`.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) weight: Matrix,
    pub(super) bias: Vec<f32>,
}

#[derive(Debug)]
pub(super) struct LayerNorm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

#[derive(Debug)]
pub(super) struct Layer {
    /// Queries, keys and values in one product.
    pub(super) qkv: Linear,
    pub(super) attention_output: Linear,
    pub(super) attention_norm: LayerNorm,
    pub(super) intermediate: Linear,
    pub(super) output: Linear,
    pub(super) output_norm: LayerNorm,
}

/// The tables a token's first activations come from.
pub(super) struct Embeddings {
    /// Rows as they are stored: three quarters of a multilingual model, of which a text needs a few rows.
    word: Table,
    /// `[max_position_embeddings, C]`, the type embedding (always type 0) added.
    position: Vec<f32>,
    pub(super) norm: LayerNorm,
}

impl std::fmt::Debug for Embeddings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (format, bytes) = self.word.rows();
        write!(f, "Embeddings({format:?}, {} bytes)", bytes.len())
    }
}

impl Embeddings {
    /// Word + position + type embedding of one token.
    pub(super) fn row(&self, id: TokenId, position: usize, out: &mut [f32]) {
        let hidden_size = out.len();
        let (format, words) = self.word.rows();
        let row_bytes = format.row_bytes(hidden_size).expect("checked when it was read");
        let word = &words[id as usize * row_bytes..][..row_bytes];
        quant::dequantize(format, word, out);
        let position = &self.position[position * hidden_size..][..hidden_size];
        out.iter_mut().zip(position).for_each(|(out, position)| *out += position);
    }
}

#[derive(Debug)]
pub(super) struct Weights {
    pub(super) config: Config,
    pub(super) embeddings: Embeddings,
    pub(super) layers: Vec<Layer>,
}

impl Weights {
    pub(super) fn read(tensors: &mut dyn Tensors) -> Result<Self> {
        let config = tensors.config().clone();
        let embeddings = read_embeddings(tensors)?;
        let mut layers = Vec::new();
        for index in 0..config.num_layers {
            layers.push(read_layer(tensors, index)?);
        }
        Ok(Self { config, embeddings, layers })
    }
}

fn read_embeddings(tensors: &mut dyn Tensors) -> Result<Embeddings> {
    let config = tensors.config().clone();
    let hidden_size = config.hidden_size;
    let word = tensors.table(Place::Words, config.vocab_size, hidden_size)?;
    let mut position =
        tensors.vector(Place::Positions, config.max_position_embeddings.saturating_mul(hidden_size))?;
    let types = tensors.vector(Place::Types, config.type_vocab_size.saturating_mul(hidden_size))?;
    for row in position.chunks_exact_mut(hidden_size) {
        row.iter_mut().zip(&types).for_each(|(value, first_type)| *value += first_type);
    }
    let norm = read_norm(tensors, Place::EmbeddingNorm)?;
    Ok(Embeddings { word, position, norm })
}

fn read_layer(tensors: &mut dyn Tensors, index: usize) -> Result<Layer> {
    let Config { hidden_size, intermediate_size, .. } = *tensors.config();
    let place = |part| Place::Layer(index, part);
    Ok(Layer {
        qkv: read_qkv(tensors, index)?,
        attention_output: read_linear(tensors, place(LayerPart::AttentionOutput), hidden_size, hidden_size)?,
        attention_norm: read_norm(tensors, place(LayerPart::AttentionNorm))?,
        intermediate: read_linear(tensors, place(LayerPart::Intermediate), intermediate_size, hidden_size)?,
        output: read_linear(tensors, place(LayerPart::Output), hidden_size, intermediate_size)?,
        output_norm: read_norm(tensors, place(LayerPart::OutputNorm))?,
    })
}

fn read_qkv(tensors: &mut dyn Tensors, index: usize) -> Result<Linear> {
    let hidden_size = tensors.config().hidden_size;
    let place = |part| Place::Layer(index, part);
    let (format, mut bytes) = tensors.matrix(place(LayerPart::Query), hidden_size, hidden_size)?;
    let mut bias = tensors.bias(place(LayerPart::Query), hidden_size)?;
    for part in [LayerPart::Key, LayerPart::Value] {
        let (part_format, part_bytes) = tensors.matrix(place(part), hidden_size, hidden_size)?;
        if part_format != format {
            let problem = format!("is stored as {part_format:?}, but the query's as {format:?}");
            return Err(tensors.malformed(place(part), problem).into());
        }
        bytes.extend(part_bytes);
        bias.extend(tensors.bias(place(part), hidden_size)?);
    }
    Ok(Linear { weight: packed(format, 3 * hidden_size, hidden_size, &bytes), bias })
}

fn read_linear(tensors: &mut dyn Tensors, place: Place, rows: usize, cols: usize) -> Result<Linear> {
    let (format, bytes) = tensors.matrix(place, rows, cols)?;
    let weight = packed(format, rows, cols, &bytes);
    Ok(Linear { weight, bias: tensors.bias(place, rows)? })
}

/// Dense weights as 12-bit integers where their shape allows it, everything else as it is stored.
fn packed(format: Format, rows: usize, cols: usize, bytes: &[u8]) -> Matrix {
    if matches!(format, Format::F32 | Format::F16 | Format::BF16) {
        let mut values = vec![0.0; rows * cols];
        quant::dequantize(format, bytes, &mut values);
        if let Some(fine) = FineMatrix::from_f32(rows, cols, &values) {
            return Matrix::Fine(fine);
        }
    }
    Matrix::Packed(PackedMatrix::from_blocks(format, rows, cols, bytes))
}

fn read_norm(tensors: &mut dyn Tensors, place: Place) -> Result<LayerNorm> {
    let hidden_size = tensors.config().hidden_size;
    Ok(LayerNorm { weight: tensors.vector(place, hidden_size)?, bias: tensors.bias(place, hidden_size)? })
}
