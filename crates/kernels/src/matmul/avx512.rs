//! The inner loop with AVX-512 VNNI: one register of sixteen rows, four columns a step.
//!
//! Weights of a block are unpacked once for up to eight rows of x; each row keeps its f32 sums in one
//! register, and `vpdpbusd` takes the four activations of a step as a broadcast memory operand.

use std::arch::x86_64::{
    __m512, __m512i, _mm_cvtsi32_si128, _mm256_loadu_si256, _mm512_and_si512, _mm512_cvtepi32_ps,
    _mm512_cvtph_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_si512, _mm512_mul_ps,
    _mm512_or_si512, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_sll_epi32, _mm512_slli_epi32, _mm512_srl_epi32, _mm512_srli_epi16,
    _mm512_storeu_ps,
};

use super::{BLOCK, BlockJob, PANEL};

/// Computes `job.count` rows of sixteen outputs.
///
/// # Safety
/// The processor must have AVX-512 F, BW, VL and VNNI; `job.y` must have room for sixteen values at each
/// of `count` rows of stride `y_row`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
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

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one promise covers every tile"
)]
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
#[expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one promise covers the whole inner loop"
)]
unsafe fn tile<const BITS: u8, const MIN: bool, const HALVES: bool, const M: usize>(
    job: BlockJob<'_>,
    row: usize,
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
        let mut quants = job.panel.as_ptr();
        let mut scales = quants.add(blocks * packing.quant_bytes());
        let mut acc = [_mm512_setzero_ps(); M];
        for block in 0..blocks {
            let weights = unpack::<BITS>(quants);
            let d = f16_lanes(scales);
            let second = if MIN || HALVES {
                f16_lanes(scales.add(PANEL * 2))
            } else {
                d
            };
            for (m, acc) in acc.iter_mut().enumerate() {
                let x_block = first + m * blocks + block;
                let x = job.x.q.as_ptr().add(x_block * BLOCK).cast::<i32>();
                let x_scale = _mm512_set1_ps(*job.x.scale.as_ptr().add(x_block));
                if HALVES {
                    let sums = job.x.negative_halves.as_ptr().add(x_block * 2);
                    let low = dot(offset::<BITS>(*sums), &weights[..4], x);
                    let high = dot(offset::<BITS>(*sums.add(1)), &weights[4..], x.add(4));
                    *acc =
                        _mm512_fmadd_ps(_mm512_cvtepi32_ps(low), _mm512_mul_ps(d, x_scale), *acc);
                    *acc = _mm512_fmadd_ps(
                        _mm512_cvtepi32_ps(high),
                        _mm512_mul_ps(second, x_scale),
                        *acc,
                    );
                    continue;
                }
                let start = match MIN {
                    true => _mm512_setzero_si512(),
                    false => offset::<BITS>(*job.x.negative_sum.as_ptr().add(x_block)),
                };
                let sum = dot(start, &weights, x);
                *acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(d, x_scale), *acc);
                if MIN {
                    let scaled_sum = _mm512_set1_ps(*job.x.scaled_sum.as_ptr().add(x_block));
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

/// Adds `Σ weights[s] · x[s]`, four columns a step.
///
/// # Safety
/// `x` must be readable for one i32 a step.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn dot(start: __m512i, weights: &[__m512i], x: *const i32) -> __m512i {
    weights
        .iter()
        .enumerate()
        .fold(start, |sum, (step, &weights)| {
            // SAFETY: the caller's promise.
            let at = unsafe { x.add(step) };
            // SAFETY: the caller's promise; i8 blocks aren't aligned to four bytes by type.
            let x = unsafe { at.read_unaligned() };
            _mm512_dpbusd_epi32(sum, weights, _mm512_set1_epi32(x))
        })
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn f16_lanes(from: *const u8) -> __m512 {
    // SAFETY: the caller's pointer is readable for 32 bytes.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(from.cast()) })
}

/// The eight steps of a block as unsigned bytes.
///
/// # Safety
/// `quants` must be readable for a block of the packing.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn unpack<const BITS: u8>(quants: *const u8) -> [__m512i; 8] {
    let load = |line: usize| {
        // SAFETY: the caller's promise.
        let at = unsafe { quants.add(line * 64) };
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_si512(at.cast()) }
    };
    if BITS == 8 {
        return std::array::from_fn(load);
    }
    let nibble = _mm512_set1_epi8(15);
    let lines: [__m512i; 4] = std::array::from_fn(load);
    let low: [__m512i; 8] = std::array::from_fn(|step| match step {
        0..4 => _mm512_and_si512(lines[step], nibble),
        _ => _mm512_and_si512(_mm512_srli_epi16::<4>(lines[step - 4]), nibble),
    });
    if BITS == 4 {
        return low;
    }
    let (high, fifth) = (load(4), _mm512_set1_epi8(16));
    std::array::from_fn(|step| {
        // Bit `step` of each byte moves to bit 4.
        let moved = match step {
            0..4 => _mm512_sll_epi32(high, _mm_cvtsi32_si128(4 - step as i32)),
            _ => _mm512_srl_epi32(high, _mm_cvtsi32_si128(step as i32 - 4)),
        };
        _mm512_or_si512(low[step], _mm512_and_si512(moved, fifth))
    })
}
