//! An encoder's weights in memory: matrices packed for the products, everything else dense.

use hearth_kernels::matmul::PackedMatrix;
use hearth_kernels::quant::{self, Format};
use hearth_tokenizer::TokenId;

use super::container::{Config, Container};
use super::error::Result;

/// `y = x Wᵀ + bias`.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) weight: PackedMatrix,
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
    format: Format,
    /// Rows as they are stored: three quarters of the file, of which a text needs a few rows.
    word: Vec<u8>,
    /// `[max_position_embeddings, C]`, the type embedding (always type 0) added.
    position: Vec<f32>,
    pub(super) norm: LayerNorm,
}

impl std::fmt::Debug for Embeddings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Embeddings({:?}, {} bytes)", self.format, self.word.len())
    }
}

impl Embeddings {
    /// Word + position + type embedding of one token.
    pub(super) fn row(&self, id: TokenId, position: usize, out: &mut [f32]) {
        let hidden_size = out.len();
        let row_bytes = self.format.row_bytes(hidden_size).expect("checked when it was read");
        let word = &self.word[id as usize * row_bytes..][..row_bytes];
        quant::dequantize(self.format, word, out);
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
    pub(super) fn read(container: &mut Container) -> Result<Self> {
        let config = container.config.clone();
        let embeddings = read_embeddings(container)?;
        let mut layers = Vec::new();
        for index in 0..config.num_layers {
            layers.push(read_layer(container, index)?);
        }
        Ok(Self { config, embeddings, layers })
    }
}

fn read_embeddings(container: &mut Container) -> Result<Embeddings> {
    let config = container.config.clone();
    let hidden_size = config.hidden_size;
    let (format, word) = container.matrix("emb.word", config.vocab_size, hidden_size)?;
    let mut position =
        container.vector("emb.pos", config.max_position_embeddings.saturating_mul(hidden_size))?;
    let types = container.vector("emb.type", config.type_vocab_size.saturating_mul(hidden_size))?;
    for row in position.chunks_exact_mut(hidden_size) {
        row.iter_mut().zip(&types).for_each(|(value, first_type)| *value += first_type);
    }
    let norm = read_norm(container, "emb.ln")?;
    Ok(Embeddings { format, word, position, norm })
}

fn read_layer(container: &mut Container, index: usize) -> Result<Layer> {
    let Config { hidden_size, intermediate_size, .. } = container.config;
    let name = |part: &str| format!("l{index}.{part}");
    Ok(Layer {
        qkv: read_qkv(container, index)?,
        attention_output: read_linear(container, &name("ao"), hidden_size, hidden_size)?,
        attention_norm: read_norm(container, &name("aln"))?,
        intermediate: read_linear(container, &name("fi"), intermediate_size, hidden_size)?,
        output: read_linear(container, &name("fo"), hidden_size, intermediate_size)?,
        output_norm: read_norm(container, &name("oln"))?,
    })
}

fn read_qkv(container: &mut Container, index: usize) -> Result<Linear> {
    let hidden_size = container.config.hidden_size;
    let (format, mut bytes) = container.matrix(&format!("l{index}.q.w"), hidden_size, hidden_size)?;
    let mut bias = container.vector(&format!("l{index}.q.b"), hidden_size)?;
    for part in ["k", "v"] {
        let name = format!("l{index}.{part}.w");
        let (part_format, part_bytes) = container.matrix(&name, hidden_size, hidden_size)?;
        if part_format != format {
            let problem = format!("is stored as {part_format:?}, but `l{index}.q.w` as {format:?}");
            return Err(container.malformed(&format!("tensor `{name}`"), problem).into());
        }
        bytes.extend(part_bytes);
        bias.extend(container.vector(&format!("l{index}.{part}.b"), hidden_size)?);
    }
    let weight = PackedMatrix::from_blocks(format, 3 * hidden_size, hidden_size, &bytes);
    Ok(Linear { weight, bias })
}

fn read_linear(container: &mut Container, name: &str, rows: usize, cols: usize) -> Result<Linear> {
    let (format, bytes) = container.matrix(&format!("{name}.w"), rows, cols)?;
    let weight = PackedMatrix::from_blocks(format, rows, cols, &bytes);
    Ok(Linear { weight, bias: container.vector(&format!("{name}.b"), rows)? })
}

fn read_norm(container: &mut Container, name: &str) -> Result<LayerNorm> {
    let hidden_size = container.config.hidden_size;
    Ok(LayerNorm {
        weight: container.vector(&format!("{name}.w"), hidden_size)?,
        bias: container.vector(&format!("{name}.b"), hidden_size)?,
    })
}
