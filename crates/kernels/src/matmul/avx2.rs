//! The inner loop with AVX2: eight rows at a time, half a panel after the other.
//!
//! `maddubs` adds two products into 16 bits; as many steps are added there as can't overflow before the
//! sum is widened: eight for 4-bit weights (8 · 2 · 15 · 127 < 2¹⁵), four for 5-bit ones, one for 8-bit ones,
//! whose sign is moved to the activations because both operands need their full range.

use std::arch::x86_64::{
    __m256, __m256i, _mm_cvtsi32_si128, _mm_loadu_si128, _mm256_abs_epi8, _mm256_add_epi16,
    _mm256_add_epi32, _mm256_and_si256, _mm256_cvtepi32_ps, _mm256_cvtph_ps, _mm256_fmadd_ps,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_or_si256,
    _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps,
    _mm256_setzero_si256, _mm256_sign_epi8, _mm256_sll_epi32, _mm256_srl_epi32, _mm256_srli_epi16,
    _mm256_storeu_ps, _mm256_xor_si256,
};

use super::{BLOCK, BlockJob, PANEL};

/// Computes `job.count` rows of sixteen outputs.
///
/// # Safety
/// The processor must have AVX2, FMA and F16C (all of AVX2's generation do); `job.y` must have room for
/// sixteen values at each of `count` rows of stride `y_row`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run(job: BlockJob<'_>) {
    let packing = job.packing;
    // SAFETY: the caller's promise, passed on.
    unsafe {
        match (packing.bits, packing.min, packing.halves) {
            (4, false, _) => rows::<4, false, false>(job),
            (4, true, _) => rows::<4, true, false>(job),
            (5, false, _) => rows::<5, false, false>(job),
            (5, true, _) => rows::<5, true, false>(job),
            (_, _, false) => rows::<8, false, false>(job),
            (_, _, true) => rows::<8, false, true>(job),
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one promise covers every tile"
)]
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
#[expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one promise covers the whole inner loop"
)]
unsafe fn tile<const BITS: u8, const MIN: bool, const HALVES: bool, const M: usize>(
    job: BlockJob<'_>,
    row: usize,
    half: usize,
) {
    let (packing, blocks) = (job.packing, job.x.blocks());
    let first = (job.first + row) * blocks;
    let last_row = first + (M - 1) * blocks;
    assert!(
        (last_row + blocks) * BLOCK <= job.x.q.len() && row + M <= job.count,
        "rows of x"
    );
    assert!(
        job.panel.len() >= blocks * (packing.quant_bytes() + packing.scales() * PANEL * 2),
        "panel"
    );
    // SAFETY: the assertions above keep every address inside the panel and the activations; y is the
    // caller's promise.
    unsafe {
        let mut quants = job.panel.as_ptr().add(half * 32);
        let mut scales = job
            .panel
            .as_ptr()
            .add(blocks * packing.quant_bytes() + half * 16);
        let mut acc = [_mm256_setzero_ps(); M];
        for block in 0..blocks {
            let x: [*const i32; M] = std::array::from_fn(|m| {
                job.x
                    .q
                    .as_ptr()
                    .add((first + m * blocks + block) * BLOCK)
                    .cast()
            });
            let sums: [[__m256i; 2]; M] = match BITS {
                8 => eight_bit(quants, x),
                _ => packed::<BITS, M>(quants, x),
            };
            let d = f16_lanes(scales);
            let second = if MIN || HALVES {
                f16_lanes(scales.add(PANEL * 2))
            } else {
                d
            };
            for (m, acc) in acc.iter_mut().enumerate() {
                let x_block = first + m * blocks + block;
                let x_scale = _mm256_set1_ps(*job.x.scale.as_ptr().add(x_block));
                if HALVES {
                    let [low, high] = sums[m];
                    *acc =
                        _mm256_fmadd_ps(_mm256_cvtepi32_ps(low), _mm256_mul_ps(d, x_scale), *acc);
                    *acc = _mm256_fmadd_ps(
                        _mm256_cvtepi32_ps(high),
                        _mm256_mul_ps(second, x_scale),
                        *acc,
                    );
                    continue;
                }
                let mut sum = _mm256_add_epi32(sums[m][0], sums[m][1]);
                if !MIN && BITS < 8 {
                    let offset = *job.x.negative_sum.as_ptr().add(x_block) << (BITS - 1);
                    sum = _mm256_add_epi32(sum, _mm256_set1_epi32(offset));
                }
                *acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(d, x_scale), *acc);
                if MIN {
                    let scaled_sum = _mm256_set1_ps(*job.x.scaled_sum.as_ptr().add(x_block));
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

#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn f16_lanes(from: *const u8) -> __m256 {
    // SAFETY: the caller's pointer is readable for 16 bytes.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(from.cast()) })
}

#[inline]
#[target_feature(enable = "avx2")]
unsafe fn line(quants: *const u8, index: usize) -> __m256i {
    // SAFETY: the caller's block has this line.
    let at = unsafe { quants.add(index * 64) };
    // SAFETY: as above; 32 of its 64 bytes are this half's.
    unsafe { _mm256_loadu_si256(at.cast()) }
}

/// Four activations of a step in every lane.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn broadcast(x: *const i32, step: usize) -> __m256i {
    // SAFETY: the caller's block has eight steps.
    let at = unsafe { x.add(step) };
    // SAFETY: as above; i8 blocks aren't aligned to four bytes by type.
    _mm256_set1_epi32(unsafe { at.read_unaligned() })
}

/// Sums of a block of 4- or 5-bit weights for M rows of x, as two parts.
#[inline]
#[target_feature(enable = "avx2")]
#[expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one promise covers the block's reads"
)]
unsafe fn packed<const BITS: u8, const M: usize>(
    quants: *const u8,
    x: [*const i32; M],
) -> [[__m256i; 2]; M] {
    let (nibble, fifth, ones) = (
        _mm256_set1_epi8(15),
        _mm256_set1_epi8(16),
        _mm256_set1_epi16(1),
    );
    let mut narrow = [_mm256_setzero_si256(); M];
    let mut sums = [[_mm256_setzero_si256(); 2]; M];
    // SAFETY: a block has four lines of nibbles, a line of fifth bits where BITS is 5, and eight steps of x.
    unsafe {
        let high = if BITS == 5 { line(quants, 4) } else { nibble };
        for pair in 0..4 {
            let raw = line(quants, pair);
            let mut low = _mm256_and_si256(raw, nibble);
            let mut up = _mm256_and_si256(_mm256_srli_epi16::<4>(raw), nibble);
            if BITS == 5 {
                let shift = _mm_cvtsi32_si128(4 - pair as i32);
                low = _mm256_or_si256(low, _mm256_and_si256(_mm256_sll_epi32(high, shift), fifth));
                let shift = _mm_cvtsi32_si128(pair as i32);
                up = _mm256_or_si256(up, _mm256_and_si256(_mm256_srl_epi32(high, shift), fifth));
            }
            for m in 0..M {
                let products = _mm256_maddubs_epi16(low, broadcast(x[m], pair));
                narrow[m] = _mm256_add_epi16(narrow[m], products);
                let products = _mm256_maddubs_epi16(up, broadcast(x[m], pair + 4));
                narrow[m] = _mm256_add_epi16(narrow[m], products);
            }
            if (BITS == 5 && pair == 1) || pair == 3 {
                for m in 0..M {
                    sums[m][pair / 2] = _mm256_madd_epi16(narrow[m], ones);
                    narrow[m] = _mm256_setzero_si256();
                }
            }
        }
    }
    sums
}

/// Sums of a block of 8-bit weights for M rows of x, columns 0..16 and 16..32 apart.
#[inline]
#[target_feature(enable = "avx2")]
#[expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one promise covers the block's reads"
)]
unsafe fn eight_bit<const M: usize>(quants: *const u8, x: [*const i32; M]) -> [[__m256i; 2]; M] {
    let (bias, ones) = (_mm256_set1_epi8(-128), _mm256_set1_epi16(1));
    let mut sums = [[_mm256_setzero_si256(); 2]; M];
    for step in 0..8 {
        // SAFETY: a block has eight lines and eight steps of x.
        unsafe {
            let weights = _mm256_xor_si256(line(quants, step), bias);
            for m in 0..M {
                let x = broadcast(x[m], step);
                let products =
                    _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(weights, x));
                let wide = _mm256_madd_epi16(products, ones);
                sums[m][step / 4] = _mm256_add_epi32(sums[m][step / 4], wide);
            }
        }
    }
    sums
}
