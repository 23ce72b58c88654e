//! f32 rows to 16-bit blocks of 32 with one scale, and the sums that minima and offsets need.

use super::BLOCK;
use crate::dispatch::multiversion;
use crate::pool::{Parts, Pool};

/// The largest integer: with weights of at most 255, a block's sum stays below 2²⁸.
const LARGEST: f32 = 32767.0;

/// Quantised rows. Reuse one to save its buffers.
#[derive(Debug, Default)]
pub struct Activations {
    rows: usize,
    cols: usize,
    /// `[M, K]`, in -32767..=32767.
    pub(crate) q: Vec<i16>,
    /// `[M, K / 32]`: the largest magnitude of the block / 32767.
    pub(crate) scale: Vec<f32>,
    /// `[M, K / 16]`: minus the sum of the integers of each half block.
    pub(crate) negative_halves: Vec<i32>,
    /// `[M, K / 32]`: minus the sum of the integers of each block.
    pub(crate) negative_sum: Vec<i32>,
    /// `[M, K / 32]`: scale times the sum of the block's integers.
    pub(crate) scaled_sum: Vec<f32>,
}

impl Activations {
    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    pub(crate) fn blocks(&self) -> usize {
        self.cols / BLOCK
    }

    /// Quantises `x` `[M, cols]`. A block with a value that isn't finite gets the scale NaN, so
    /// that the fault shows in every output.
    ///
    /// # Panics
    /// If `cols` isn't a multiple of 32.
    pub fn quantise(&mut self, pool: &Pool, x: &[f32], cols: usize) {
        assert!(
            cols.is_multiple_of(BLOCK),
            "{cols} columns aren't whole blocks of {BLOCK}"
        );
        assert!(
            x.len().is_multiple_of(cols),
            "x isn't rows of {cols} columns"
        );
        (self.rows, self.cols) = (x.len() / cols, cols);
        let blocks = x.len() / BLOCK;
        self.q.resize(x.len(), 0);
        self.scale.resize(blocks, 0.0);
        self.negative_halves.resize(blocks * 2, 0);
        self.negative_sum.resize(blocks, 0);
        self.scaled_sum.resize(blocks, 0.0);
        let q = Parts::new(&mut self.q);
        let scale = Parts::new(&mut self.scale);
        let halves = Parts::new(&mut self.negative_halves);
        let sum = Parts::new(&mut self.negative_sum);
        let scaled_sum = Parts::new(&mut self.scaled_sum);
        // 256 blocks a task: some 10 µs of work.
        pool.for_each_range(blocks, 256, |range| {
            let (start, len) = (range.start, range.len());
            // SAFETY: ranges of different tasks don't overlap.
            let q = unsafe { q.slice(start * BLOCK, len * BLOCK) };
            // SAFETY: as above.
            let scale = unsafe { scale.slice(start, len) };
            // SAFETY: as above.
            let halves = unsafe { halves.slice(start * 2, len * 2) };
            // SAFETY: as above.
            let sum = unsafe { sum.slice(start, len) };
            // SAFETY: as above.
            let scaled_sum = unsafe { scaled_sum.slice(start, len) };
            let x = &x[start * BLOCK..range.end * BLOCK];
            quantise_blocks(x, q, scale, halves);
            for (i, halves) in halves.chunks_exact(2).enumerate() {
                sum[i] = halves[0] + halves[1];
                scaled_sum[i] = scale[i] * -sum[i] as f32;
            }
        });
    }
}

multiversion! {
    fn quantise_blocks(x: &[f32], q: &mut [i16], scale: &mut [f32], negative_halves: &mut [i32]) {
        let (x, _) = x.as_chunks::<BLOCK>();
        let (q, _) = q.as_chunks_mut::<BLOCK>();
        let (negative_halves, _) = negative_halves.as_chunks_mut::<2>();
        for (i, (x, q)) in x.iter().zip(q).enumerate() {
            let mut largest = [0.0f32; 16];
            let mut fault = [0.0f32; 16];
            for half in [&x[..16], &x[16..]] {
                for lane in 0..16 {
                    largest[lane] = largest[lane].max(half[lane].abs());
                    fault[lane] += half[lane] * 0.0;
                }
            }
            let largest = largest.iter().fold(0.0f32, |a, &b| a.max(b));
            // Zero for finite values, NaN otherwise.
            let fault: f32 = fault.iter().sum();
            let inverse = if largest > 0.0 { LARGEST / largest } else { 0.0 };
            let mut sums = [0i32; 2];
            for (half, sum) in sums.iter_mut().enumerate() {
                for lane in half * 16..half * 16 + 16 {
                    let rounded = (x[lane] * inverse).round_ties_even() as i32;
                    q[lane] = rounded as i16;
                    *sum += rounded;
                }
            }
            scale[i] = largest / LARGEST + fault;
            negative_halves[i] = [-sums[0], -sums[1]];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_within_half_a_step_and_sums_add_up() {
        let x: Vec<f32> = (0..64).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
        let mut a = Activations::default();
        a.quantise(&Pool::new(1), &x, 64);
        for (i, &x) in x.iter().enumerate() {
            let scale = a.scale[i / 32];
            assert!(
                (f32::from(a.q[i]) * scale - x).abs() <= scale * 0.501,
                "{i}"
            );
        }
        let sum: i32 = a.q[..16].iter().map(|&q| i32::from(q)).sum();
        assert_eq!(a.negative_halves[0], -sum);
    }

    #[test]
    fn zeros_stay_zero_and_a_nan_is_not_hidden() {
        let mut x = vec![0.0; 64];
        x[40] = f32::NAN;
        let mut a = Activations::default();
        a.quantise(&Pool::new(1), &x, 64);
        assert_eq!(a.scale[0].to_bits(), 0.0f32.to_bits());
        assert!(a.scale[1].is_nan());
    }
}
