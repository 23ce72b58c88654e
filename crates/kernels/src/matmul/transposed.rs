//! `dx = dy W`: the gradient of a product with respect to its input, the matrix decoded on the way.
//!
//! The rounding of activations in the forward product counts as the identity (straight-through estimator,
//! Bengio et al. 2013). Each output sums over the rows of W in ascending order.

use std::ops::Range;

use super::{PANEL, PackedMatrix};
use crate::gemm::{Accumulate, PackedRight, STRIP, Tile, gemm_packing, packing_pays};
use crate::pool::{Parts, Pool};

/// Columns a task decodes at a time: with [`ROWS`] rows, 32 KiB of f32.
const COLUMNS: usize = 64;
/// Rows of W decoded at a time: whole panels.
const ROWS: usize = 128;

/// `dx = dy W`.
///
/// # Shapes
/// dy `[M, N]`, w `[N, K]`, dx `[M, K]`
pub fn matmul_transposed(pool: &Pool, dy: &[f32], w: &PackedMatrix, dx: &mut [f32]) {
    let (rows, cols) = (w.rows(), w.cols());
    assert_eq!(dy.len() % rows, 0, "dy isn't rows of {rows} columns");
    let count = dy.len() / rows;
    assert_eq!(dx.len(), count * cols, "dx isn't [{count}, {cols}]");
    if count == 0 {
        return;
    }
    if packing_pays([count, cols, rows]) {
        return gemm_packing(pool, dy, &Decoded(w), dx, [count, cols, rows]);
    }
    let parts = Parts::new(dx);
    pool.run(cols.div_ceil(COLUMNS), &|task| {
        let start = task * COLUMNS;
        let width = COLUMNS.min(cols - start);
        let mut tile = vec![0.0; ROWS * COLUMNS];
        let mut sums = vec![0.0; count * COLUMNS];
        for first in (0..rows).step_by(ROWS) {
            let k = ROWS.min(rows - first);
            for (panel, values) in tile.chunks_exact_mut(PANEL * COLUMNS).enumerate() {
                if panel * PANEL < k {
                    w.decode_panel(first / PANEL + panel, (start, width), values, COLUMNS);
                }
            }
            for strip in (0..width).step_by(STRIP) {
                let block = Tile { b: tile[strip..].as_ptr(), step: COLUMNS, k };
                let out = sums[strip..].as_mut_ptr();
                // SAFETY: `count` rows of dy hold k values from `first` on; `sums` has `count` rows of
                // COLUMNS, a multiple of the strip.
                unsafe {
                    block.rows(dy[first..].as_ptr(), [rows, 1], out, [count, COLUMNS], Accumulate::Add);
                };
            }
        }
        for (row, sums) in sums.chunks_exact(COLUMNS).enumerate() {
            // SAFETY: this task alone writes these columns.
            let out = unsafe { parts.slice(row * cols + start, width) };
            out.copy_from_slice(&sums[..width]);
        }
    });
}

/// A matrix that is decoded while it is packed: its rows are the product's K.
struct Decoded<'a>(&'a PackedMatrix);

impl PackedRight for Decoded<'_> {
    fn fill(&self, column: usize, k: Range<usize>, strips: &mut [f32]) {
        let strip_len = STRIP * k.len();
        let width = (strips.len() / k.len()).min(self.0.cols() - column);
        let stride = width.next_multiple_of(STRIP);
        let mut tile = vec![0.0; PANEL * stride];
        for first in k.clone().step_by(PANEL) {
            self.0.decode_panel(first / PANEL, (column, width), &mut tile, stride);
            let rows = tile.chunks_exact(stride).take(k.end - first);
            for (row, values) in rows.enumerate() {
                let start = (first - k.start + row) * STRIP;
                for (strip, values) in strips.chunks_mut(strip_len).zip(values.as_chunks::<STRIP>().0) {
                    if let Some(place) = strip[start..].first_chunk_mut::<STRIP>() {
                        *place = *values;
                    }
                }
            }
        }
    }
}
