//! Parameters as a graph sees them: dense or packed matrices, frozen or trained, with LoRA beside them.

use std::sync::Arc;

use hearth_kernels::gemm::{Accumulate, gemm_nn};
use hearth_kernels::matmul::{InputBits, PackedMatrix, matmul_transposed};
use hearth_kernels::pool::Pool;

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

/// A linear layer's matrix, `[out_features, in_features]`.
#[derive(Debug, Clone)]
pub enum Matrix {
    /// Laid out for products, dense or quantised; frozen.
    Packed(Arc<PackedMatrix>),
    /// As a trainer updates it. Products have the bits of the same values packed.
    Dense(Param),
}

impl Matrix {
    pub fn packed(matrix: PackedMatrix) -> Self {
        Self::Packed(Arc::new(matrix))
    }

    pub fn rows(&self) -> usize {
        match self {
            Self::Packed(packed) => packed.rows(),
            Self::Dense(param) => param.rows,
        }
    }

    pub fn cols(&self) -> usize {
        match self {
            Self::Packed(packed) => packed.cols(),
            Self::Dense(param) => param.cols,
        }
    }

    /// A whole row, decoded: an embedding.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        match self {
            Self::Packed(packed) => packed.row(row, out),
            Self::Dense(param) => out.copy_from_slice(&param.data[row * param.cols..][..param.cols]),
        }
    }

    /// Bytes it takes in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Packed(packed) => packed.bytes(),
            Self::Dense(param) => size_of_val(param.data.as_slice()),
        }
    }

    pub fn is_quantised(&self) -> bool {
        matches!(self, Self::Packed(packed) if packed.is_quantised())
    }

    pub fn is_finite(&self) -> bool {
        match self {
            Self::Packed(packed) => packed.is_finite(),
            Self::Dense(param) => param.data.iter().all(|value| value.is_finite()),
        }
    }

    /// What inputs are rounded to where they are rounded.
    pub fn input_bits(&self) -> InputBits {
        match self {
            Self::Packed(packed) => packed.input_bits(),
            Self::Dense(_) => InputBits::default(),
        }
    }

    /// Whether both are one matrix in memory: a tied head.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Packed(a), Self::Packed(b)) => Arc::ptr_eq(a, b),
            (Self::Dense(a), Self::Dense(b)) => Arc::ptr_eq(&a.data, &b.data),
            _ => false,
        }
    }

    /// The parameter, if it is one that is trained.
    pub fn trained(&self) -> Option<&Param> {
        match self {
            Self::Dense(param) if param.id.is_some() => Some(param),
            _ => None,
        }
    }

    /// `dx = dy W`.
    ///
    /// # Shapes
    /// dy `[T, out]`, dx `[T, in]`
    pub fn transposed(&self, pool: &Pool, dy: &[f32], dx: &mut [f32]) {
        match self {
            Self::Packed(packed) => matmul_transposed(pool, dy, packed, dx),
            Self::Dense(param) => gemm_nn(pool, dy, &param.data, dx, param.rows, Accumulate::Overwrite),
        }
    }
}

/// A linear layer `y = x Wᵀ + bias (+ LoRA)`.
#[derive(Debug, Clone)]
pub struct Linear {
    pub weight: Matrix,
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
