//! Parameters as a graph sees them: dense or packed matrices, frozen or trained, with LoRA beside them.

use std::sync::Arc;

use hearth_kernels::matmul::PackedMatrix;

/// Names a trained parameter within one model, so that a tape can hand out its gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParamId(pub u32);

/// A dense f32 `[rows, cols]` parameter (`rows` = 1 for vectors). Frozen when `id` is `None`.
#[derive(Debug, Clone)]
pub struct Param {
    pub data: Arc<Vec<f32>>,
    pub rows: usize,
    pub cols: usize,
    pub id: Option<ParamId>,
}

/// Low-rank update of a linear layer (Hu et al. 2021): `scale * (x Aᵀ) Bᵀ`.
#[derive(Debug, Clone)]
pub struct Lora {
    /// `[rank, in_features]`
    pub a: Param,
    /// `[out_features, rank]`
    pub b: Param,
    /// alpha / rank, or alpha / √rank
    pub scale: f32,
    pub dora: Option<Arc<Dora>>,
}

/// What `DoRA` (Liu et al. 2024) adds to a low-rank update: each output, bias apart, is multiplied by its
/// magnitude over the norm of its row.
#[derive(Debug, Clone)]
pub struct Dora {
    /// `[1, out_features]`
    pub magnitude: Param,
    /// Of each row of `W + scale·B A`. A constant in the backward, as the paper's section 4.3 has it.
    pub norms: Arc<Vec<f32>>,
}

impl Dora {
    /// What each output is multiplied by.
    pub fn factors(&self) -> impl Iterator<Item = f32> + Clone + '_ {
        self.magnitude.data.iter().zip(self.norms.iter()).map(|(magnitude, norm)| magnitude / norm)
    }
}

/// A linear layer `y = x Wᵀ + bias (+ LoRA)`. The matrix may be quantised; it is frozen.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[out_features, in_features]`
    pub weight: Arc<PackedMatrix>,
    pub bias: Option<Param>,
    pub lora: Option<Lora>,
}

impl Linear {
    pub fn out_features(&self) -> usize {
        self.weight.rows()
    }

    pub fn in_features(&self) -> usize {
        self.weight.cols()
    }
}
