//! Weights packed for the SIMD width, and `y = x Wᵀ` with activations rounded to 16 or 8 bits.
//!
//! A panel holds sixteen rows of W interleaved, so that a SIMD lane is an output and nothing is summed
//! across lanes. Quantised weights keep their 4, 5, 6 or 8 bits. Activations are rounded once per product, in blocks
//! of 32 with one scale, to the bits the matrix asks for; integer sums within a block are exact. Eight bits, as
//! llama.cpp has them, are up to twice as fast in long products, but move the log-probabilities of a small model by up
//! to 0.5; sixteen move them by less than 0.001 (LOG.md). So the model says which matrices may have eight.
//!
//! * [`pack`] — GGUF blocks or dense rows to panels, and back
//! * `words` — the integers of a row and block, to and from panels
//! * [`activations`] — f32 rows to blocks of integers
//! * `blocks` — the inner loops over few and over many rows, for the `registers` of AVX2 and AVX-512
//! * [`fine`] — dense weights as 12-bit integers
//! * `wide` — products with many rows; `bytes`, its inner loop for 8-bit activations with AVX-512
//! * `scalar` — the reference the loops are equal to, to the bit

mod activations;
#[cfg(target_arch = "x86_64")]
mod blocks;
#[cfg(target_arch = "x86_64")]
mod bytes;
pub mod fine;
mod pack;
#[cfg(target_arch = "x86_64")]
mod registers;
mod scalar;
mod transposed;
#[cfg(target_arch = "x86_64")]
mod wide;
mod words;

use crate::cpu::Level;
use crate::dispatch::level;
use crate::gemm::{Accumulate, STRIP, Tile};
use crate::pool::{Parts, Pool};

pub use activations::Activations;
pub use pack::PackedMatrix;
pub use transposed::matmul_transposed;

/// Rows of W in a panel: the lanes of an AVX-512 register.
pub const PANEL: usize = 16;

/// Columns that share one activation scale.
pub(crate) const BLOCK: usize = 32;

/// Bytes of activations that several panels read one after the other: a quarter of a small second-level cache.
const CACHED: usize = 128 << 10;

/// How a panel stores its weights: `scale * (q - offset) + min`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// Dense f32.
    F32,
    /// Dense bf16, widened on the way.
    BF16,
    /// Quantised in blocks of 32 columns.
    Blocks(BlockPacking),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockPacking {
    /// Stored bits: 4, 5, 6 or 8. Eight-bit integers are stored plus 128.
    pub(crate) bits: u8,
    /// A minimum per block beside the scale; without it the integers are centred.
    pub(crate) min: bool,
    /// Two scales a block, and two minima if there are any (`Q2_K`, `Q3_K`, `Q6_K`).
    pub(crate) halves: bool,
}

impl BlockPacking {
    /// Bytes of the integers of one block of sixteen rows.
    pub(crate) const fn quant_bytes(self) -> usize {
        self.bits as usize * BLOCK * PANEL / 8
    }

    /// f16 values per row and block: scales, and as many minima if there are any.
    pub(crate) const fn scales(self) -> usize {
        (1 + self.min as usize) * self.min_at()
    }

    /// Which of a block's values is the first minimum: there are as many scales before it.
    pub(crate) const fn min_at(self) -> usize {
        1 + self.halves as usize
    }

    /// log2 of what is subtracted from the stored integers of a symmetric packing.
    pub(crate) const fn offset_log2(self) -> u32 {
        self.bits as u32 - 1
    }
}

/// What the inputs of a quantised matrix are rounded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InputBits {
    Eight,
    #[default]
    Sixteen,
}

/// Panels of one matrix with the activations of one product: what an inner loop works on.
#[derive(Clone, Copy)]
pub(crate) struct BlockJob<'a> {
    /// Integers of all blocks of one panel, then their scales and minima as f16.
    pub(crate) panel: &'a [u8],
    pub(crate) packing: BlockPacking,
    pub(crate) x: &'a Activations,
    /// Rows of x to compute.
    pub(crate) first: usize,
    pub(crate) count: usize,
    /// Sixteen outputs of row `first + i` go to `y + i * y_row`.
    pub(crate) y: *mut f32,
    pub(crate) y_row: usize,
}

/// `y = x Wᵀ`.
///
/// Quantised matrices round x per block of 32 ([`PackedMatrix::input_bits`]); dense ones compute in f32.
///
/// # Shapes
/// x `[M, K]`, w `[N, K]`, y `[M, N]`
pub fn matmul(pool: &Pool, x: &[f32], w: &PackedMatrix, y: &mut [f32]) {
    matmul_each(pool, x, [(w, y)]);
}

/// [`matmul`] of one x with several matrices: x is rounded once for all that ask for the same bits, and one job of the
/// pool computes short products together.
///
/// # Shapes
/// x `[M, K]`, each w `[N, K]` with its y `[M, N]`
pub fn matmul_each<'a>(
    pool: &Pool,
    x: &[f32],
    products: impl IntoIterator<Item = (&'a PackedMatrix, &'a mut [f32])>,
) {
    let (mut eight, mut sixteen) = (Vec::new(), Vec::new());
    for (w, y) in products {
        assert_eq!(x.len() % w.cols(), 0, "x isn't rows of {} columns", w.cols());
        assert_eq!(y.len() / w.rows(), x.len() / w.cols(), "rows of y vs. rows of x");
        match (w.packing(), w.input_bits()) {
            (Packing::Blocks(packing), InputBits::Eight) => eight.push(Product { w, packing, y }),
            (Packing::Blocks(packing), InputBits::Sixteen) => sixteen.push(Product { w, packing, y }),
            (Packing::F32 | Packing::BF16, _) => matmul_dense(pool, x, w, y),
        }
    }
    for (bits, mut products) in [(InputBits::Eight, eight), (InputBits::Sixteen, sixteen)] {
        if let Some(first) = products.first() {
            Activations::with(pool, x, first.w.cols(), bits, |x| multiply(pool, x, &mut products));
        }
    }
}

/// [`matmul`] with activations quantised before.
///
/// # Panics
/// If `w` is dense ([`PackedMatrix::is_quantised`]) or asks for other bits.
pub fn matmul_quantised(pool: &Pool, x: &Activations, w: &PackedMatrix, y: &mut [f32]) {
    let Packing::Blocks(packing) = w.packing() else { panic!("the matrix is dense") };
    assert_eq!(x.bits(), w.input_bits(), "bits of x vs. what w asks for");
    multiply(pool, x, &mut [Product { w, packing, y }]);
}

/// A quantised matrix and where its product goes.
struct Product<'a> {
    w: &'a PackedMatrix,
    packing: BlockPacking,
    /// `[M, N]`
    y: &'a mut [f32],
}

fn multiply(pool: &Pool, x: &Activations, products: &mut [Product<'_>]) {
    for Product { w, y, .. } in &*products {
        assert_eq!(x.cols(), w.cols(), "columns of x vs. columns of w");
        assert_eq!(y.len(), x.rows() * w.rows(), "y isn't [{}, {}]", x.rows(), w.rows());
    }
    #[cfg(target_arch = "x86_64")]
    if x.rows() >= wide::wide_from(level()) {
        for Product { w, packing, y } in products {
            wide::matmul_wide(pool, level(), x, (w, *packing), y);
        }
        return;
    }
    let num_panels = products.iter().map(|product| product.w.panels()).sum();
    let grain = products.iter().map(|product| grain(product.w)).max().unwrap_or(1);
    let products: Vec<_> =
        products.iter_mut().map(|product| (product.w, product.packing, Parts::new(product.y))).collect();
    let together = (CACHED / (x.cols() * 2)).next_multiple_of(8);
    pool.for_each_range(num_panels, grain, |panels| {
        let mut offset = 0;
        for (w, packing, y) in &products {
            let from = panels.start.clamp(offset, offset + w.panels()) - offset;
            let to = panels.end.clamp(offset, offset + w.panels()) - offset;
            offset += w.panels();
            for first in (0..x.rows()).step_by(together) {
                let count = together.min(x.rows() - first);
                for index in from..to {
                    narrow_panel((w, *packing, index), x, (first, count), y);
                }
            }
        }
    });
}

/// The outputs of one panel for `count` rows of x from `first` on.
fn narrow_panel(
    (w, packing, index): (&PackedMatrix, BlockPacking, usize),
    x: &Activations,
    (first, count): (usize, usize),
    y: &Parts<f32>,
) {
    let rows = w.rows();
    let width = PANEL.min(rows - index * PANEL);
    let job =
        BlockJob { panel: w.panel(index), packing, x, first, count, y: std::ptr::null_mut(), y_row: rows };
    if width == PANEL {
        let len = (count - 1) * rows + PANEL;
        // SAFETY: the panel's task alone writes these columns; the last row ends inside y.
        let out = unsafe { y.slice(first * rows + index * PANEL, len) };
        run_blocks(BlockJob { y: out.as_mut_ptr(), ..job });
        return;
    }
    for row in first..first + count {
        let mut lanes = [0.0; PANEL];
        run_blocks(BlockJob { first: row, count: 1, y: lanes.as_mut_ptr(), ..job });
        // SAFETY: the panel's task alone writes these columns of this row.
        let out = unsafe { y.slice(row * rows + index * PANEL, width) };
        out.copy_from_slice(&lanes[..width]);
    }
}

/// Panels a task takes at least: 16 KiB of weights. A claim costs as much as reading about 1 KiB.
fn grain(w: &PackedMatrix) -> usize {
    (16_usize << 10).div_ceil(w.panel_bytes())
}

fn run_blocks(job: BlockJob<'_>) {
    match level() {
        // SAFETY: the level was detected; y has room for `count` rows.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { blocks::avx512::narrow(job) },
        // SAFETY: the level was detected; y has room for `count` rows.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { blocks::avx2::narrow(job) },
        // SAFETY: y has room for `count` rows.
        _ => unsafe { scalar::run(job) },
    }
}

/// Columns of a dense panel that are widened at a time: 16 KiB of f32.
const DENSE_STEP: usize = 256;

fn matmul_dense(pool: &Pool, x: &[f32], w: &PackedMatrix, y: &mut [f32]) {
    let (rows, cols, count) = (w.rows(), w.cols(), x.len() / w.cols());
    let parts = Parts::new(y);
    let task = |index: usize| {
        let width = PANEL.min(rows - index * PANEL);
        let mut widened = Vec::new();
        let mut scratch = vec![0.0; if width < PANEL { count * PANEL } else { 0 }];
        for start in (0..cols).step_by(DENSE_STEP) {
            let k = DENSE_STEP.min(cols - start);
            let strip = w.dense_strip(index, start, k, &mut widened);
            let tile = Tile { b: strip.as_ptr(), step: STRIP, k };
            let mode = if start == 0 { Accumulate::Overwrite } else { Accumulate::Add };
            let from = x[start..].as_ptr();
            if width == PANEL {
                // SAFETY: this task alone writes these columns; the last row ends inside y.
                let out = unsafe { parts.slice(index * PANEL, (count - 1) * rows + PANEL) };
                // SAFETY: `count` rows of x with stride `cols` hold k values from `start` on.
                unsafe { tile.rows(from, [cols, 1], out.as_mut_ptr(), [count, rows], mode) };
            } else {
                // SAFETY: as above, into a scratch of whole panels.
                unsafe { tile.rows(from, [cols, 1], scratch.as_mut_ptr(), [count, PANEL], mode) };
            }
        }
        for (row, lanes) in scratch.chunks_exact(PANEL).enumerate() {
            // SAFETY: this task alone writes these columns of this row.
            let out = unsafe { parts.slice(row * rows + index * PANEL, width) };
            out.copy_from_slice(&lanes[..width]);
        }
    };
    pool.for_each_range(w.panels(), grain(w), |panels| panels.for_each(&task));
}

#[cfg(test)]
mod tests;
