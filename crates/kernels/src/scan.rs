//! A query beside many rows: what an exact vector search spends its time in.
//!
//! In: rows of 8-bit integers and a query of 16-bit integers. Out: one product per row, in whole numbers, so that
//! every instruction set gives the same. Also the f32 product that rows are scored anew with. Scales, bounds and the
//! choice of the best are the caller's.

use crate::cpu::Level;
use crate::dispatch::{self, multiversion};

/// Rows and queries of [`products`] are filled up with zeros to a multiple of this many values.
pub const SCAN_LANES: usize = 32;

/// Rows taken together, so that a part of the query is loaded once for all.
const ROWS: usize = 4;

/// Bytes a row is asked for before it is read: the hardware's own prefetching stops at the end of each page of memory.
const AHEAD: usize = 4096;

/// `out[r] = Σ rows[r, i]·query[i]`.
///
/// # Shapes
/// rows `[R, D]`, query `[D]`, out `[R]`; D is a multiple of [`SCAN_LANES`]. The caller sees to it that no sum
/// passes 32 bits: `‖row‖·‖query‖ < 2³¹`.
pub fn products(rows: &[i8], query: &[i16], out: &mut [i32]) {
    let dim = query.len();
    assert!(dim.is_multiple_of(SCAN_LANES), "{dim} values aren't whole lanes of {SCAN_LANES}");
    assert_eq!(rows.len(), dim * out.len(), "rows aren't [{}, {dim}]", out.len());
    match dispatch::level() {
        // SAFETY: `level` has found the features.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { x86::products_avx512(rows, query, out) },
        // SAFETY: `level` has found the feature.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { x86::products_avx2(rows, query, out) },
        _ => each(rows, query, out, plain, |rows, query| rows.map(|row| plain(row, query))),
    }
}

multiversion! {
    /// `Σ a[i]·b[i]` in sixteen lanes and one tree: equal bits on every instruction set.
    pub fn dot(a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len(), "two vectors of one length");
        dispatch::dot(a, b)
    }
}

/// Goes through the rows, four at a time while there are four.
#[inline(always)]
fn each(
    rows: &[i8],
    query: &[i16],
    out: &mut [i32],
    one: impl Fn(&[i8], &[i16]) -> i32,
    four: impl Fn([&[i8]; ROWS], &[i16]) -> [i32; ROWS],
) {
    let dim = query.len();
    let row = |r: usize| &rows[r * dim..][..dim];
    let num_rows = out.len();
    let (fours, rest) = out.as_chunks_mut::<ROWS>();
    for (at, out) in fours.iter_mut().enumerate() {
        for line in (0..ROWS * dim).step_by(64) {
            prefetch(rows, at * ROWS * dim + AHEAD + line);
        }
        *out = four(std::array::from_fn(|r| row(at * ROWS + r)), query);
    }
    let done = num_rows - rest.len();
    for (at, out) in rest.iter_mut().enumerate() {
        *out = one(row(done + at), query);
    }
}

/// Asks for the cache line `at` bytes on, which may lie behind the rows: a hint that faults never.
#[inline(always)]
fn prefetch(rows: &[i8], at: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint that reads nothing; SSE is in x86-64's baseline.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(rows.as_ptr().wrapping_add(at).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (rows, at);
}

fn plain(row: &[i8], query: &[i16]) -> i32 {
    row.iter().zip(query).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256i, __m512i, _mm_add_epi32, _mm_cvtsi128_si32, _mm_loadu_si128, _mm_shuffle_epi32,
        _mm256_add_epi32, _mm256_castsi256_si128, _mm256_cvtepi8_epi16, _mm256_extracti128_si256,
        _mm256_loadu_si256, _mm256_madd_epi16, _mm256_setzero_si256, _mm512_cvtepi8_epi16,
        _mm512_dpwssd_epi32, _mm512_loadu_si512, _mm512_reduce_add_epi32, _mm512_setzero_si512,
    };

    use super::{ROWS, each};

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2")]
    pub(super) fn products_avx512(rows: &[i8], query: &[i16], out: &mut [i32]) {
        each(
            rows,
            query,
            out,
            |row, query| {
                let [sum] = sums_avx512([row], query);
                _mm512_reduce_add_epi32(sum)
            },
            |rows, query| {
                let sums: [__m512i; ROWS] = sums_avx512(rows, query);
                sums.map(|sum| _mm512_reduce_add_epi32(sum))
            },
        );
    }

    /// Sixteen partial sums a row: 32 bytes are widened to words and multiplied in pairs.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2")]
    fn sums_avx512<const R: usize>(rows: [&[i8]; R], query: &[i16]) -> [__m512i; R] {
        let mut sums = [_mm512_setzero_si512(); R];
        let (query, _) = query.as_chunks::<32>();
        let rows: [&[[i8; 32]]; R] = rows.map(|row| &row.as_chunks().0[..query.len()]);
        for (at, query) in query.iter().enumerate() {
            // SAFETY: the reference is valid for 32 words.
            let query = unsafe { _mm512_loadu_si512(query.as_ptr().cast()) };
            for (sum, row) in sums.iter_mut().zip(rows) {
                // SAFETY: the reference is valid for 32 bytes.
                let bytes = unsafe { _mm256_loadu_si256(row[at].as_ptr().cast()) };
                *sum = _mm512_dpwssd_epi32(*sum, _mm512_cvtepi8_epi16(bytes), query);
            }
        }
        sums
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn products_avx2(rows: &[i8], query: &[i16], out: &mut [i32]) {
        each(
            rows,
            query,
            out,
            |row, query| {
                let [sum] = sums_avx2([row], query);
                total_avx2(sum)
            },
            |rows, query| {
                let sums: [__m256i; ROWS] = sums_avx2(rows, query);
                sums.map(|sum| total_avx2(sum))
            },
        );
    }

    /// Eight partial sums a row.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn sums_avx2<const R: usize>(rows: [&[i8]; R], query: &[i16]) -> [__m256i; R] {
        let mut sums = [_mm256_setzero_si256(); R];
        let (query, _) = query.as_chunks::<16>();
        let rows: [&[[i8; 16]]; R] = rows.map(|row| &row.as_chunks().0[..query.len()]);
        for (at, query) in query.iter().enumerate() {
            // SAFETY: the reference is valid for 16 words.
            let query = unsafe { _mm256_loadu_si256(query.as_ptr().cast()) };
            for (sum, row) in sums.iter_mut().zip(rows) {
                // SAFETY: the reference is valid for 16 bytes.
                let bytes = unsafe { _mm_loadu_si128(row[at].as_ptr().cast()) };
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(_mm256_cvtepi8_epi16(bytes), query));
            }
        }
        sums
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn total_avx2(sums: __m256i) -> i32 {
        let four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
        let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b00_00_11_10>(four));
        _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b01>(two)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::at_every_level;

    /// Values that touch both ends of their range.
    fn values(len: usize, seed: i64, limit: i64) -> Vec<i64> {
        let step = |i: usize| (i as i64 + seed).wrapping_mul(2_654_435_761).rem_euclid(2 * limit + 1) - limit;
        (0..len).map(step).collect()
    }

    #[test]
    fn products_are_the_plain_sums_at_every_level() {
        for (dim, num_rows) in [(0, 3), (32, 0), (32, 1), (64, 4), (96, 7), (384, 9)] {
            let rows = values(dim * num_rows, 1, 127);
            let query = values(dim, 7, 12_000);
            let plain: Vec<i64> =
                (0..num_rows).map(|r| (0..dim).map(|i| rows[r * dim + i] * query[i]).sum()).collect();
            let rows: Vec<i8> = rows.iter().map(|&v| v as i8).collect();
            let query: Vec<i16> = query.iter().map(|&v| v as i16).collect();
            at_every_level(|| {
                let mut out = vec![i32::MIN; num_rows];
                products(&rows, &query, &mut out);
                assert_eq!(
                    out.iter().map(|&v| i64::from(v)).collect::<Vec<_>>(),
                    plain,
                    "{num_rows} x {dim}"
                );
                out.iter().map(|&v| f32::from_bits(v as u32)).collect()
            });
        }
    }

    #[test]
    fn a_dot_is_the_sum_in_f64_at_every_level() {
        for dim in [0, 1, 15, 16, 37, 384] {
            let float =
                |seed| values(dim, seed, 1000).iter().map(|&v| v as f32 / 700.0).collect::<Vec<f32>>();
            let (a, b) = (float(3), float(11));
            let plain: f64 = a.iter().zip(&b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            let [found] = at_every_level(|| vec![dot(&a, &b)])[..] else { panic!("one value") };
            assert!((f64::from(found) - plain).abs() < 1e-4, "{dim} values: {found} vs. {plain}");
        }
    }
}
