//! The operations a model's forward pass is written in: coarse, so that each can be one fast kernel.
//!
//! B sequences are laid one after the other: a value is `[T, C]` where T counts the tokens of all
//! sequences in the batch. Only attention knows which rows belong together.

use std::sync::Arc;

pub use hearth_kernels::attention::KvType;
use hearth_kernels::rope;
pub use hearth_kernels::routing::Routing;

use crate::weight::{Linear, Param};

/// What attention needs to know about one layer (GQA: several query heads share a key head).
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionSpec {
    /// Which layer's keys and values to extend.
    pub layer_index: usize,
    pub num_heads: usize,
    pub num_kv_heads: usize,
    pub head_dim: usize,
    /// Factor on q·k before the softmax, usually `1/sqrt(head_dim)`.
    pub scale: f32,
    /// How pairs of channels are rotated.
    pub rope: Rope,
    /// How many positions a row sees, its own included; without one, all up to its own.
    pub window: Option<usize>,
    /// Scores become `cap·tanh(score / cap)`.
    pub soft_cap: Option<f32>,
    pub kv: KvOptions,
}

/// How keys and values are kept and how many of them are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KvOptions {
    pub kv_type: KvType,
    /// Each row looks at this many pages of 64 positions at most, chosen by its query (Quest, Tang et al. 2024).
    /// Training looks at all.
    pub sparse_pages: Option<usize>,
}

/// Rotary position embedding (Su et al. 2021).
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Radians a position, of each pair of channels. With fewer than D/2 the channels behind them stay as they are.
    pub frequencies: Arc<[f64]>,
    /// Factor on the rotated channels; 1 but for `YaRN`.
    pub magnitude: f32,
    /// Pairs (2i, 2i+1) as GGUF's llama family stores them, or (i, i + pairs) as Hugging Face does.
    pub interleaved: bool,
}

impl Rope {
    /// Over `rotary_dim` channels, `theta^(-2i/rotary_dim)` radians a position for pair i.
    pub fn new(theta: f32, rotary_dim: usize, interleaved: bool) -> Self {
        let frequencies = rope::frequencies(theta, rotary_dim).into();
        Self { frequencies, magnitude: 1.0, interleaved }
    }
}

/// What a gate goes through in a gated product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// SwiGLU (Shazeer 2020).
    Silu,
    /// GEGLU, GELU in its approximation by tanh.
    Gelu,
}

/// An expert's output for the rows that were sent to it.
#[derive(Debug, Clone)]
pub struct Part<V> {
    pub expert: usize,
    /// Ascending; row i of the value belongs to row `rows[i]`.
    pub rows: Vec<usize>,
    pub value: V,
}

/// Runs operations. `Var` is a value: owned data in [`crate::eager`], a place on the tape in [`crate::tape`].
///
/// # Shapes
/// T tokens, C hidden, H heads, K kv heads, D `head_dim`, V vocab.
pub trait Graph {
    type Var;

    /// Rows `ids` of `table` `[V, C]` → `[T, C]`, dequantised if it is packed.
    fn embedding(&mut self, table: &Linear, ids: &[u32]) -> Self::Var;

    /// RMSNorm (Zhang & Sennrich 2019): `x / sqrt(mean(x²) + eps) * weight`, each row by itself; with a weight
    /// of D channels, each head of a row by itself.
    fn rms_norm(&mut self, x: &Self::Var, weight: &Param, eps: f32) -> Self::Var;

    /// `[T, in]` → `[T, out]`.
    fn linear(&mut self, x: &Self::Var, layer: &Linear) -> Self::Var;

    /// [`Graph::linear`] of one input through several layers.
    fn linears<const N: usize>(&mut self, x: &Self::Var, layers: [&Linear; N]) -> [Self::Var; N] {
        layers.map(|layer| self.linear(x, layer))
    }

    /// Rotates q and k by each row's position, appends k and v to the sequence's keys and values, and
    /// attends causally within the sequence, as far as the window reaches. q `[T, H*D]`, k and v `[T, K*D]` → `[T, H*D]`.
    fn attention(&mut self, q: Self::Var, k: Self::Var, v: Self::Var, spec: &AttentionSpec) -> Self::Var;

    /// `activation(gate) * up`, elementwise.
    fn gated(&mut self, activation: Activation, gate: Self::Var, up: Self::Var) -> Self::Var;

    /// `x * factor`.
    fn scale(&mut self, x: Self::Var, factor: f32) -> Self::Var;

    /// `cap * tanh(x / cap)`, elementwise.
    fn soft_cap(&mut self, x: Self::Var, cap: f32) -> Self::Var;

    /// `a + b`, elementwise.
    fn add(&mut self, a: Self::Var, b: Self::Var) -> Self::Var;

    /// The given rows in the given order: logits are computed only where they are wanted.
    fn take_rows(&mut self, x: &Self::Var, rows: &[usize]) -> Self::Var;

    /// The weight of each expert for each row, and the rows of each expert; logits and weights `[T, E]`.
    fn route(&mut self, logits: Self::Var, routing: Routing) -> (Self::Var, Vec<Vec<usize>>);

    /// `out[t] = Σ weights[t, expert] * part[t]` over the parts that have row t, experts in ascending order.
    fn combine(&mut self, weights: &Self::Var, parts: Vec<Part<Self::Var>>) -> Self::Var;
}
