//! f32 rows to blocks of 32 integers with one scale, and the sums that minima and offsets need.

use std::cell::Cell;
#[cfg(target_arch = "x86_64")]
use std::sync::OnceLock;

use super::{BLOCK, InputBits};
use crate::dispatch::multiversion;
use crate::pool::{Parts, Pool};

impl InputBits {
    /// The largest integer: with weights of at most 255, a block's sum stays below 2²⁸.
    const fn largest(self) -> f32 {
        match self {
            Self::Eight => 127.0,
            Self::Sixteen => 32767.0,
        }
    }
}

/// 1.5 · 2²³: a sum with it has the nearest integer (ties to even) in its low bits. A cast would saturate
/// value by value.
const TO_INTEGER: f32 = 12_582_912.0;

/// Quantised rows. Reuse one to save its buffers.
#[derive(Debug, Default)]
pub struct Activations {
    rows: usize,
    cols: usize,
    bits: InputBits,
    /// `[M, K]`, in -32767..=32767 or in -127..=127.
    pub(crate) q: Vec<i16>,
    /// `[M, K / 32]`: the largest magnitude of the block / the largest integer.
    pub(crate) scale: Vec<f32>,
    /// `[M, K / 16]`: minus the sum of the integers of each half block.
    pub(crate) negative_halves: Vec<i32>,
    /// `[M, K / 32]`: minus the sum of the integers of each block.
    pub(crate) negative_sum: Vec<i32>,
    /// `[M, K / 32]`: scale times the sum of the block's integers.
    pub(crate) scaled_sum: Vec<f32>,
    /// 8-bit integers in the order of [`super::bytes`], once a product has asked for them.
    #[cfg(target_arch = "x86_64")]
    bytes: OnceLock<Vec<i8>>,
}

thread_local! {
    /// Buffers of the last product of this thread.
    static KEPT: Cell<Activations> = Cell::default();
}

impl Activations {
    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    pub fn bits(&self) -> InputBits {
        self.bits
    }

    pub(crate) fn blocks(&self) -> usize {
        self.cols / BLOCK
    }

    /// Quantises into this thread's buffers for the time of `work`.
    pub(super) fn with(pool: &Pool, x: &[f32], cols: usize, bits: InputBits, work: impl FnOnce(&Self)) {
        let mut activations = KEPT.take();
        activations.quantise(pool, x, cols, bits);
        work(&activations);
        KEPT.set(activations);
    }

    #[cfg(target_arch = "x86_64")]
    pub(super) fn bytes(&self, pool: &Pool) -> &[i8] {
        self.bytes.get_or_init(|| super::bytes::arrange(pool, self))
    }

    /// Scale times the sum of the integers of a half block.
    #[inline(always)]
    pub(crate) fn scaled_half(&self, half: usize) -> f32 {
        self.scale[half / 2] * -self.negative_halves[half] as f32
    }

    /// Quantises `x` `[M, cols]`. A block with a value that isn't finite gets the scale NaN, so
    /// that the fault shows in every output.
    ///
    /// # Panics
    /// If `cols` isn't a multiple of 32.
    pub fn quantise(&mut self, pool: &Pool, x: &[f32], cols: usize, bits: InputBits) {
        assert!(cols.is_multiple_of(BLOCK), "{cols} columns aren't whole blocks of {BLOCK}");
        assert!(x.len().is_multiple_of(cols), "x isn't rows of {cols} columns");
        (self.rows, self.cols, self.bits) = (x.len() / cols, cols, bits);
        #[cfg(target_arch = "x86_64")]
        self.bytes.take();
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
            let blocks = x.as_chunks::<BLOCK>().0.iter().zip(q.as_chunks_mut::<BLOCK>().0);
            for (i, (x, q)) in blocks.enumerate() {
                let (block_scale, [low, high]) = quantise_block(x, q, bits.largest());
                scale[i] = block_scale;
                halves[i * 2..i * 2 + 2].copy_from_slice(&[low, high]);
                sum[i] = low + high;
                scaled_sum[i] = block_scale * -sum[i] as f32;
            }
        });
    }
}

multiversion! {
    /// Returns the scale, and minus the sums of the half blocks. Compiled a block at a time: in a loop over
    /// blocks LLVM lays the lanes across blocks and gathers.
    fn quantise_block(x: &[f32; BLOCK], q: &mut [i16; BLOCK], largest_q: f32) -> (f32, [i32; 2]) {
        // Magnitudes are ordered as their bits are, and a maximum of integers has no order to keep.
        let bits = x.iter().fold(0, |bits: u32, x| bits.max(x.abs().to_bits()));
        let finite = bits < f32::INFINITY.to_bits();
        let largest = if finite { f32::from_bits(bits) } else { 0.0 };
        let inverse = if largest > 0.0 { largest_q / largest } else { 0.0 };
        for (q, x) in q.iter_mut().zip(x) {
            *q = (x * inverse + TO_INTEGER).to_bits() as i16;
        }
        let mut negative = [0; 2];
        for (sum, q) in negative.iter_mut().zip(q.as_chunks::<16>().0) {
            *sum = -q.iter().map(|&q| i32::from(q)).sum::<i32>();
        }
        (if finite { largest / largest_q } else { f32::NAN }, negative)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_within_half_a_step_and_sums_add_up() {
        let x: Vec<f32> = (0..64).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
        for bits in [InputBits::Eight, InputBits::Sixteen] {
            let mut a = Activations::default();
            a.quantise(&Pool::new(1), &x, 64, bits);
            for (i, &x) in x.iter().enumerate() {
                let scale = a.scale[i / 32];
                assert!((f32::from(a.q[i]) * scale - x).abs() <= scale * 0.501, "{i}");
            }
            let sum: i32 = a.q[..16].iter().map(|&q| i32::from(q)).sum();
            assert_eq!(a.negative_halves[0], -sum);
        }
    }

    #[test]
    fn zeros_stay_zero_and_a_nan_is_not_hidden() {
        let mut x = vec![0.0; 64];
        x[40] = f32::NAN;
        let mut a = Activations::default();
        a.quantise(&Pool::new(1), &x, 64, InputBits::Sixteen);
        assert_eq!(a.scale[0].to_bits(), 0.0f32.to_bits());
        assert!(a.scale[1].is_nan());
    }
}
