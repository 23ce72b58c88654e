//! The operations a model's forward pass is written in: coarse, so that each can be one fast kernel.
//!
//! B sequences are laid one after the other: a value is `[T, C]` where T counts the tokens of all
//! sequences in the batch. Only attention knows which rows belong together.

use crate::weight::{Linear, Param};

/// What attention needs to know about one layer (GQA: several query heads share a key head).
#[derive(Debug, Clone, Copy, PartialEq)]
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
}

/// Rotary position embedding (Su et al. 2021) over the whole head.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    pub theta: f32,
    /// Pairs (2i, 2i+1) as GGUF's llama family stores them, or (i, i + D/2) as Hugging Face does.
    pub interleaved: bool,
}

/// Runs operations. `Var` is a value: owned data in [`crate::eager`], a place on the tape in [`crate::tape`].
///
/// # Shapes
/// T tokens, C hidden, H heads, K kv heads, D `head_dim`, V vocab.
pub trait Graph {
    type Var;

    /// Rows `ids` of `table` `[V, C]` → `[T, C]`, dequantised if it is packed.
    fn embedding(&mut self, table: &Linear, ids: &[u32]) -> Self::Var;

    /// RMSNorm (Zhang & Sennrich 2019): `x / sqrt(mean(x²) + eps) * weight`, each row by itself.
    fn rms_norm(&mut self, x: &Self::Var, weight: &Param, eps: f32) -> Self::Var;

    /// `[T, in]` → `[T, out]`.
    fn linear(&mut self, x: &Self::Var, layer: &Linear) -> Self::Var;

    /// Rotates q and k by each row's position, appends k and v to the sequence's keys and values, and
    /// attends causally within the sequence. q `[T, H*D]`, k and v `[T, K*D]` → `[T, H*D]`.
    fn attention(&mut self, q: Self::Var, k: Self::Var, v: Self::Var, spec: &AttentionSpec) -> Self::Var;

    /// `silu(gate) * up`, elementwise (SwiGLU, Shazeer 2020).
    fn silu_mul(&mut self, gate: Self::Var, up: Self::Var) -> Self::Var;

    /// `a + b`, elementwise.
    fn add(&mut self, a: Self::Var, b: Self::Var) -> Self::Var;

    /// The given rows in the given order: logits are computed only where they are wanted.
    fn take_rows(&mut self, x: Self::Var, rows: &[usize]) -> Self::Var;
}
