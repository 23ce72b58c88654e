//! The inner loop for many rows of 8-bit activations with AVX-512 VNNI: four columns a step.
//!
//! A line of widened weights holds the stored integers of four columns of each row as unsigned bytes, in the order in
//! which a panel holds them anyway; `vpdpbusd` multiplies them with four signed bytes of x. The integer sums, and so
//! all bits, are those of the 16-bit loops on the same activations.

use super::blocks::{add_scaled, widen_scales};
use super::registers::{Avx512Words, Words};
use super::wide::WideJob;
use super::{Activations, BLOCK, BlockPacking, PANEL};
use crate::lanes::Lanes;
use crate::pool::Pool;

type Floats = <Avx512Words as Words>::Floats;

/// Lines of a widened block.
const LINES: usize = BLOCK / 4;

/// The columns of each line, in the order of its bytes: what masking nibbles of a panel's words gives.
const COLUMNS: [usize; BLOCK] = {
    let mut columns = [0; BLOCK];
    let mut line = 0;
    while line < LINES {
        let first = line / 2 * 8 + line % 2 * 2;
        columns[line * 4] = first;
        columns[line * 4 + 1] = first + 4;
        columns[line * 4 + 2] = first + 1;
        columns[line * 4 + 3] = first + 5;
        line += 1;
    }
    columns
};

/// The integers of 8-bit activations as bytes, each block's columns in the order of the lines.
pub(super) fn arrange(pool: &Pool, x: &Activations) -> Vec<i8> {
    let mut bytes = vec![0; x.q.len()];
    // 256 blocks a task: some microseconds of work.
    pool.for_each_chunk(&mut bytes, 256 * BLOCK, |index, bytes| {
        let q = &x.q[index * 256 * BLOCK..][..bytes.len()];
        for (q, bytes) in q.as_chunks::<BLOCK>().0.iter().zip(bytes.as_chunks_mut::<BLOCK>().0) {
            *bytes = COLUMNS.map(|column| q[column] as i8);
        }
    });
    bytes
}

/// Widens `count` blocks to bytes, and their scales and minima to f32.
///
/// # Safety
/// As of the 16-bit loops' `widen`; half of the room is enough.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise, passed on")]
pub(super) unsafe fn widen(
    packing: BlockPacking,
    count: usize,
    (quants, scales): (*const u8, *const u8),
    (words, floats): (*mut u8, *mut f32),
) {
    // SAFETY: the caller's promise.
    unsafe {
        for block in 0..count {
            let from = quants.add(block * packing.quant_bytes());
            let to = words.add(block * LINES * 64);
            for quarter in 0..4 {
                let [even, odd] = match packing.bits {
                    4 => quarter_lines::<4>(from, quarter),
                    5 => quarter_lines::<5>(from, quarter),
                    6 => quarter_lines::<6>(from, quarter),
                    _ => quarter_lines::<8>(from, quarter),
                };
                even.store(to.add(quarter * 128));
                odd.store(to.add(quarter * 128 + 64));
            }
        }
        widen_scales::<Avx512Words>(packing.scales() * count, scales, floats);
    }
}

/// Eight columns of a block as two lines of bytes: the even steps of a quarter, and the odd ones.
///
/// # Safety
/// `quants` must be readable for a block of the packing.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers both lines")]
unsafe fn quarter_lines<const BITS: u8>(quants: *const u8, quarter: usize) -> [Avx512Words; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let load = |line: usize| Avx512Words::load(quants.add(line * 64));
        if BITS == 8 {
            return [load(quarter * 2), load(quarter * 2 + 1)];
        }
        let (line, nibbles) = (load(quarter), Avx512Words::splat(0x0F0F_0F0F));
        let mut lines = [line.and(nibbles), line.right(4).and(nibbles)];
        for bit in 4..i32::from(BITS) {
            // Bits 0 to 3 of each word belong to the quarter's four steps.
            let plane = load(bit as usize).right(quarter as i32 * 4);
            let (low, high) =
                (Avx512Words::splat(0x0001_0001 << bit), Avx512Words::splat(0x0100_0100 << bit));
            for (step, line) in lines.iter_mut().enumerate() {
                let step = step as i32;
                let bits = plane.left(bit - step).and(low).or(plane.left(bit + 6 - step).and(high));
                *line = line.or(bits);
            }
        }
        lines
    }
}

/// Computes the job's rows of sixteen outputs, as far as its blocks reach.
///
/// # Safety
/// As of the 16-bit loops' `wide`; `words` holds eight lines a block.
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise, passed on")]
pub(super) unsafe fn rows(job: WideJob<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        match (job.packing.min, job.packing.halves) {
            (false, false) => tiles::<false, false>(job),
            (true, false) => tiles::<true, false>(job),
            (false, true) => tiles::<false, true>(job),
            (true, true) => tiles::<true, true>(job),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers every tile")]
unsafe fn tiles<const MIN: bool, const HALVES: bool>(job: WideJob<'_>) {
    let mut i = 0;
    // SAFETY: tiles cover rows `0..count` once; the caller's promise.
    unsafe {
        while job.count - i >= 8 {
            tile::<MIN, HALVES, 8>(job, i);
            i += 8;
        }
        if job.count - i >= 4 {
            tile::<MIN, HALVES, 4>(job, i);
            i += 4;
        }
        if job.count - i >= 2 {
            tile::<MIN, HALVES, 2>(job, i);
            i += 2;
        }
        if job.count - i >= 1 {
            tile::<MIN, HALVES, 1>(job, i);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers the whole inner loop")]
unsafe fn tile<const MIN: bool, const HALVES: bool, const M: usize>(job: WideJob<'_>, row: usize) {
    let blocks = job.x.blocks();
    let first = (job.first + row) * blocks + job.first_block;
    assert!(job.first_block + job.num_blocks <= blocks && row + M <= job.count, "blocks and rows of x");
    assert!((first + (M - 1) * blocks + job.num_blocks) * BLOCK <= job.byte_x.len(), "rows of x");
    let shift = job.packing.offset_log2();
    // SAFETY: the assertions above keep every address inside the activations; words, scales and y are the
    // caller's promise.
    unsafe {
        let y: [*mut f32; M] = std::array::from_fn(|m| job.y.add((row + m) * job.y_row));
        let mut acc: [Floats; M] = match job.first_block {
            0 => [Floats::splat(0.0); M],
            _ => std::array::from_fn(|m| Floats::load(y[m])),
        };
        let (mut words, mut scales) = (job.words, job.scales);
        for block in 0..job.num_blocks {
            let x: [usize; M] = std::array::from_fn(|m| first + m * blocks + block);
            let bytes: [*const i8; M] = std::array::from_fn(|m| job.byte_x.as_ptr().add(x[m] * BLOCK));
            let lanes = |which: usize| Floats::load(scales.add(which * PANEL));
            let start = |half: usize| -> [Avx512Words; M] {
                std::array::from_fn(|m| match (MIN, HALVES) {
                    (true, _) => Avx512Words::splat(0),
                    (_, true) => {
                        Avx512Words::splat(*job.x.negative_halves.as_ptr().add(x[m] * 2 + half) << shift)
                    }
                    _ => Avx512Words::splat(*job.x.negative_sum.as_ptr().add(x[m]) << shift),
                })
            };
            let mut sums = start(0);
            half_block::<0, M>(words, bytes, &mut sums);
            if HALVES {
                let min = if MIN { Some(lanes(2)) } else { None };
                add_scaled::<Avx512Words, true, M>(job.x, x, 0, (&sums, lanes(0), min), &mut acc);
                sums = start(1);
            }
            half_block::<1, M>(words, bytes, &mut sums);
            let min = if MIN { Some(lanes(1 + 2 * usize::from(HALVES))) } else { None };
            let scale = lanes(usize::from(HALVES));
            add_scaled::<Avx512Words, HALVES, M>(job.x, x, 1, (&sums, scale, min), &mut acc);
            words = words.add(LINES * 64);
            scales = scales.add((1 + usize::from(MIN)) * (1 + usize::from(HALVES)) * PANEL);
        }
        for (acc, y) in acc.into_iter().zip(y) {
            acc.store(y);
        }
    }
}

/// Adds four steps (sixteen columns) for M rows of x.
///
/// # Safety
/// `words` must be readable for a block's lines, each of `x` for 32 bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers four steps")]
unsafe fn half_block<const HALF: usize, const M: usize>(
    words: *const u8,
    x: [*const i8; M],
    sums: &mut [Avx512Words; M],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let line = |step: usize| Avx512Words::load(words.add((HALF * 4 + step) * 64));
        let x = x.map(|x| x.add(HALF * 16));
        step::<0, M>(line(0), x, sums);
        step::<4, M>(line(1), x, sums);
        step::<8, M>(line(2), x, sums);
        step::<12, M>(line(3), x, sums);
    }
}

/// # Safety
/// Each of `x` must be readable for four bytes behind `BYTES`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn step<const BYTES: usize, const M: usize>(
    weights: Avx512Words,
    x: [*const i8; M],
    sums: &mut [Avx512Words; M],
) {
    for (sum, x) in sums.iter_mut().zip(x) {
        // SAFETY: the caller's promise.
        *sum = unsafe { sum.add_byte_products::<BYTES>(weights, x) };
    }
}
