//! The forward of each operation, once: both executors call these, so that their results are equal to the bit.
//!
//! Inputs are borrowed, outputs come from the arena. Work is cut into tasks by rows; a row's arithmetic
//! doesn't depend on the cut. Attention's forward isn't here: generation keeps pages of keys and values.

use hearth_kernels::attention_backward::AttentionShape;
use hearth_kernels::elementwise;
use hearth_kernels::gemm::{Accumulate, gemm_nt};
use hearth_kernels::matmul::matmul_each;
use hearth_kernels::norm;
use hearth_kernels::pool::Pool;
use hearth_kernels::rope::{Direction, Pairing, RopeTable};
use hearth_kernels::routing;

use crate::graph::{Activation, AttentionSpec, Rope, Routing};
use crate::tensor::{Arena, Tensor};
use crate::weight::{Dora, Linear, Lora, Matrix, Param};

/// Values one task works on: a few microseconds, well above the cost of handing a task out.
const VALUES_PER_TASK: usize = 1 << 14;

/// Where operations run and where their outputs come from.
#[derive(Debug, Clone, Copy)]
pub struct Compute<'a> {
    pub pool: &'a Pool,
    pub arena: &'a Arena,
}

/// Rows `ids` of `table`, dequantised.
///
/// # Shapes
/// table `[V, C]`, ids `[T]` → `[T, C]`
pub fn embedding(compute: Compute<'_>, table: &Linear, ids: &[u32]) -> Tensor {
    let vocab_size = table.out_features();
    for &id in ids {
        assert!((id as usize) < vocab_size, "token id {id} vs. `vocab_size` {vocab_size}");
    }
    let mut out = compute.arena.take(ids.len(), table.in_features());
    let cols = out.cols();
    compute.pool.for_each_chunk(out.data_mut(), cols, |row, out| {
        table.weight.row(ids[row] as usize, out);
    });
    out
}

/// `x / sqrt(mean(x²) + eps) · weight`, each row by itself, or each head of a row.
///
/// # Shapes
/// x `[T, C]`, weight `[C]` or `[D]` → `[T, C]`
pub fn rms_norm(compute: Compute<'_>, x: &Tensor, weight: &Param, eps: f32) -> Tensor {
    assert!(x.cols().is_multiple_of(weight.cols), "{} columns in parts of {}", x.cols(), weight.cols);
    let mut out = compute.arena.take(x.rows(), x.cols());
    let len = values_of_whole_rows(x.cols());
    compute.pool.for_each_chunk(out.data_mut(), len, |index, out| {
        let x = &x.data()[index * len..index * len + out.len()];
        norm::rms_norm(x, &weight.data, eps, out);
    });
    out
}

/// `x Wᵀ + bias + scale·(x Aᵀ) Bᵀ`; with `DoRA`, all but the bias times each output's factor.
///
/// # Shapes
/// x `[T, in]` → `[T, out]`
pub fn linear(compute: Compute<'_>, x: &Tensor, layer: &Linear) -> Tensor {
    let [out] = linears(compute, x, [layer]);
    out
}

/// [`linear`] of one x through several layers.
///
/// # Shapes
/// x `[T, in]` → `[T, out]` each
pub fn linears<const N: usize>(compute: Compute<'_>, x: &Tensor, layers: [&Linear; N]) -> [Tensor; N] {
    let mut outs = layers.map(|layer| {
        assert_eq!(x.cols(), layer.in_features(), "columns of x vs. `in_features`");
        compute.arena.take(x.rows(), layer.out_features())
    });
    if x.rows() == 0 {
        return outs;
    }
    let mut packed = Vec::with_capacity(N);
    for (layer, out) in layers.iter().zip(&mut outs) {
        match &layer.weight {
            Matrix::Packed(weight) => packed.push((&**weight, out.data_mut())),
            Matrix::Dense(weight) => {
                let (pool, mode) = (compute.pool, Accumulate::Overwrite);
                gemm_nt(pool, x.data(), &weight.data, out.data_mut(), weight.cols, mode);
            }
        }
    }
    matmul_each(compute.pool, x.data(), packed);
    for (layer, out) in layers.into_iter().zip(&mut outs) {
        add_bias_and_lora(compute, x, layer, out);
    }
    outs
}

fn add_bias_and_lora(compute: Compute<'_>, x: &Tensor, layer: &Linear, out: &mut Tensor) {
    let dora = layer.lora.as_ref().and_then(|lora| lora.dora.as_ref());
    let add_bias = |out: &mut Tensor| {
        if let Some(bias) = &layer.bias {
            for row in out.data_mut().chunks_exact_mut(bias.data.len()) {
                elementwise::add_assign(row, &bias.data);
            }
        }
    };
    if dora.is_none() {
        add_bias(out);
    }
    if let Some(lora) = &layer.lora {
        let hidden = lora_hidden(compute, x, lora);
        let rank = hidden.cols();
        let b = &lora.b.data;
        gemm_nt(compute.pool, hidden.data(), b, out.data_mut(), rank, Accumulate::Add);
    }
    if let Some(dora) = dora {
        scale_columns(out, dora);
        add_bias(out);
    }
}

/// Each output times its factor.
pub(crate) fn scale_columns(x: &mut Tensor, dora: &Dora) {
    let factors: Vec<f32> = dora.factors().collect();
    for row in x.data_mut().chunks_exact_mut(factors.len()) {
        for (value, factor) in row.iter_mut().zip(&factors) {
            *value *= factor;
        }
    }
}

/// `x Wᵀ + scale·(x Aᵀ) Bᵀ`: what the factors of `DoRA` multiply.
pub(crate) fn before_factors(compute: Compute<'_>, x: &Tensor, layer: &Linear) -> Tensor {
    let lora = layer.lora.clone().map(|lora| Lora { dora: None, ..lora });
    linear(compute, x, &Linear { weight: layer.weight.clone(), bias: None, lora })
}

/// `scale·x Aᵀ`: what B multiplies, in the forward and in B's gradient.
pub(crate) fn lora_hidden(compute: Compute<'_>, x: &Tensor, lora: &Lora) -> Tensor {
    let mut hidden = compute.arena.take(x.rows(), lora.a.rows);
    let a = &lora.a.data;
    gemm_nt(compute.pool, x.data(), a, hidden.data_mut(), x.cols(), Accumulate::Overwrite);
    elementwise::scale(hidden.data_mut(), lora.scale);
    hidden
}

/// `activation(gate)·up`, elementwise.
pub fn gated(compute: Compute<'_>, activation: Activation, gate: &Tensor, up: &Tensor) -> Tensor {
    assert_same_shape(gate, up);
    let kernel = match activation {
        Activation::Silu => elementwise::silu_mul,
        Activation::Gelu => elementwise::gelu_mul,
    };
    let mut out = compute.arena.take(gate.rows(), gate.cols());
    compute.pool.for_each_chunk(out.data_mut(), VALUES_PER_TASK, |index, out| {
        let range = index * VALUES_PER_TASK..index * VALUES_PER_TASK + out.len();
        kernel(&gate.data()[range.clone()], &up.data()[range], out);
    });
    out
}

/// The gate's part of [`gated`]'s backward; the other's is `gated(gate, dout)`.
pub(crate) fn gated_backward(
    compute: Compute<'_>,
    activation: Activation,
    (gate, up): (&Tensor, &Tensor),
    dout: &Tensor,
) -> Tensor {
    assert_same_shape(gate, up);
    assert_same_shape(gate, dout);
    let kernel = match activation {
        Activation::Silu => elementwise::silu_mul_backward,
        Activation::Gelu => elementwise::gelu_mul_backward,
    };
    let mut dgate = compute.arena.take(gate.rows(), gate.cols());
    compute.pool.for_each_chunk(dgate.data_mut(), VALUES_PER_TASK, |index, dgate| {
        let range = index * VALUES_PER_TASK..index * VALUES_PER_TASK + dgate.len();
        let (gate, up) = (&gate.data()[range.clone()], &up.data()[range.clone()]);
        kernel(gate, up, &dout.data()[range], dgate);
    });
    dgate
}

/// `x·factor` in x's place.
pub fn scale(compute: Compute<'_>, x: &mut Tensor, factor: f32) {
    compute.pool.for_each_chunk(x.data_mut(), VALUES_PER_TASK, |_, x| elementwise::scale(x, factor));
}

/// `cap·tanh(x / cap)` in x's place.
pub fn soft_cap(compute: Compute<'_>, x: &mut Tensor, cap: f32) {
    compute.pool.for_each_chunk(x.data_mut(), VALUES_PER_TASK, |_, x| elementwise::soft_cap(x, cap));
}

/// `a + b` in a's place. Equal to the bit to `b + a`.
pub fn add_assign(compute: Compute<'_>, a: &mut Tensor, b: &Tensor) {
    assert_same_shape(a, b);
    compute.pool.for_each_chunk(a.data_mut(), VALUES_PER_TASK, |index, a| {
        let start = index * VALUES_PER_TASK;
        elementwise::add_assign(a, &b.data()[start..start + a.len()]);
    });
}

/// The given rows in the given order.
///
/// # Shapes
/// x `[T, C]`, rows `[R]` → `[R, C]`
pub fn take_rows(compute: Compute<'_>, x: &Tensor, rows: &[usize]) -> Tensor {
    let mut out = compute.arena.take(rows.len(), x.cols());
    for (out, &row) in out.data_mut().chunks_exact_mut(x.cols()).zip(rows) {
        out.copy_from_slice(x.row(row));
    }
    out
}

/// The weight of each expert for each row, 0 where it isn't chosen.
///
/// # Shapes
/// logits `[T, E]` → `[T, E]`
pub fn route(compute: Compute<'_>, logits: &Tensor, routing: Routing) -> Tensor {
    let mut weights = compute.arena.take(logits.rows(), logits.cols());
    routing::route(logits.data(), logits.cols(), routing, weights.data_mut());
    weights
}

/// The rows that go to each expert, ascending.
pub fn rows_of_experts(weights: &Tensor) -> Vec<Vec<usize>> {
    let mut rows = vec![Vec::new(); weights.cols()];
    for row in 0..weights.rows() {
        for (expert, &weight) in weights.row(row).iter().enumerate() {
            if weight != 0.0 {
                rows[expert].push(row);
            }
        }
    }
    rows
}

/// `out[t] = Σ weights[t, expert]·value[t]` over the parts (expert, rows, value) in their order.
///
/// # Shapes
/// weights `[T, E]`, values `[rows, C]` → `[T, C]`
pub fn combine<'a>(
    compute: Compute<'_>,
    weights: &Tensor,
    parts: impl Iterator<Item = (usize, &'a [usize], &'a Tensor)>,
) -> Tensor {
    let mut parts = parts.peekable();
    let cols = parts.peek().map_or(0, |(_, _, value)| value.cols());
    let mut out = compute.arena.zeros(weights.rows(), cols);
    for (expert, rows, value) in parts {
        for (i, &row) in rows.iter().enumerate() {
            let weight = weights.row(row)[expert];
            elementwise::add_scaled(&mut out.data_mut()[row * cols..(row + 1) * cols], weight, value.row(i));
        }
    }
    out
}

/// Sines and cosines for every kind of rotation a model uses (one or two), grown on demand.
#[derive(Debug, Clone, Default)]
pub struct RopeTables {
    tables: Vec<RopeTable>,
}

impl RopeTables {
    /// The table for `rope` and heads of `head_dim`, holding at least `positions`.
    pub fn table(&mut self, rope: &Rope, head_dim: usize, positions: usize) -> &RopeTable {
        let Rope { frequencies, magnitude, .. } = rope;
        let fits = |table: &RopeTable| table.is_of(frequencies, *magnitude, head_dim);
        let index = self.tables.iter().position(fits).unwrap_or_else(|| {
            self.tables.push(RopeTable::new(frequencies.clone(), *magnitude, head_dim));
            self.tables.len() - 1
        });
        let table = &mut self.tables[index];
        if table.positions() < positions {
            // Doubling: a sequence that grows by one position doesn't move the table each time.
            table.grow(positions.next_power_of_two());
        }
        table
    }
}

impl AttentionSpec {
    /// What the kernel asks for.
    pub(crate) fn shape(&self) -> AttentionShape {
        AttentionShape {
            num_heads: self.num_heads,
            num_kv_heads: self.num_kv_heads,
            head_dim: self.head_dim,
            scale: self.scale,
            window: self.window,
            soft_cap: self.soft_cap,
        }
    }
}

/// Rotates the heads of each row by the row's position, in place; backward turns them back.
///
/// # Shapes
/// x `[T, heads·D]`, positions `[T]`
pub fn rotate(
    compute: Compute<'_>,
    table: &RopeTable,
    x: &mut Tensor,
    positions: &[u32],
    pairing: Pairing,
    direction: Direction,
) {
    assert_eq!(x.rows(), positions.len(), "rows of x vs. positions");
    let cols = x.cols();
    let len = values_of_whole_rows(cols);
    compute.pool.for_each_chunk(x.data_mut(), len, |index, x| {
        let start = index * len / cols;
        table.rotate(x, &positions[start..start + x.len() / cols], pairing, direction);
    });
}

impl Rope {
    /// The kernel's name for the pairs.
    pub fn pairing(&self) -> Pairing {
        if self.interleaved { Pairing::Interleaved } else { Pairing::Halves }
    }
}

/// The largest number of whole rows in a task, in values.
pub(crate) fn values_of_whole_rows(cols: usize) -> usize {
    (VALUES_PER_TASK / cols).max(1) * cols
}

fn assert_same_shape(a: &Tensor, b: &Tensor) {
    assert_eq!((a.rows(), a.cols()), (b.rows(), b.cols()), "two operands of one shape");
}
