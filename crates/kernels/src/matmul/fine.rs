//! Dense weights as 12-bit integers: products in two thirds of the time of f32, of encoders that must give the vectors of
//! another implementation.
//!
//! Panels hold sixteen rows interleaved in the form that the wide loops read, so nothing is widened on the way. A block of
//! 32 columns of a row has one scale in f32. Activations are rounded to 16 bits, as for quantised matrices.

use super::{Activations, BLOCK, InputBits, PANEL};
use crate::cpu::Level;
use crate::dispatch::level;
use crate::pool::{Parts, Pool};

/// The largest integer: with 32 activations of at most 32767 a block's sum stays below 2³¹.
const LARGEST: f32 = 2047.0;

/// Bytes of weights that all rows of x are multiplied with before the next: most of a first-level cache.
const CHUNK: usize = 24 << 10;

/// Bytes of activations that several panels read one after the other: half of a small second-level cache.
const CACHED: usize = 256 << 10;

/// Panels of a task at least: they share the activations that are near the core.
const GRAIN: usize = 4;

/// Two neighbouring columns of sixteen rows: columns 2t and 2t + 1 are the low and the high word of each row's lane.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Step([i16; 2 * PANEL]);

/// A matrix `[rows, cols]`. Immutable.
pub struct FineMatrix {
    rows: usize,
    cols: usize,
    /// `[rows / 16, cols / 2]`
    steps: Vec<Step>,
    /// `[rows / 16, cols / 32, 16]`
    scales: Vec<f32>,
}

impl std::fmt::Debug for FineMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FineMatrix[{}, {}]", self.rows, self.cols)
    }
}

impl FineMatrix {
    /// Rounds dense rows; `None` if they aren't whole panels and blocks, or hold a value that isn't finite.
    pub fn from_f32(rows: usize, cols: usize, values: &[f32]) -> Option<Self> {
        assert_eq!(values.len(), rows * cols, "values of [{rows}, {cols}]");
        let whole = rows.is_multiple_of(PANEL) && cols.is_multiple_of(BLOCK) && cols > 0;
        if !whole || !values.iter().all(|value| value.is_finite()) {
            return None;
        }
        let mut steps = vec![Step([0; 2 * PANEL]); rows / PANEL * (cols / 2)];
        let mut scales = vec![0.0; rows * (cols / BLOCK)];
        for (row, values) in values.chunks_exact(cols).enumerate() {
            let (panel, lane) = (row / PANEL, row % PANEL);
            for (block, values) in values.as_chunks::<BLOCK>().0.iter().enumerate() {
                let block = panel * (cols / BLOCK) + block;
                let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
                scales[block * PANEL + lane] = largest / LARGEST;
                let inverse = if largest > 0.0 { LARGEST / largest } else { 0.0 };
                for (column, value) in values.iter().enumerate() {
                    let word = lane * 2 + column % 2;
                    let q = (value * inverse).round().clamp(-LARGEST, LARGEST);
                    steps[block * BLOCK / 2 + column / 2].0[word] = q as i16;
                }
            }
        }
        Some(Self { rows, cols, steps, scales })
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    fn blocks(&self) -> usize {
        self.cols / BLOCK
    }

    /// Steps and scales of some blocks of a panel.
    fn part(&self, panel: usize, first_block: usize, num_blocks: usize) -> (&[Step], &[f32]) {
        let first = panel * self.blocks() + first_block;
        let steps = &self.steps[first * BLOCK / 2..][..num_blocks * BLOCK / 2];
        (steps, &self.scales[first * PANEL..][..num_blocks * PANEL])
    }
}

/// `y = x Wᵀ`.
///
/// # Shapes
/// x `[M, K]`, w `[N, K]`, y `[M, N]`
pub fn matmul_fine(pool: &Pool, x: &[f32], w: &FineMatrix, y: &mut [f32]) {
    assert_eq!(x.len() % w.cols, 0, "x isn't rows of {} columns", w.cols);
    assert_eq!(y.len(), x.len() / w.cols * w.rows, "y isn't [{}, {}]", x.len() / w.cols, w.rows);
    Activations::with(pool, x, w.cols, InputBits::Sixteen, |x| multiply(pool, x, w, y));
}

fn multiply(pool: &Pool, x: &Activations, w: &FineMatrix, y: &mut [f32]) {
    let (blocks, level) = (w.blocks(), level());
    let chunk = blocks.div_ceil(blocks.div_ceil(CHUNK / (BLOCK * PANEL * 2)));
    let together = (CACHED / (chunk * BLOCK * 2)).next_multiple_of(24).min(x.rows());
    let parts = Parts::new(y);
    pool.for_each_range(w.rows / PANEL, GRAIN, |panels| {
        for first in (0..x.rows()).step_by(together.max(1)) {
            let rows = first..first + together.min(x.rows() - first);
            for first_block in (0..blocks).step_by(chunk) {
                let blocks = first_block..first_block + chunk.min(blocks - first_block);
                for panel in panels.clone() {
                    let at = rows.start * w.rows + panel * PANEL;
                    // SAFETY: this task alone writes these columns; the last row ends inside y.
                    let y = unsafe { parts.slice(at, (rows.len() - 1) * w.rows + PANEL) };
                    run(level, Part { x, w, panel, blocks: blocks.clone(), rows: rows.clone() }, y);
                }
            }
        }
    });
}

/// Some blocks of a panel, for some rows of x.
struct Part<'a> {
    x: &'a Activations,
    w: &'a FineMatrix,
    panel: usize,
    blocks: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
}

/// Adds the part's products to `y`, which begins at its first output; the first block's overwrite what stands there.
fn run(level: Level, part: Part<'_>, y: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if level != Level::Scalar {
        return run_wide(level, &part, y);
    }
    let _ = level;
    let Part { x, w, panel, blocks, rows } = part;
    let (steps, scales) = w.part(panel, blocks.start, blocks.len());
    for (index, row) in rows.enumerate() {
        let y = &mut y[index * w.rows..][..PANEL];
        if blocks.start == 0 {
            y.fill(0.0);
        }
        for (at, block) in blocks.clone().enumerate() {
            let block = row * w.blocks() + block;
            let q = &x.q[block * BLOCK..][..BLOCK];
            let steps = &steps[at * BLOCK / 2..][..BLOCK / 2];
            for (lane, y) in y.iter_mut().enumerate() {
                let weight = |column: usize| steps[column / 2].0[lane * 2 + column % 2];
                let dot: i32 = (0..BLOCK).map(|i| i32::from(q[i]) * i32::from(weight(i))).sum();
                *y = (dot as f32).mul_add(scales[at * PANEL + lane] * x.scale[block], *y);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn run_wide(level: Level, part: &Part<'_>, y: &mut [f32]) {
    let Part { x, w, panel, blocks, rows } = part;
    let (steps, scales) = w.part(*panel, blocks.start, blocks.len());
    assert!(y.len() >= (rows.len() - 1) * w.rows + PANEL, "room for {} rows", rows.len());
    let job = super::wide::WideJob {
        words: steps.as_ptr().cast(),
        scales: scales.as_ptr(),
        // Neither minima nor halves; the words are as they come.
        packing: super::BlockPacking { bits: 8, min: false, halves: false },
        first_block: blocks.start,
        num_blocks: blocks.len(),
        x,
        byte_x: &[],
        first: rows.start,
        count: rows.len(),
        y: y.as_mut_ptr(),
        y_row: w.rows,
    };
    // SAFETY: the level was detected; steps and scales hold the blocks, and y has room for the rows.
    unsafe { super::wide::run((level, false), job) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::at_every_level;

    fn values(len: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 8_388_608.0 - 1.0
            })
            .collect()
    }

    fn run(threads: usize, x: &[f32], w: &FineMatrix) -> Vec<f32> {
        let mut y = vec![f32::NAN; x.len() / w.cols() * w.rows()];
        matmul_fine(&Pool::new(threads), x, w, &mut y);
        y
    }

    #[test]
    fn products_are_those_in_f64_within_twelve_bits() {
        for (m, n, k) in [(1, 16, 32), (3, 32, 64), (30, 48, 1568), (100, 16, 384)] {
            let (x, weights) = (values(m * k, 1), values(n * k, 2));
            let y = run(1, &x, &FineMatrix::from_f32(n, k, &weights).unwrap());
            // Half a step of at most 1 / 2047 a weight, in random directions.
            let tolerance = (k as f64).sqrt() * 5e-4;
            for (i, &y) in y.iter().enumerate() {
                let pairs = x[i / n * k..][..k].iter().zip(&weights[i % n * k..][..k]);
                let exact: f64 = pairs.map(|(&x, &w)| f64::from(x) * f64::from(w)).sum();
                assert!((f64::from(y) - exact).abs() < tolerance, "[{m}, {n}, {k}] at {i}: {y} vs. {exact}");
            }
        }
    }

    #[test]
    fn levels_threads_and_company_change_no_bit() {
        let (n, k) = (48, 1568);
        let w = FineMatrix::from_f32(n, k, &values(n * k, 5)).unwrap();
        let x = values(203 * k, 6);
        let together = at_every_level(|| run(1, &x, &w));
        assert_eq!(together, run(3, &x, &w));
        for row in [0, 7, 202] {
            assert_eq!(together[row * n..][..n], run(1, &x[row * k..][..k], &w));
        }
    }

    #[test]
    fn the_largest_sums_fit_their_integers() {
        let w = FineMatrix::from_f32(16, 32, &[-3.0; 512]).unwrap();
        let y = at_every_level(|| run(1, &[5.0; 32], &w));
        assert!(y.iter().all(|y| (y + 480.0).abs() < 1e-3), "{y:?}");
    }

    #[test]
    fn what_is_no_whole_panel_or_no_number_is_refused() {
        assert!(FineMatrix::from_f32(17, 32, &[0.0; 17 * 32]).is_none());
        assert!(FineMatrix::from_f32(16, 33, &[0.0; 16 * 33]).is_none());
        let mut values = [0.0; 512];
        values[3] = f32::NAN;
        assert!(FineMatrix::from_f32(16, 32, &values).is_none());
    }
}
