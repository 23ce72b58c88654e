//! The inner loop with AVX2: eight rows at a time, half a panel after the other.
//!
//! The same steps as with AVX-512: weights of a quarter block are widened to 16 bits once for up to four
//! rows of x, and `pmaddwd` multiplies a step's two columns.

use std::arch::x86_64::{
    __m256, __m256i, _MM_HINT_T1, _mm_cvtsi32_si128, _mm_loadu_si128, _mm_prefetch, _mm256_add_epi32,
    _mm256_and_si256, _mm256_cvtepi32_ps, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_mul_ps, _mm256_or_si256, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_setzero_si256, _mm256_slli_epi16, _mm256_slli_epi32, _mm256_srl_epi16,
    _mm256_srli_epi16, _mm256_storeu_ps,
};

use super::{AHEAD, BLOCK, BlockJob, PANEL};

/// Computes `job.count` rows of sixteen outputs.
///
/// # Safety
/// The processor must have AVX2, FMA and F16C (all of AVX2's generation do); `job.y` must have room for
/// sixteen values at each of `count` rows of stride `y_row`.
#[target_feature(enable = "avx2,fma,f16c")]
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

#[target_feature(enable = "avx2,fma,f16c")]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers every tile")]
unsafe fn rows<const BITS: u8, const MIN: bool, const HALVES: bool>(job: BlockJob<'_>) {
    let mut i = 0;
    // SAFETY: tiles cover rows `0..count` once; the caller's promise.
    unsafe {
        while job.count - i >= 4 {
            tile::<BITS, MIN, HALVES, 4>(job, i, 0);
            tile::<BITS, MIN, HALVES, 4>(job, i, 1);
            i += 4;
        }
        while job.count - i >= 1 {
            tile::<BITS, MIN, HALVES, 1>(job, i, 0);
            tile::<BITS, MIN, HALVES, 1>(job, i, 1);
            i += 1;
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers the whole inner loop")]
unsafe fn tile<const BITS: u8, const MIN: bool, const HALVES: bool, const M: usize>(
    job: BlockJob<'_>,
    row: usize,
    half: usize,
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
        let mut quants = job.panel.as_ptr().add(half * 32);
        let mut scales = job.panel.as_ptr().add(blocks * packing.quant_bytes() + half * 16);
        let mut acc = [_mm256_setzero_ps(); M];
        let mut ahead = job.panel.as_ptr().wrapping_add(AHEAD);
        for block in 0..blocks {
            if row == 0 && half == 0 {
                for line in (0..block_bytes).step_by(64) {
                    _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(line).cast());
                }
                ahead = ahead.wrapping_add(block_bytes);
            }
            let d = f16_lanes(scales);
            let second = if MIN || HALVES { f16_lanes(scales.add(PANEL * 2)) } else { d };
            let x: [usize; M] = std::array::from_fn(|m| first + m * blocks + block);
            let mut sums: [__m256i; M] = std::array::from_fn(|m| match (MIN, HALVES) {
                (true, _) => _mm256_setzero_si256(),
                (_, true) => offset::<BITS>(*job.x.negative_halves.as_ptr().add(x[m] * 2)),
                _ => offset::<BITS>(*job.x.negative_sum.as_ptr().add(x[m])),
            });
            let q: [*const i32; M] = std::array::from_fn(|m| job.x.q.as_ptr().add(x[m] * BLOCK).cast());
            quarter::<BITS, M>(quants, 0, q, &mut sums);
            quarter::<BITS, M>(quants, 1, q, &mut sums);
            if HALVES {
                for (m, acc) in acc.iter_mut().enumerate() {
                    let scale = _mm256_mul_ps(d, _mm256_set1_ps(*job.x.scale.as_ptr().add(x[m])));
                    *acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[m]), scale, *acc);
                    if MIN {
                        let scaled_half = _mm256_set1_ps(job.x.scaled_half(x[m] * 2));
                        *acc = _mm256_fmadd_ps(f16_lanes(scales.add(PANEL * 4)), scaled_half, *acc);
                        sums[m] = _mm256_setzero_si256();
                    } else {
                        sums[m] = offset::<BITS>(*job.x.negative_halves.as_ptr().add(x[m] * 2 + 1));
                    }
                }
            }
            quarter::<BITS, M>(quants, 2, q, &mut sums);
            quarter::<BITS, M>(quants, 3, q, &mut sums);
            let d = if HALVES { second } else { d };
            for (m, acc) in acc.iter_mut().enumerate() {
                let scale = _mm256_mul_ps(d, _mm256_set1_ps(*job.x.scale.as_ptr().add(x[m])));
                *acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[m]), scale, *acc);
                if MIN && HALVES {
                    let scaled_half = _mm256_set1_ps(job.x.scaled_half(x[m] * 2 + 1));
                    *acc = _mm256_fmadd_ps(f16_lanes(scales.add(PANEL * 6)), scaled_half, *acc);
                } else if MIN {
                    let scaled_sum = _mm256_set1_ps(*job.x.scaled_sum.as_ptr().add(x[m]));
                    *acc = _mm256_fmadd_ps(second, scaled_sum, *acc);
                }
            }
            quants = quants.add(packing.quant_bytes());
            scales = scales.add(packing.scales() * PANEL * 2);
        }
        for (m, acc) in acc.into_iter().enumerate() {
            _mm256_storeu_ps(job.y.add((row + m) * job.y_row + half * 8), acc);
        }
    }
}

/// Minus the stored integers' offset times the sum of the activations.
#[inline]
#[target_feature(enable = "avx2")]
fn offset<const BITS: u8>(negative_sum: i32) -> __m256i {
    let sum = _mm256_set1_epi32(negative_sum);
    match BITS {
        4 => _mm256_slli_epi32::<3>(sum),
        5 => _mm256_slli_epi32::<4>(sum),
        _ => _mm256_slli_epi32::<7>(sum),
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn f16_lanes(from: *const u8) -> __m256 {
    // SAFETY: the caller's pointer is readable for 16 bytes.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(from.cast()) })
}

/// Adds four steps (eight columns) of a block for M rows of x.
///
/// # Safety
/// `quants` must be readable for a block of the packing, each of `x` for sixteen i32.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn quarter<const BITS: u8, const M: usize>(
    quants: *const u8,
    quarter: usize,
    x: [*const i32; M],
    sums: &mut [__m256i; M],
) {
    // SAFETY: the caller's promise.
    let weights = unsafe { widen::<BITS>(quants, quarter) };
    for (m, sum) in sums.iter_mut().enumerate() {
        for (step, &weights) in weights.iter().enumerate() {
            // SAFETY: the caller's promise.
            let at = unsafe { x[m].add(quarter * 4 + step) };
            // SAFETY: the caller's promise; pairs of i16 aren't aligned to four bytes by type.
            let pair = _mm256_set1_epi32(unsafe { at.read_unaligned() });
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(weights, pair));
        }
    }
}

/// Four steps of a block as 16-bit words.
///
/// # Safety
/// `quants` must be readable for a block of the packing.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn widen<const BITS: u8>(quants: *const u8, quarter: usize) -> [__m256i; 4] {
    let load = |line: usize| {
        // SAFETY: the caller's promise.
        let at = unsafe { quants.add(line * 64) };
        // SAFETY: the caller's promise; 32 of a line's 64 bytes are this half's.
        unsafe { _mm256_loadu_si256(at.cast()) }
    };
    if BITS == 8 {
        let byte = _mm256_set1_epi16(0xFF);
        let (a, b) = (load(quarter * 2), load(quarter * 2 + 1));
        return [
            _mm256_and_si256(a, byte),
            _mm256_srli_epi16::<8>(a),
            _mm256_and_si256(b, byte),
            _mm256_srli_epi16::<8>(b),
        ];
    }
    let (line, nibble) = (load(quarter), _mm256_set1_epi16(15));
    let low = [
        _mm256_and_si256(line, nibble),
        _mm256_and_si256(_mm256_srli_epi16::<4>(line), nibble),
        _mm256_and_si256(_mm256_srli_epi16::<8>(line), nibble),
        _mm256_srli_epi16::<12>(line),
    ];
    if BITS == 4 {
        return low;
    }
    // The quarter's four bits move to the lowest bits of each word, then one after the other to bit 4.
    let high = _mm256_srl_epi16(load(4), _mm_cvtsi32_si128(quarter as i32 * 4));
    let fifth = _mm256_set1_epi16(16);
    [
        _mm256_or_si256(low[0], _mm256_and_si256(_mm256_slli_epi16::<4>(high), fifth)),
        _mm256_or_si256(low[1], _mm256_and_si256(_mm256_slli_epi16::<3>(high), fifth)),
        _mm256_or_si256(low[2], _mm256_and_si256(_mm256_slli_epi16::<2>(high), fifth)),
        _mm256_or_si256(low[3], _mm256_and_si256(_mm256_slli_epi16::<1>(high), fifth)),
    ]
}
