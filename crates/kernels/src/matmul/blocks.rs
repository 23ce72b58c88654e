//! The inner loops of quantised products, written once for every instruction set.
//!
//! *Narrow*: few rows of x. Weights are widened to 16 bits in registers, a quarter of a block at a time.
//! *Wide*: many rows. Some blocks of a panel are widened once into a buffer of the first-level cache
//! ([`super::wide`]); every row of x then reads them from there. Both keep a row's integer sums in registers, and
//! both add the same terms in the same order as the scalar reference.

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

use super::registers::Words;
use super::wide::WideJob;
use super::{Activations, BLOCK, BlockJob, BlockPacking, PANEL};
use crate::lanes::Lanes;

/// Bytes of weights that are asked for before they are needed, as one stream through a panel and into the next:
/// the processor's own prefetcher stops at every page of 4 KiB. Farther costs more at the start of a task.
const AHEAD: usize = 16 << 10;

/// Compiles the loops for one instruction set.
macro_rules! instruction_set {
    ($(#[$doc:meta])* $name:ident, $words:ident, $features:literal) => {
        $(#[$doc])*
        pub(super) mod $name {
            use super::super::registers::{Words, $words};
            use super::{BlockJob, WideJob};

            /// From how many rows of x on the wide loop is faster.
            pub(in super::super) const WIDE_FROM: usize = 2 * $words::NARROW_TILE + 1;

            /// Computes `job.count` rows of sixteen outputs.
            ///
            /// # Safety
            /// The processor must have the instructions; `job.y` must have room for sixteen values at each
            /// of `count` rows of stride `y_row`.
            pub(in super::super) unsafe fn narrow(job: BlockJob<'_>) {
                let packing = job.packing;
                // SAFETY: the caller's promise.
                unsafe {
                    match (packing.bits, packing.min, packing.halves) {
                        (4, false, false) => narrow_rows::<4, false, false>(job),
                        (4, true, false) => narrow_rows::<4, true, false>(job),
                        (4, false, true) => narrow_rows::<4, false, true>(job),
                        (4, true, true) => narrow_rows::<4, true, true>(job),
                        (5, false, _) => narrow_rows::<5, false, false>(job),
                        (5, true, _) => narrow_rows::<5, true, false>(job),
                        (6, ..) => narrow_rows::<6, false, true>(job),
                        _ => narrow_rows::<8, false, false>(job),
                    }
                }
            }

            #[target_feature(enable = $features)]
            unsafe fn narrow_rows<const BITS: u8, const MIN: bool, const HALVES: bool>(job: BlockJob<'_>) {
                // SAFETY: the caller's promise.
                unsafe { super::narrow_rows::<$words, BITS, MIN, HALVES>(job) }
            }

            /// Computes the job's rows of sixteen outputs, as far as its blocks reach.
            ///
            /// # Safety
            /// As of [`narrow`]; `job.words` and `job.scales` must hold all blocks of the job.
            pub(in super::super) unsafe fn wide(job: WideJob<'_>) {
                // SAFETY: the caller's promise.
                unsafe {
                    match (job.packing.min, job.packing.halves) {
                        (false, false) => wide_rows::<false, false>(job),
                        (true, false) => wide_rows::<true, false>(job),
                        (false, true) => wide_rows::<false, true>(job),
                        (true, true) => wide_rows::<true, true>(job),
                    }
                }
            }

            #[target_feature(enable = $features)]
            unsafe fn wide_rows<const MIN: bool, const HALVES: bool>(job: WideJob<'_>) {
                // SAFETY: the caller's promise.
                unsafe { super::wide_rows::<$words, MIN, HALVES>(job) }
            }

            /// Widens `count` blocks to 16-bit words, their offset subtracted where there is no minimum, and
            /// their scales and minima to f32.
            ///
            /// # Safety
            /// The processor must have the instructions; `quants` must be readable for the blocks of the
            /// packing and `scales` for their f16 values; 1 KiB and 64 bytes a value must be writable.
            #[target_feature(enable = $features)]
            pub(in super::super) unsafe fn widen(
                packing: super::BlockPacking,
                count: usize,
                (quants, scales): (*const u8, *const u8),
                (words, floats): (*mut u8, *mut f32),
            ) {
                // SAFETY: the caller's promise.
                unsafe {
                    match packing.bits {
                        4 => super::widen_blocks::<$words, 4>(packing, count, quants, words),
                        5 => super::widen_blocks::<$words, 5>(packing, count, quants, words),
                        6 => super::widen_blocks::<$words, 6>(packing, count, quants, words),
                        _ => super::widen_blocks::<$words, 8>(packing, count, quants, words),
                    }
                    super::widen_scales::<$words>(packing.scales() * count, scales, floats);
                }
            }
        }
    };
}

instruction_set!(
    /// Two registers of eight lanes; `pmaddwd` multiplies a step's two columns.
    avx2, Avx2Words, "avx2,fma,f16c"
);
instruction_set!(
    /// One register of sixteen lanes; `vpdpwssd` multiplies and adds.
    avx512, Avx512Words, "avx512f,avx512bw,avx512vl,avx512vnni"
);

/// # Safety
/// To be inlined where the instructions of `W` are enabled; otherwise as of `narrow`.
#[inline(always)]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers every tile")]
unsafe fn narrow_rows<W: Words, const BITS: u8, const MIN: bool, const HALVES: bool>(job: BlockJob<'_>) {
    let mut i = 0;
    // SAFETY: tiles cover rows `0..count` once; the caller's promise.
    unsafe {
        while W::NARROW_TILE >= 8 && job.count - i >= 8 {
            narrow_tile::<W, BITS, MIN, HALVES, 8>(job, i);
            i += 8;
        }
        while job.count - i >= 4 {
            narrow_tile::<W, BITS, MIN, HALVES, 4>(job, i);
            i += 4;
        }
        if job.count - i >= 2 {
            narrow_tile::<W, BITS, MIN, HALVES, 2>(job, i);
            i += 2;
        }
        if job.count - i >= 1 {
            narrow_tile::<W, BITS, MIN, HALVES, 1>(job, i);
        }
    }
}

#[inline(always)]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers the whole inner loop")]
unsafe fn narrow_tile<W: Words, const BITS: u8, const MIN: bool, const HALVES: bool, const M: usize>(
    job: BlockJob<'_>,
    row: usize,
) {
    let (packing, blocks) = (job.packing, job.x.blocks());
    let first = (job.first + row) * blocks;
    let last_row = first + (M - 1) * blocks;
    assert!((last_row + blocks) * BLOCK <= job.x.q.len() && row + M <= job.count, "rows of x");
    let block_bytes = packing.quant_bytes() + packing.scales() * PANEL * 2;
    assert!(job.panel.len() >= blocks * block_bytes, "panel");
    // SAFETY: the assertions above keep every address inside the panel and the activations; y is the
    // caller's promise.
    unsafe {
        let mut quants = job.panel.as_ptr();
        let mut scales = quants.add(blocks * packing.quant_bytes());
        let mut acc = [W::Floats::splat(0.0); M];
        let mut ahead = quants.wrapping_add(AHEAD);
        for block in 0..blocks {
            if row == 0 {
                for line in (0..block_bytes).step_by(64) {
                    prefetch_line(ahead.wrapping_add(line));
                }
                ahead = ahead.wrapping_add(block_bytes);
            }
            let x: [usize; M] = std::array::from_fn(|m| first + m * blocks + block);
            let start = |half: usize| -> [W; M] {
                std::array::from_fn(|m| match (MIN, HALVES) {
                    (true, _) => W::splat(0),
                    (_, true) => W::splat(*job.x.negative_halves.as_ptr().add(x[m] * 2 + half) << (BITS - 1)),
                    _ => W::splat(*job.x.negative_sum.as_ptr().add(x[m]) << (BITS - 1)),
                })
            };
            let lanes = |which: usize| W::Floats::load_f16(scales.add(which * PANEL * 2).cast());
            let mut sums = start(0);
            let q: [*const i32; M] = std::array::from_fn(|m| job.x.q.as_ptr().add(x[m] * BLOCK).cast());
            narrow_quarter::<W, BITS, 0, M>(quants, q, &mut sums);
            narrow_quarter::<W, BITS, 1, M>(quants, q, &mut sums);
            if HALVES {
                let min = if MIN { Some(lanes(2)) } else { None };
                add_scaled::<W, true, M>(job.x, x, 0, (&sums, lanes(0), min), &mut acc);
                sums = start(1);
            }
            narrow_quarter::<W, BITS, 2, M>(quants, q, &mut sums);
            narrow_quarter::<W, BITS, 3, M>(quants, q, &mut sums);
            let min = if MIN { Some(lanes(1 + 2 * usize::from(HALVES))) } else { None };
            add_scaled::<W, HALVES, M>(job.x, x, 1, (&sums, lanes(usize::from(HALVES)), min), &mut acc);
            quants = quants.add(packing.quant_bytes());
            scales = scales.add(packing.scales() * PANEL * 2);
        }
        for (m, acc) in acc.into_iter().enumerate() {
            acc.store(job.y.add((row + m) * job.y_row));
        }
    }
}

/// Adds a block's sums, or those of one of its halves, and its minimum to the outputs of M rows.
///
/// # Safety
/// `x` are blocks of the activations.
#[inline(always)]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers every row")]
pub(super) unsafe fn add_scaled<W: Words, const HALVES: bool, const M: usize>(
    activations: &Activations,
    x: [usize; M],
    half: usize,
    (sums, scale, min): (&[W; M], W::Floats, Option<W::Floats>),
    acc: &mut [W::Floats; M],
) {
    for (m, acc) in acc.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            let x_scale = W::Floats::splat(*activations.scale.as_ptr().add(x[m]));
            *acc = sums[m].add_scaled(W::product(scale, x_scale), *acc);
            if let Some(min) = min {
                let sum = match HALVES {
                    true => activations.scaled_half(x[m] * 2 + half),
                    false => *activations.scaled_sum.as_ptr().add(x[m]),
                };
                *acc = min.fma(W::Floats::splat(sum), *acc);
            }
        }
    }
}

/// Adds four steps (eight columns) of a block for M rows of x.
///
/// # Safety
/// `quants` must be readable for a block of the packing, each of `x` for sixteen i32.
#[inline(always)]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers four steps")]
unsafe fn narrow_quarter<W: Words, const BITS: u8, const QUARTER: usize, const M: usize>(
    quants: *const u8,
    x: [*const i32; M],
    sums: &mut [W; M],
) {
    // SAFETY: the caller's promise; a quarter of a block is sixteen bytes of x.
    unsafe {
        let weights = widen_quarter::<W, BITS>(quants, QUARTER);
        let x = x.map(|x| x.add(QUARTER * 4));
        add_step::<W, 0, M>(weights[0], x, sums);
        add_step::<W, 4, M>(weights[1], x, sums);
        add_step::<W, 8, M>(weights[2], x, sums);
        add_step::<W, 12, M>(weights[3], x, sums);
    }
}

/// Adds a step for M rows. Rows inside: neighbouring instructions add to different sums, so none waits for another.
///
/// # Safety
/// Each of `x` must be readable for four bytes behind `BYTES`.
#[inline(always)]
unsafe fn add_step<W: Words, const BYTES: usize, const M: usize>(
    weights: W,
    x: [*const i32; M],
    sums: &mut [W; M],
) {
    for (sum, x) in sums.iter_mut().zip(x) {
        // SAFETY: the caller's promise.
        *sum = unsafe { sum.add_products::<BYTES>(weights, x) };
    }
}

/// Four steps of a block as 16-bit words.
///
/// # Safety
/// `quants` must be readable for a block of the packing.
#[inline(always)]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers four steps")]
unsafe fn widen_quarter<W: Words, const BITS: u8>(quants: *const u8, quarter: usize) -> [W; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        let load = |line: usize| W::load(quants.add(line * 64));
        if BITS == 8 {
            let byte = W::splat(0x00FF_00FF);
            let (a, b) = (load(quarter * 2), load(quarter * 2 + 1));
            return [a.and(byte), b.and(byte), a.right(8), b.right(8)];
        }
        let (line, nibble) = (load(quarter), W::splat(0x000F_000F));
        let mut words =
            [line.and(nibble), line.right(4).and(nibble), line.right(8).and(nibble), line.right(12)];
        // A plane holds one more bit of every step. The quarter's four move to the lowest bits of each word, then
        // one after the other to their place.
        for bit in 4..i32::from(BITS) {
            let plane = load(bit as usize).right(quarter as i32 * 4);
            let place = W::splat(0x0001_0001 << bit);
            for (step, word) in words.iter_mut().enumerate() {
                *word = word.or(plane.left(bit - step as i32).and(place));
            }
        }
        words
    }
}

/// # Safety
/// As of `widen`.
#[inline(always)]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers all blocks")]
unsafe fn widen_blocks<W: Words, const BITS: u8>(
    packing: BlockPacking,
    count: usize,
    quants: *const u8,
    words: *mut u8,
) {
    let offset = if packing.min { 0 } else { 1 << (BITS - 1) };
    // SAFETY: the caller's promise.
    unsafe {
        let offset = W::splat(offset << 16 | offset);
        for block in 0..count {
            let (from, to) = (quants.add(block * packing.quant_bytes()), words.add(block * WIDE_BLOCK));
            for quarter in 0..4 {
                for (step, weights) in widen_quarter::<W, BITS>(from, quarter).into_iter().enumerate() {
                    weights.minus(offset).store(to.add((quarter * 4 + step) * 64));
                }
            }
        }
    }
}

/// Bytes of a widened block: sixteen steps of sixteen pairs.
const WIDE_BLOCK: usize = BLOCK * PANEL * 2;

/// # Safety
/// As of `widen`.
#[inline(always)]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers all values")]
pub(super) unsafe fn widen_scales<W: Words>(count: usize, scales: *const u8, floats: *mut f32) {
    for i in 0..count {
        // SAFETY: the caller's promise.
        unsafe { W::Floats::load_f16(scales.add(i * PANEL * 2).cast()).store(floats.add(i * PANEL)) };
    }
}

/// # Safety
/// To be inlined where the instructions of `W` are enabled; otherwise as of `wide`.
#[inline(always)]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers every tile")]
unsafe fn wide_rows<W: Words, const MIN: bool, const HALVES: bool>(job: WideJob<'_>) {
    let mut i = 0;
    // SAFETY: tiles cover rows `0..count` once; the caller's promise.
    unsafe {
        while W::WIDE_TILE == 8 && job.count - i >= 8 {
            wide_tile::<W, MIN, HALVES, 8>(job, i);
            i += 8;
        }
        while W::WIDE_TILE == 6 && job.count - i >= 6 {
            wide_tile::<W, MIN, HALVES, 6>(job, i);
            i += 6;
        }
        while job.count - i >= 4 {
            wide_tile::<W, MIN, HALVES, 4>(job, i);
            i += 4;
        }
        if job.count - i >= 2 {
            wide_tile::<W, MIN, HALVES, 2>(job, i);
            i += 2;
        }
        if job.count - i >= 1 {
            wide_tile::<W, MIN, HALVES, 1>(job, i);
        }
    }
}

#[inline(always)]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers the whole inner loop")]
unsafe fn wide_tile<W: Words, const MIN: bool, const HALVES: bool, const M: usize>(
    job: WideJob<'_>,
    row: usize,
) {
    let blocks = job.x.blocks();
    let first = (job.first + row) * blocks + job.first_block;
    assert!(job.first_block + job.num_blocks <= blocks && row + M <= job.count, "blocks and rows of x");
    assert!((first + (M - 1) * blocks + job.num_blocks) * BLOCK <= job.x.q.len(), "rows of x");
    // SAFETY: the assertions above keep every address inside the activations; words, scales and y are the
    // caller's promise.
    unsafe {
        let y: [*mut f32; M] = std::array::from_fn(|m| job.y.add((row + m) * job.y_row));
        let mut acc: [W::Floats; M] = match job.first_block {
            0 => [W::Floats::splat(0.0); M],
            _ => std::array::from_fn(|m| W::Floats::load(y[m])),
        };
        let (mut words, mut scales) = (job.words, job.scales);
        for block in 0..job.num_blocks {
            let x: [usize; M] = std::array::from_fn(|m| first + m * blocks + block);
            let q: [*const i32; M] = std::array::from_fn(|m| job.x.q.as_ptr().add(x[m] * BLOCK).cast());
            let lanes = |which: usize| W::Floats::load(scales.add(which * PANEL));
            let mut sums = [W::splat(0); M];
            wide_quarter::<W, 0, M>(words, q, &mut sums);
            wide_quarter::<W, 1, M>(words, q, &mut sums);
            if HALVES {
                let min = if MIN { Some(lanes(2)) } else { None };
                add_scaled::<W, true, M>(job.x, x, 0, (&sums, lanes(0), min), &mut acc);
                sums = [W::splat(0); M];
            }
            wide_quarter::<W, 2, M>(words, q, &mut sums);
            wide_quarter::<W, 3, M>(words, q, &mut sums);
            let min = if MIN { Some(lanes(1 + 2 * usize::from(HALVES))) } else { None };
            add_scaled::<W, HALVES, M>(job.x, x, 1, (&sums, lanes(usize::from(HALVES)), min), &mut acc);
            words = words.add(WIDE_BLOCK);
            scales = scales.add((1 + usize::from(MIN)) * (1 + usize::from(HALVES)) * PANEL);
        }
        for (acc, y) in acc.into_iter().zip(y) {
            acc.store(y);
        }
    }
}

/// Adds four steps of a widened block for M rows of x.
///
/// # Safety
/// `words` must be readable for a widened block, each of `x` for sixteen i32.
#[inline(always)]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers four steps")]
unsafe fn wide_quarter<W: Words, const QUARTER: usize, const M: usize>(
    words: *const u8,
    x: [*const i32; M],
    sums: &mut [W; M],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let line = |step: usize| W::load(words.add((QUARTER * 4 + step) * 64));
        let x = x.map(|x| x.add(QUARTER * 4));
        add_step::<W, 0, M>(line(0), x, sums);
        add_step::<W, 4, M>(line(1), x, sums);
        add_step::<W, 8, M>(line(2), x, sums);
        add_step::<W, 12, M>(line(3), x, sums);
    }
}

#[inline(always)]
fn prefetch_line(at: *const u8) {
    // SAFETY: a hint that reads nothing; SSE is in x86-64's baseline.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) };
}
