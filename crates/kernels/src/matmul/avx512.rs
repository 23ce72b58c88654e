//! The inner loop with AVX-512 VNNI: one register of sixteen rows, two columns a step.
//!
//! Weights of a line are widened to 16 bits once for up to eight rows of x; each row keeps its integer and its
//! f32 sums in registers, and `vpdpwssd` takes the two activations of a step as a broadcast memory operand.

use std::arch::asm;
use std::arch::x86_64::{
    __m512, __m512i, _MM_HINT_T1, _mm_cvtsi32_si128, _mm_prefetch, _mm256_loadu_si256, _mm512_and_si512,
    _mm512_cvtepi32_ps, _mm512_cvtph_ps, _mm512_fmadd_ps, _mm512_loadu_si512, _mm512_mul_ps, _mm512_or_si512,
    _mm512_set1_epi16, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_slli_epi16, _mm512_slli_epi32, _mm512_srl_epi16, _mm512_srli_epi16, _mm512_storeu_ps,
};

use super::{AHEAD, BLOCK, BlockJob, PANEL};

/// Computes `job.count` rows of sixteen outputs.
///
/// # Safety
/// The processor must have AVX-512 F, BW, VL and VNNI; `job.y` must have room for sixteen values at each
/// of `count` rows of stride `y_row`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise, passed on to one of eight")]
pub(super) unsafe fn run(job: BlockJob<'_>) {
    let packing = job.packing;
    // SAFETY: the caller's promise, passed on.
    unsafe {
        match (packing.bits, packing.min, packing.halves) {
            (4, false, false) => rows::<4, false, false>(job),
            (4, true, false) => rows::<4, true, false>(job),
            (4, false, true) => rows::<4, false, true>(job),
            (4, true, true) => rows::<4, true, true>(job),
            (5, false, _) => rows::<5, false, false>(job),
            (5, true, _) => rows::<5, true, false>(job),
            (_, _, false) => rows::<8, false, false>(job),
            (_, _, true) => rows::<8, false, true>(job),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers every tile")]
unsafe fn rows<const BITS: u8, const MIN: bool, const HALVES: bool>(job: BlockJob<'_>) {
    let mut i = 0;
    // SAFETY: tiles cover rows `0..count` once; the caller's promise.
    unsafe {
        while job.count - i >= 8 {
            tile::<BITS, MIN, HALVES, 8>(job, i);
            i += 8;
        }
        if job.count - i >= 4 {
            tile::<BITS, MIN, HALVES, 4>(job, i);
            i += 4;
        }
        if job.count - i >= 2 {
            tile::<BITS, MIN, HALVES, 2>(job, i);
            i += 2;
        }
        if job.count - i >= 1 {
            tile::<BITS, MIN, HALVES, 1>(job, i);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers the whole inner loop")]
unsafe fn tile<const BITS: u8, const MIN: bool, const HALVES: bool, const M: usize>(
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
        let mut acc = [_mm512_setzero_ps(); M];
        let mut ahead = quants.wrapping_add(AHEAD);
        for block in 0..blocks {
            if row == 0 {
                for line in (0..block_bytes).step_by(64) {
                    _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(line).cast());
                }
                ahead = ahead.wrapping_add(block_bytes);
            }
            let d = f16_lanes(scales);
            let second = if MIN || HALVES { f16_lanes(scales.add(PANEL * 2)) } else { d };
            let x: [usize; M] = std::array::from_fn(|m| first + m * blocks + block);
            let mut sums: [__m512i; M] = std::array::from_fn(|m| match (MIN, HALVES) {
                (true, _) => _mm512_setzero_si512(),
                (_, true) => offset::<BITS>(*job.x.negative_halves.as_ptr().add(x[m] * 2)),
                _ => offset::<BITS>(*job.x.negative_sum.as_ptr().add(x[m])),
            });
            let q: [*const i32; M] = std::array::from_fn(|m| job.x.q.as_ptr().add(x[m] * BLOCK).cast());
            quarter::<BITS, 0, M>(quants, q, &mut sums);
            quarter::<BITS, 1, M>(quants, q, &mut sums);
            if HALVES {
                for (m, acc) in acc.iter_mut().enumerate() {
                    let scale = _mm512_mul_ps(d, _mm512_set1_ps(*job.x.scale.as_ptr().add(x[m])));
                    *acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[m]), scale, *acc);
                    if MIN {
                        let scaled_half = _mm512_set1_ps(job.x.scaled_half(x[m] * 2));
                        *acc = _mm512_fmadd_ps(f16_lanes(scales.add(PANEL * 4)), scaled_half, *acc);
                        sums[m] = _mm512_setzero_si512();
                    } else {
                        sums[m] = offset::<BITS>(*job.x.negative_halves.as_ptr().add(x[m] * 2 + 1));
                    }
                }
            }
            quarter::<BITS, 2, M>(quants, q, &mut sums);
            quarter::<BITS, 3, M>(quants, q, &mut sums);
            let d = if HALVES { second } else { d };
            for (m, acc) in acc.iter_mut().enumerate() {
                let scale = _mm512_mul_ps(d, _mm512_set1_ps(*job.x.scale.as_ptr().add(x[m])));
                *acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[m]), scale, *acc);
                if MIN && HALVES {
                    let scaled_half = _mm512_set1_ps(job.x.scaled_half(x[m] * 2 + 1));
                    *acc = _mm512_fmadd_ps(f16_lanes(scales.add(PANEL * 6)), scaled_half, *acc);
                } else if MIN {
                    let scaled_sum = _mm512_set1_ps(*job.x.scaled_sum.as_ptr().add(x[m]));
                    *acc = _mm512_fmadd_ps(second, scaled_sum, *acc);
                }
            }
            quants = quants.add(packing.quant_bytes());
            scales = scales.add(packing.scales() * PANEL * 2);
        }
        for (m, acc) in acc.into_iter().enumerate() {
            _mm512_storeu_ps(job.y.add((row + m) * job.y_row), acc);
        }
    }
}

/// Minus the stored integers' offset times the sum of the activations.
#[inline]
#[target_feature(enable = "avx512f")]
fn offset<const BITS: u8>(negative_sum: i32) -> __m512i {
    let sum = _mm512_set1_epi32(negative_sum);
    match BITS {
        4 => _mm512_slli_epi32::<3>(sum),
        5 => _mm512_slli_epi32::<4>(sum),
        _ => _mm512_slli_epi32::<7>(sum),
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn f16_lanes(from: *const u8) -> __m512 {
    // SAFETY: the caller's pointer is readable for 32 bytes.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(from.cast()) })
}

/// Adds four steps (eight columns) of a block for M rows of x.
///
/// # Safety
/// `quants` must be readable for a block of the packing, each of `x` for sixteen i32.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers four steps")]
unsafe fn quarter<const BITS: u8, const QUARTER: usize, const M: usize>(
    quants: *const u8,
    x: [*const i32; M],
    sums: &mut [__m512i; M],
) {
    // SAFETY: the caller's promise; a quarter of a block is sixteen bytes of x.
    unsafe {
        let weights = widen::<BITS>(quants, QUARTER);
        let x = x.map(|x| x.add(QUARTER * 4));
        // Steps outside: neighbouring instructions add to different sums, so none waits for another.
        for m in 0..M {
            add_step::<0>(&mut sums[m], weights[0], x[m]);
        }
        for m in 0..M {
            add_step::<4>(&mut sums[m], weights[1], x[m]);
        }
        for m in 0..M {
            add_step::<8>(&mut sums[m], weights[2], x[m]);
        }
        for m in 0..M {
            add_step::<12>(&mut sums[m], weights[3], x[m]);
        }
    }
}

/// Multiplies sixteen pairs of weights with the pair at `x` plus `BYTES`, and adds them to `sum`.
///
/// Assembly, because LLVM splits the intrinsic into a broadcast, a product and an addition: three
/// instructions, which pays where one sum's latency counts and costs a third where there are several.
///
/// # Safety
/// The pair must be readable.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn add_step<const BYTES: usize>(sum: &mut __m512i, weights: __m512i, x: *const i32) {
    // SAFETY: reads the four bytes the caller promises; writes `sum` alone.
    unsafe {
        asm!(
            "vpdpwssd {sum}, {weights}, dword ptr [{x} + {bytes}]{{1to16}}",
            sum = inout(zmm_reg) *sum,
            weights = in(zmm_reg) weights,
            x = in(reg) x,
            bytes = const BYTES,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
}

/// Four steps of a block as 16-bit words.
///
/// # Safety
/// `quants` must be readable for a block of the packing.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn widen<const BITS: u8>(quants: *const u8, quarter: usize) -> [__m512i; 4] {
    let load = |line: usize| {
        // SAFETY: the caller's promise.
        let at = unsafe { quants.add(line * 64) };
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_si512(at.cast()) }
    };
    if BITS == 8 {
        let byte = _mm512_set1_epi16(0xFF);
        let (a, b) = (load(quarter * 2), load(quarter * 2 + 1));
        return [
            _mm512_and_si512(a, byte),
            _mm512_srli_epi16::<8>(a),
            _mm512_and_si512(b, byte),
            _mm512_srli_epi16::<8>(b),
        ];
    }
    let (line, nibble) = (load(quarter), _mm512_set1_epi16(15));
    let low = [
        _mm512_and_si512(line, nibble),
        _mm512_and_si512(_mm512_srli_epi16::<4>(line), nibble),
        _mm512_and_si512(_mm512_srli_epi16::<8>(line), nibble),
        _mm512_srli_epi16::<12>(line),
    ];
    if BITS == 4 {
        return low;
    }
    // The quarter's four bits move to the lowest bits of each word, then one after the other to bit 4.
    let high = _mm512_srl_epi16(load(4), _mm_cvtsi32_si128(quarter as i32 * 4));
    let fifth = _mm512_set1_epi16(16);
    [
        _mm512_or_si512(low[0], _mm512_and_si512(_mm512_slli_epi16::<4>(high), fifth)),
        _mm512_or_si512(low[1], _mm512_and_si512(_mm512_slli_epi16::<3>(high), fifth)),
        _mm512_or_si512(low[2], _mm512_and_si512(_mm512_slli_epi16::<2>(high), fifth)),
        _mm512_or_si512(low[3], _mm512_and_si512(_mm512_slli_epi16::<1>(high), fifth)),
    ]
}
