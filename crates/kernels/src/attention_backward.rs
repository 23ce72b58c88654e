//! Backward of causal grouped-query attention, block by block (FlashAttention-2, Dao 2023).
//!
//! Probabilities aren't kept: they are recomputed from q, k and each row's log-sum-exp, in tiles of [`BLOCK`]
//! queries by [`BLOCK`] keys, so memory grows with the length and not with its square. With
//! `P = exp(scale·q·kᵀ - lse)` and `Δ = Σ dout·out` of a row:
//! `dv = Pᵀ dout`, `dS = P∘(dout vᵀ - Δ)·scale`, `dq = dS k`, `dk = dSᵀ q`. A cap on scores multiplies dS by tanh's slope.
//!
//! One task for each sequence and kv head; within it key blocks, the group's query heads and query blocks
//! come in one fixed order, so the number of threads changes nothing.

use crate::dispatch::{LANES, dot, multiversion};
use crate::elementwise::{exp, tanh};
use crate::pool::{Parts, Pool};

/// Queries and keys in a tile: 32×32 probabilities and the operands of `head_dim` 128 fit a first-level cache.
const BLOCK: usize = 32;

/// Rows and columns the inner product's registers hold.
const TILE_ROWS: usize = 4;
const TILE_COLS: usize = 2 * LANES;

/// What the layer looks like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    pub num_heads: usize,
    pub num_kv_heads: usize,
    pub head_dim: usize,
    /// Factor on q·k before the softmax.
    pub scale: f32,
    /// How many positions a row sees, its own included; without one, all up to its own.
    pub window: Option<usize>,
    /// Scores become `cap·tanh(score / cap)` before they are masked.
    pub soft_cap: Option<f32>,
}

/// What the forward pass left: q and k as they were multiplied (rotated).
#[derive(Debug, Clone, Copy)]
pub struct SavedAttention<'a> {
    /// `[T, H·D]`
    pub q: &'a [f32],
    /// `[T, K·D]`
    pub k: &'a [f32],
    /// `[T, K·D]`
    pub v: &'a [f32],
    /// `[T, H·D]`
    pub out: &'a [f32],
    /// `ln Σ exp(scale·q·k)` of each row and head, `[T, H]`.
    pub log_sum_exp: &'a [f32],
}

/// Where the gradients go; their old content is overwritten.
#[derive(Debug)]
pub struct AttentionGradients<'a> {
    /// `[T, H·D]`
    pub dq: &'a mut [f32],
    /// `[T, K·D]`
    pub dk: &'a mut [f32],
    /// `[T, K·D]`
    pub dv: &'a mut [f32],
}

/// Gradients of q, k and v for sequences laid one after the other, each attending to itself causally.
///
/// # Shapes
/// `sequence_lens` add up to T; dout `[T, H·D]`.
pub fn attention_backward(
    pool: &Pool,
    shape: &AttentionShape,
    sequence_lens: &[usize],
    saved: &SavedAttention<'_>,
    dout: &[f32],
    gradients: &mut AttentionGradients<'_>,
) {
    check(shape, sequence_lens, saved, dout, gradients);
    let AttentionShape { num_heads, num_kv_heads, head_dim, .. } = *shape;
    let starts: Vec<usize> = sequence_lens
        .iter()
        .scan(0, |next, len| {
            *next += len;
            Some(*next - len)
        })
        .collect();
    let (dq, dk, dv) = (Parts::new(gradients.dq), Parts::new(gradients.dk), Parts::new(gradients.dv));
    let group = num_heads / num_kv_heads;
    pool.run(sequence_lens.len() * num_kv_heads, &|task| {
        let (sequence, kv_head) = (task / num_kv_heads, task % num_kv_heads);
        let rows = Rows { start: starts[sequence], len: sequence_lens[sequence] };
        let keys = KeysOfHead::gather(shape, saved, rows, kv_head);
        let mut sums = KeySums::zeros(&keys);
        for head in kv_head * group..(kv_head + 1) * group {
            let mut queries = QueriesOfHead::gather(shape, saved, dout, rows, head);
            backward_of_head(shape, &keys, &mut queries, &mut sums);
            for row in 0..rows.len {
                let start = ((rows.start + row) * num_heads + head) * head_dim;
                // SAFETY: no other task has this head of this sequence's rows.
                let to = unsafe { dq.slice(start, head_dim) };
                to.copy_from_slice(&queries.dq[row * queries.cols..][..head_dim]);
            }
        }
        for row in 0..rows.len {
            let start = ((rows.start + row) * num_kv_heads + kv_head) * head_dim;
            // SAFETY: no other task has this kv head of this sequence's rows.
            let to = unsafe { dk.slice(start, head_dim) };
            to.copy_from_slice(&sums.dk[row * keys.cols..][..head_dim]);
            // SAFETY: as for `dk`.
            let to = unsafe { dv.slice(start, head_dim) };
            to.copy_from_slice(&sums.dv[row * keys.cols..][..head_dim]);
        }
    });
}

fn check(
    shape: &AttentionShape,
    sequence_lens: &[usize],
    saved: &SavedAttention<'_>,
    dout: &[f32],
    gradients: &AttentionGradients<'_>,
) {
    let AttentionShape { num_heads, num_kv_heads, head_dim, .. } = *shape;
    assert!(
        num_kv_heads > 0 && num_heads.is_multiple_of(num_kv_heads),
        "`num_heads` {num_heads} isn't a multiple of `num_kv_heads` {num_kv_heads}"
    );
    let rows: usize = sequence_lens.iter().sum();
    let (of_queries, of_keys) = (rows * num_heads * head_dim, rows * num_kv_heads * head_dim);
    let lens = [saved.q.len(), saved.out.len(), dout.len(), gradients.dq.len()];
    assert_eq!(lens, [of_queries; 4], "q, out, dout, dq");
    let lens = [saved.k.len(), saved.v.len(), gradients.dk.len(), gradients.dv.len()];
    assert_eq!(lens, [of_keys; 4], "k, v, dk, dv");
    assert_eq!(saved.log_sum_exp.len(), rows * num_heads, "log_sum_exp");
}

/// One sequence's rows of the batch.
#[derive(Clone, Copy)]
struct Rows {
    start: usize,
    len: usize,
}

/// One kv head of one sequence, contiguous, rows padded with zeros to whole blocks and columns to whole
/// tiles; and transposed block by block, `[blocks][cols, BLOCK]`.
struct KeysOfHead {
    padded_len: usize,
    cols: usize,
    k: Vec<f32>,
    k_transposed: Vec<f32>,
    v_transposed: Vec<f32>,
}

impl KeysOfHead {
    fn gather(shape: &AttentionShape, saved: &SavedAttention<'_>, rows: Rows, kv_head: usize) -> Self {
        let of_head = OneHead { heads: shape.num_kv_heads, head: kv_head, dim: shape.head_dim };
        let k = of_head.gather(saved.k, rows);
        let v = of_head.gather(saved.v, rows);
        let cols = padded(shape.head_dim, TILE_COLS);
        Self {
            padded_len: padded(rows.len, BLOCK),
            cols,
            k_transposed: transpose_blocks(&k, cols),
            v_transposed: transpose_blocks(&v, cols),
            k,
        }
    }
}

/// The gradients of a [`KeysOfHead`], summed over the query heads that share it; padded like it.
struct KeySums {
    dk: Vec<f32>,
    dv: Vec<f32>,
}

impl KeySums {
    fn zeros(keys: &KeysOfHead) -> Self {
        let len = keys.padded_len * keys.cols;
        Self { dk: vec![0.0; len], dv: vec![0.0; len] }
    }
}

/// One query head of one sequence, padded like [`KeysOfHead`].
struct QueriesOfHead {
    len: usize,
    cols: usize,
    q: Vec<f32>,
    dout: Vec<f32>,
    dq: Vec<f32>,
    log_sum_exp: Vec<f32>,
    /// `Σ dout·out` of each row.
    delta: Vec<f32>,
}

impl QueriesOfHead {
    fn gather(
        shape: &AttentionShape,
        saved: &SavedAttention<'_>,
        dout: &[f32],
        rows: Rows,
        head: usize,
    ) -> Self {
        let AttentionShape { num_heads, head_dim, .. } = *shape;
        let of_head = OneHead { heads: num_heads, head, dim: head_dim };
        let q = of_head.gather(saved.q, rows);
        let mut delta = vec![0.0; rows.len];
        for (row, delta) in delta.iter_mut().enumerate() {
            let start = ((rows.start + row) * num_heads + head) * head_dim;
            let range = start..start + head_dim;
            *delta = row_dot(&dout[range.clone()], &saved.out[range]);
        }
        let log_sum_exp =
            (0..rows.len).map(|row| saved.log_sum_exp[(rows.start + row) * num_heads + head]).collect();
        Self {
            len: rows.len,
            cols: padded(head_dim, TILE_COLS),
            dq: vec![0.0; q.len()],
            q,
            dout: of_head.gather(dout, rows),
            log_sum_exp,
            delta,
        }
    }
}

/// A head's place in rows of heads.
struct OneHead {
    heads: usize,
    head: usize,
    dim: usize,
}

impl OneHead {
    fn gather(&self, from: &[f32], rows: Rows) -> Vec<f32> {
        let cols = padded(self.dim, TILE_COLS);
        let mut out = vec![0.0; padded(rows.len, BLOCK) * cols];
        for (row, out) in out.chunks_exact_mut(cols).take(rows.len).enumerate() {
            let start = ((rows.start + row) * self.heads + self.head) * self.dim;
            out[..self.dim].copy_from_slice(&from[start..start + self.dim]);
        }
        out
    }
}

fn padded(len: usize, to: usize) -> usize {
    len.div_ceil(to) * to
}

/// `[blocks·BLOCK, cols]` → `[blocks][cols, BLOCK]`.
fn transpose_blocks(x: &[f32], cols: usize) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    for (from, to) in x.chunks_exact(BLOCK * cols).zip(out.chunks_exact_mut(BLOCK * cols)) {
        for (row, from) in from.chunks_exact(cols).enumerate() {
            for (col, &value) in from.iter().enumerate() {
                to[col * BLOCK + row] = value;
            }
        }
    }
    out
}

/// A matrix read with any strides: plain or transposed.
#[derive(Clone, Copy)]
struct Strided<'a> {
    data: &'a [f32],
    row: usize,
    col: usize,
}

/// `out += a b`, sums over b's rows in order.
///
/// # Shapes
/// a `[BLOCK, K]` by its strides, b `[K, cols]`, out `[BLOCK, cols]`, cols whole tiles.
#[inline(always)]
fn add_product(a: Strided<'_>, b: &[f32], out: &mut [f32], cols: usize) {
    let depth = b.len() / cols;
    for row in (0..BLOCK).step_by(TILE_ROWS) {
        for col in (0..cols).step_by(TILE_COLS) {
            let mut tile = [[0.0f32; TILE_COLS]; TILE_ROWS];
            for (r, tile) in tile.iter_mut().enumerate() {
                let start = (row + r) * cols + col;
                tile.copy_from_slice(&out[start..start + TILE_COLS]);
            }
            for p in 0..depth {
                let b = &b[p * cols + col..][..TILE_COLS];
                for (r, tile) in tile.iter_mut().enumerate() {
                    let a = a.data[(row + r) * a.row + p * a.col];
                    for (tile, &b) in tile.iter_mut().zip(b) {
                        *tile = a.mul_add(b, *tile);
                    }
                }
            }
            for (r, tile) in tile.iter().enumerate() {
                let start = (row + r) * cols + col;
                out[start..start + TILE_COLS].copy_from_slice(tile);
            }
        }
    }
}

multiversion! {
    fn row_dot(a: &[f32], b: &[f32]) -> f32 {
        dot(a, b)
    }

    /// Adds one query head's part to its `dq` and to the sums of its kv head.
    fn backward_of_head(
        shape: &AttentionShape,
        keys: &KeysOfHead,
        queries: &mut QueriesOfHead,
        sums: &mut KeySums,
    ) {
        let cols = keys.cols;
        let len = queries.len;
        let window = shape.window.unwrap_or(len);
        let mut p = [0.0f32; BLOCK * BLOCK];
        let mut ds = [0.0f32; BLOCK * BLOCK];
        for key_start in (0..len).step_by(BLOCK) {
            let of_keys = key_start * cols..(key_start + BLOCK) * cols;
            let k_transposed = &keys.k_transposed[of_keys.clone()];
            let v_transposed = &keys.v_transposed[of_keys.clone()];
            let k = &keys.k[of_keys.clone()];
            let dk = &mut sums.dk[of_keys.clone()];
            let dv = &mut sums.dv[of_keys];
            // Behind the last key's window nobody sees this block.
            let end = len.min((key_start + BLOCK - 1).saturating_add(window));
            for query_start in (key_start..end).step_by(BLOCK) {
                let of_queries = query_start * cols..(query_start + BLOCK) * cols;
                let q = &queries.q[of_queries.clone()];
                let dout = &queries.dout[of_queries.clone()];
                let dq = &mut queries.dq[of_queries];
                p.fill(0.0);
                ds.fill(0.0);
                add_product(Strided { data: q, row: cols, col: 1 }, k_transposed, &mut p, BLOCK);
                add_product(Strided { data: dout, row: cols, col: 1 }, v_transposed, &mut ds, BLOCK);
                for row in 0..BLOCK {
                    let query = query_start + row;
                    let p = &mut p[row * BLOCK..(row + 1) * BLOCK];
                    let ds = &mut ds[row * BLOCK..(row + 1) * BLOCK];
                    if query >= len {
                        p.fill(0.0);
                        ds.fill(0.0);
                        continue;
                    }
                    let (log_sum, delta) = (queries.log_sum_exp[query], queries.delta[query]);
                    let seen = (query + 1).saturating_sub(window).saturating_sub(key_start)
                        ..(query + 1).saturating_sub(key_start).min(BLOCK);
                    let slope = |probability: f32, dp: f32| probability * (dp - delta) * shape.scale;
                    for (key, (p, ds)) in p.iter_mut().zip(ds.iter_mut()).enumerate() {
                        let is_seen = key >= seen.start && key < seen.end;
                        if let Some(cap) = shape.soft_cap {
                            let t = tanh(*p * shape.scale / cap);
                            *p = if is_seen { exp(t.mul_add(cap, -log_sum)) } else { 0.0 };
                            *ds = slope(*p, *ds) * t.mul_add(-t, 1.0);
                        } else {
                            let probability = exp(p.mul_add(shape.scale, -log_sum));
                            *p = if is_seen { probability } else { 0.0 };
                            *ds = slope(*p, *ds);
                        }
                    }
                }
                add_product(Strided { data: &p, row: 1, col: BLOCK }, dout, dv, cols);
                add_product(Strided { data: &ds, row: 1, col: BLOCK }, q, dk, cols);
                add_product(Strided { data: &ds, row: BLOCK, col: 1 }, k, dq, cols);
            }
        }
    }
}

#[cfg(test)]
mod tests;
