//! Dense f32 products. Each output is one chain of fused multiply-adds over K in ascending order.
//!
//! Three forms, as linear layers need them: `x Wᵀ` (forward), `dy W` (input gradient) and `dyᵀ x` (weight
//! gradient). The right-hand side is read in strips of sixteen columns, one lane each.
//!
//! * `blocked` — products of many rows: both sides packed for the caches

mod blocked;

pub(crate) use blocked::Right as PackedRight;

use crate::cpu::Level;
use crate::dispatch::level;
use crate::lanes::Lanes;
#[cfg(target_arch = "x86_64")]
use crate::lanes::{Avx2Lanes, Avx512Lanes};
use crate::pool::{Parts, Pool};

/// Lanes of a strip: outputs computed side by side.
pub(crate) const STRIP: usize = 16;

/// What happens to the old content of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accumulate {
    Overwrite,
    Add,
}

/// `c (+)= a bᵀ`.
///
/// # Shapes
/// a `[M, K]`, b `[N, K]`, c `[M, N]`
pub fn gemm_nt(pool: &Pool, a: &[f32], b: &[f32], c: &mut [f32], k: usize, mode: Accumulate) {
    if k == 0 || a.is_empty() || b.is_empty() {
        return clear(c, mode);
    }
    let (m, n) = (a.len() / k, b.len() / k);
    assert_eq!((a.len(), b.len(), c.len()), (m * k, n * k, m * n), "a bᵀ over k {k}");
    if blocked::pays([m, n, k]) {
        let left = Left { data: a, row: k, col: 1 };
        return blocked::product(pool, left, &blocked::Rows { data: b, k }, c, [m, n, k], mode);
    }
    let strips = pack_strips(b, n, k);
    product(
        pool,
        Left { data: a, row: k, col: 1 },
        Right { data: &strips, step: STRIP, strip: k * STRIP },
        c,
        [m, n, k],
        mode,
    );
}

/// Rows of b `[N, K]` interleaved by sixteen: `[N / 16, K, 16]`, the last strip filled up with zeros.
pub(crate) fn pack_strips(b: &[f32], n: usize, k: usize) -> Vec<f32> {
    let mut strips = vec![0.0; n.div_ceil(STRIP) * STRIP * k];
    for (strip, rows) in strips.chunks_exact_mut(STRIP * k).zip(b.chunks(STRIP * k)) {
        for (lane, row) in rows.chunks_exact(k).enumerate() {
            for (to, &value) in strip[lane..].iter_mut().step_by(STRIP).zip(row) {
                *to = value;
            }
        }
    }
    strips
}

/// `c (+)= a b`.
///
/// # Shapes
/// a `[M, K]`, b `[K, N]`, c `[M, N]`
pub fn gemm_nn(pool: &Pool, a: &[f32], b: &[f32], c: &mut [f32], k: usize, mode: Accumulate) {
    if k == 0 || a.is_empty() || b.is_empty() {
        return clear(c, mode);
    }
    let (m, n) = (a.len() / k, b.len() / k);
    assert_eq!((a.len(), b.len(), c.len()), (m * k, n * k, m * n), "a b over k {k}");
    let left = Left { data: a, row: k, col: 1 };
    if blocked::pays([m, n, k]) {
        return blocked::product(pool, left, &blocked::Columns { data: b, n }, c, [m, n, k], mode);
    }
    with_padded(b, k, n, |right| product(pool, left, right, c, [m, n, k], mode));
}

/// `c (+)= aᵀ b`.
///
/// # Shapes
/// a `[K, M]`, b `[K, N]`, c `[M, N]`
pub fn gemm_tn(pool: &Pool, a: &[f32], b: &[f32], c: &mut [f32], k: usize, mode: Accumulate) {
    if k == 0 || a.is_empty() || b.is_empty() {
        return clear(c, mode);
    }
    let (m, n) = (a.len() / k, b.len() / k);
    assert_eq!((a.len(), b.len(), c.len()), (m * k, n * k, m * n), "aᵀ b over k {k}");
    let left = Left { data: a, row: 1, col: m };
    if blocked::pays([m, n, k]) {
        return blocked::product(pool, left, &blocked::Columns { data: b, n }, c, [m, n, k], mode);
    }
    with_padded(b, k, n, |right| product(pool, left, right, c, [m, n, k], mode));
}

/// `c = a b` for rows of a and a b that is packed by itself; whether that pays is the caller's to ask first.
pub(crate) fn gemm_packing(
    pool: &Pool,
    a: &[f32],
    b: &dyn PackedRight,
    c: &mut [f32],
    [m, n, k]: [usize; 3],
) {
    blocked::product(pool, Left { data: a, row: k, col: 1 }, b, c, [m, n, k], Accumulate::Overwrite);
}

/// Whether [`gemm_packing`] is faster than going through b once for all rows.
pub(crate) fn packing_pays(sizes: [usize; 3]) -> bool {
    blocked::pays(sizes)
}

fn clear(c: &mut [f32], mode: Accumulate) {
    if mode == Accumulate::Overwrite {
        c.fill(0.0);
    }
}

/// Gives `b` `[K, N]` as strips: in place if N is a multiple of sixteen, else copied with zeros beside it.
fn with_padded(b: &[f32], k: usize, n: usize, body: impl FnOnce(Right<'_>)) {
    if n.is_multiple_of(STRIP) {
        return body(Right { data: b, step: n, strip: STRIP });
    }
    let width = n.next_multiple_of(STRIP);
    let mut padded = vec![0.0; k * width];
    for (to, from) in padded.chunks_exact_mut(width).zip(b.chunks_exact(n)) {
        to[..n].copy_from_slice(from);
    }
    body(Right { data: &padded, step: width, strip: STRIP });
}

/// The left matrix: element (m, k) is at `m * row + k * col`.
#[derive(Clone, Copy)]
struct Left<'a> {
    data: &'a [f32],
    row: usize,
    col: usize,
}

/// The right matrix: sixteen columns of strip s at k are at `s * strip + k * step`.
#[derive(Clone, Copy)]
struct Right<'a> {
    data: &'a [f32],
    step: usize,
    strip: usize,
}

fn product(pool: &Pool, a: Left<'_>, b: Right<'_>, c: &mut [f32], [m, n, k]: [usize; 3], mode: Accumulate) {
    let strips = n.div_ceil(STRIP);
    // A task is a block of rows times all strips, or all rows times some strips: whichever splits.
    let (row_block, strip_block) =
        if m >= 64 { (32, strips) } else { (m, strips.div_ceil(pool.threads() * 4)) };
    let (row_tasks, strip_tasks) = (m.div_ceil(row_block), strips.div_ceil(strip_block));
    let parts = Parts::new(c);
    pool.run(row_tasks * strip_tasks, &|task| {
        let rows = task / strip_tasks * row_block..(task / strip_tasks * row_block + row_block).min(m);
        let first = task % strip_tasks * strip_block;
        for strip in first..(first + strip_block).min(strips) {
            let width = STRIP.min(n - strip * STRIP);
            let right = Tile { b: b.data[strip * b.strip..].as_ptr(), step: b.step, k };
            let mut scratch = [0.0; STRIP];
            for row in rows.clone() {
                // The chunked tile below handles whole strips; a narrow last strip goes row by row.
                if width == STRIP {
                    break;
                }
                // SAFETY: this task alone writes these columns of these rows.
                let out = unsafe { parts.slice(row * n + strip * STRIP, width) };
                scratch[..width].copy_from_slice(out);
                // SAFETY: `scratch` holds a row of one strip; strides stay inside `a` and `b`.
                unsafe {
                    right.rows(
                        a.data[row * a.row..].as_ptr(),
                        [a.row, a.col],
                        scratch.as_mut_ptr(),
                        [1, STRIP],
                        mode,
                    );
                };
                out.copy_from_slice(&scratch[..width]);
            }
            if width == STRIP {
                // SAFETY: this task alone writes these columns of these rows, which lie inside `c`.
                let out =
                    unsafe { parts.slice(rows.start * n + strip * STRIP, (rows.len() - 1) * n + STRIP) };
                let from = a.data[rows.start * a.row..].as_ptr();
                // SAFETY: rows of stride n lie inside `out`; strides stay inside `a` and `b`.
                unsafe { right.rows(from, [a.row, a.col], out.as_mut_ptr(), [rows.len(), n], mode) };
            }
        }
    });
}

/// One strip of the right-hand side: K steps of sixteen values.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    pub(crate) b: *const f32,
    pub(crate) step: usize,
    pub(crate) k: usize,
}

impl Tile {
    /// `c[m] (+)= Σₖ a[m, k] b[k]` for `rows` rows of c with stride `c_row`.
    ///
    /// # Safety
    /// `a` must be readable at `m * a_row + k * a_col`, `b` for sixteen values at each step, and `c`
    /// writable for sixteen values at each row.
    #[inline]
    pub(crate) unsafe fn rows(
        self,
        a: *const f32,
        a_strides: [usize; 2],
        c: *mut f32,
        [rows, c_row]: [usize; 2],
        mode: Accumulate,
    ) {
        let task = Rows { tile: self, a, a_strides, c, count: rows, c_row, add: mode == Accumulate::Add };
        match level() {
            // SAFETY: the caller's promise; the level was detected.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { rows_avx512(task) },
            // SAFETY: the caller's promise; the level was detected.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { rows_avx2(task) },
            // SAFETY: the caller's promise.
            _ => unsafe { task.run::<[f32; 16], 2>() },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn rows_avx512(task: Rows) {
    // SAFETY: the caller's promise; this function is compiled for AVX-512 F.
    unsafe { task.run::<Avx512Lanes, { Avx512Lanes::TILE }>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn rows_avx2(task: Rows) {
    // SAFETY: the caller's promise; this function is compiled for AVX2 and FMA.
    unsafe { task.run::<Avx2Lanes, { Avx2Lanes::TILE }>() }
}

#[derive(Clone, Copy)]
struct Rows {
    tile: Tile,
    a: *const f32,
    a_strides: [usize; 2],
    c: *mut f32,
    count: usize,
    c_row: usize,
    add: bool,
}

impl Rows {
    #[inline(always)]
    unsafe fn run<L: Lanes, const M: usize>(self) {
        let mut row = 0;
        while row + M <= self.count {
            // SAFETY: M rows are left; the caller's promise.
            unsafe { self.block::<L, M>(row) };
            row += M;
        }
        while row < self.count {
            // SAFETY: one row is left; the caller's promise.
            unsafe { self.block::<L, 1>(row) };
            row += 1;
        }
    }

    /// M rows at once: each value of b is loaded once for all of them.
    #[inline(always)]
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers the whole inner loop")]
    unsafe fn block<L: Lanes, const M: usize>(self, row: usize) {
        let [a_row, a_col] = self.a_strides;
        // SAFETY: all addresses are those the caller promised; `row + M <= rows`.
        unsafe {
            let a = self.a.add(row * a_row);
            let c = self.c.add(row * self.c_row);
            let mut acc = [L::splat(0.0); M];
            if self.add {
                for (m, acc) in acc.iter_mut().enumerate() {
                    *acc = L::load(c.add(m * self.c_row));
                }
            }
            for k in 0..self.tile.k {
                let b = L::load(self.tile.b.add(k * self.tile.step));
                for (m, acc) in acc.iter_mut().enumerate() {
                    *acc = L::splat(*a.add(m * a_row + k * a_col)).fma(b, *acc);
                }
            }
            for (m, acc) in acc.iter().enumerate() {
                acc.store(c.add(m * self.c_row));
            }
        }
    }
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

    fn transposed(a: &[f32], rows: usize, cols: usize) -> Vec<f32> {
        (0..cols * rows).map(|i| a[i % rows * cols + i / rows]).collect()
    }

    /// One chain of fused multiply-adds per output: the law every path keeps.
    fn reference(a: &[f32], b: &[f32], c: &mut [f32], [m, n, k]: [usize; 3]) {
        for i in 0..m {
            for j in 0..n {
                for x in 0..k {
                    c[i * n + j] = a[i * k + x].mul_add(b[j * k + x], c[i * n + j]);
                }
            }
        }
    }

    /// One value, narrow and wide, below and above what is packed; beside it edges of tiles, of blocks of K and of
    /// what is packed at a time, and rows that share their places of a cache.
    const SHAPES: [[usize; 3]; 11] = [
        [1, 1, 1],
        [3, 17, 5],
        [16, 16, 16],
        [9, 40, 33],
        [70, 48, 20],
        [16, 49, 42],
        [33, 700, 3],
        [61, 65, 257],
        [130, 97, 1024],
        [17, 16, 4100],
        [16, 1100, 4097],
    ];

    #[test]
    fn all_forms_equal_the_reference_chain_for_any_thread_count() {
        for [m, n, k] in SHAPES {
            let (a, b) = (values(m * k, 1), values(n * k, 2));
            let start = values(m * n, 3);
            let mut expected = start.clone();
            reference(&a, &b, &mut expected, [m, n, k]);
            for threads in [1, 3] {
                let pool = Pool::new(threads);
                let run = |form: &dyn Fn(&mut [f32])| {
                    let c = at_every_level(|| {
                        let mut c = start.clone();
                        form(&mut c);
                        c
                    });
                    assert!(c == expected, "{m} {n} {k}, {threads} threads");
                };
                run(&|c| gemm_nt(&pool, &a, &b, c, k, Accumulate::Add));
                run(&|c| gemm_nn(&pool, &a, &transposed(&b, n, k), c, k, Accumulate::Add));
                run(&|c| gemm_tn(&pool, &transposed(&a, m, k), &transposed(&b, n, k), c, k, Accumulate::Add));
            }
        }
    }

    #[test]
    fn overwrite_forgets_the_old_content() {
        let mut c = [7.0; 2];
        gemm_nt(&Pool::new(1), &[1.0, 2.0], &[3.0, 4.0, 5.0, 6.0], &mut c, 2, Accumulate::Overwrite);
        assert_eq!(c.map(f32::to_bits), [11.0f32, 17.0].map(f32::to_bits));
    }
}
