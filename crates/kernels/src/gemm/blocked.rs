//! Products with many rows, as BLIS lays them out (Van Zee & van de Geijn 2015): tiles that stay in registers, both
//! sides packed in the order in which the tile reads them, blocks of K that stay in the caches.
//!
//! A tile takes its sums from the output at the start of each block of K and puts them back at its end, so each
//! output remains one chain of fused multiply-adds over K in ascending order: blocks change no bit.

use std::cell::Cell;
use std::ops::Range;

use super::{Accumulate, Left, STRIP};
use crate::cpu::Level;
use crate::dispatch::level;
use crate::lanes::Lanes;
#[cfg(target_arch = "x86_64")]
use crate::lanes::{Avx2Lanes, Avx512Lanes};
use crate::pool::{Parts, Pool};

/// Values of K in a block: a tile's rows of it are 8 KiB, a quarter of a first-level cache.
const DEPTH: usize = 256;
/// Columns of the right side that a task goes through before its next rows: with [`DEPTH`], half of a second-level
/// cache of 1 MiB.
const WIDTH: usize = 512;
/// Tiles of rows that a task takes at most.
const TILES: usize = 16;
/// Rows of the left side this far apart, in values, share the places of a first-level cache: they are packed.
const CONFLICT: usize = 1024;
/// Values of K that the right side is packed over at a time, whole blocks.
const PACKED_DEPTH: usize = 4096;
/// Strips that a task packs: whole lines of several cache lines are read.
const TOGETHER: usize = 4;
/// Values of the right side that are packed at a time: 16 MiB.
const PACKED: usize = 4 << 20;

/// Whether packing both sides costs less than it brings.
pub(super) fn pays([m, n, k]: [usize; 3]) -> bool {
    m >= 16 && m * n * k >= 1 << 15
}

/// A right-hand side that is packed strip by strip.
pub(crate) trait Right: Sync {
    /// Columns from `column` on, over a range of K, sixteen interleaved: `strips[strip][k][lane]`. Lanes behind
    /// the last column are zeros.
    fn fill(&self, column: usize, k: Range<usize>, strips: &mut [f32]);
}

/// `[N, K]`: its rows are the product's columns.
pub(super) struct Rows<'a> {
    pub(super) data: &'a [f32],
    pub(super) k: usize,
}

impl Right for Rows<'_> {
    fn fill(&self, column: usize, k: Range<usize>, strips: &mut [f32]) {
        let rows = self.data[column * self.k..].chunks(STRIP * self.k);
        for (strip, rows) in strips.chunks_exact_mut(STRIP * k.len()).zip(rows) {
            let mut lanes: [&[f32]; STRIP] = [&[]; STRIP];
            for (lane, row) in lanes.iter_mut().zip(rows.chunks_exact(self.k)) {
                *lane = &row[k.clone()];
            }
            transpose(&lanes, strip);
        }
    }
}

/// `[K, N]`.
pub(super) struct Columns<'a> {
    pub(super) data: &'a [f32],
    pub(super) n: usize,
}

impl Right for Columns<'_> {
    fn fill(&self, column: usize, k: Range<usize>, strips: &mut [f32]) {
        let len = STRIP * k.len();
        let width = (strips.len() / k.len()).min(self.n - column);
        for (index, k) in k.enumerate() {
            let (whole, rest) = self.data[k * self.n + column..][..width].as_chunks::<STRIP>();
            let mut places = strips[index * STRIP..].chunks_mut(len);
            for (from, place) in whole.iter().zip(&mut places) {
                // Whole arrays: a copy of sixteen values is one move and no call.
                if let Some(to) = place.first_chunk_mut::<STRIP>() {
                    *to = *from;
                }
            }
            if let (false, Some(place)) = (rest.is_empty(), places.next()) {
                place[..rest.len()].copy_from_slice(rest);
                place[rest.len()..STRIP].fill(0.0);
            }
        }
    }
}

/// `to[k][lane] = lanes[lane][k]` for lanes of one length; empty lanes are zeros.
fn transpose<const N: usize>(lanes: &[&[f32]; N], to: &mut [f32]) {
    for (lane, from) in lanes.iter().enumerate() {
        let places = to[lane..].iter_mut().step_by(N);
        if from.is_empty() {
            places.for_each(|place| *place = 0.0);
        } else {
            places.zip(*from).for_each(|(place, &value)| *place = value);
        }
    }
}

thread_local! {
    /// Kept between products: fresh memory costs page faults.
    static RIGHT: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    static LEFT: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// `c (+)= a b`.
pub(super) fn product(
    pool: &Pool,
    a: Left<'_>,
    b: &dyn Right,
    c: &mut [f32],
    [m, n, k]: [usize; 3],
    mode: Accumulate,
) {
    let mut packed = RIGHT.take();
    let parts = Parts::new(c);
    for k_start in (0..k).step_by(PACKED_DEPTH) {
        let depth = PACKED_DEPTH.min(k - k_start);
        let columns = (PACKED / depth).next_multiple_of(2 * STRIP);
        for n_start in (0..n).step_by(columns) {
            let width = columns.min(n - n_start);
            let len = width.next_multiple_of(STRIP) * depth;
            if packed.len() < len {
                packed.resize(len, 0.0);
            }
            pool.for_each_chunk(&mut packed[..len], TOGETHER * STRIP * depth, |index, strips| {
                b.fill(n_start + index * TOGETHER * STRIP, k_start..k_start + depth, strips);
            });
            let add = k_start > 0 || mode == Accumulate::Add;
            let block =
                Block { a, strips: &packed[..len], depth, k_start, n_start, width, c: &parts, m, n, add };
            block.run(pool);
        }
    }
    RIGHT.set(packed);
}

/// All rows times the columns that are packed.
#[derive(Clone, Copy)]
struct Block<'a> {
    a: Left<'a>,
    /// `[strips, depth, 16]`
    strips: &'a [f32],
    depth: usize,
    k_start: usize,
    n_start: usize,
    width: usize,
    c: &'a Parts<f32>,
    m: usize,
    n: usize,
    add: bool,
}

impl Block<'_> {
    fn run(self, pool: &Pool) {
        let tiles = self.m.div_ceil(tile_rows());
        let threads = pool.threads();
        // Twice as many tasks as threads at least, and equally many for each.
        let row_tasks = tiles.div_ceil(TILES).max(2 * threads).next_multiple_of(threads).min(tiles);
        let rows = tiles.div_ceil(row_tasks) * tile_rows();
        let row_tasks = self.m.div_ceil(rows);
        // Few rows: columns are shared out too, in whole groups.
        let groups = self.width.div_ceil(WIDTH);
        let column_tasks = (2 * threads).div_ceil(row_tasks).min(groups);
        let columns = groups.div_ceil(column_tasks) * WIDTH;
        pool.run(row_tasks * column_tasks, &|task| {
            let row = task / column_tasks * rows;
            let first = task % column_tasks * columns;
            if first < self.width {
                let columns = first..(first + columns).min(self.width);
                self.task(row..(row + rows).min(self.m), columns);
            }
        });
    }

    fn task(self, rows: Range<usize>, columns: Range<usize>) {
        match level() {
            // SAFETY: the level was detected.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { task_avx512(self, rows, columns) },
            // SAFETY: the level was detected.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { task_avx2(self, rows, columns) },
            // SAFETY: plain Rust, correct on every processor.
            _ => unsafe {
                self.task_at::<[f32; 16], { <[f32; 16]>::ROWS }, { <[f32; 16]>::STRIPS }>(rows, columns);
            },
        }
    }

    /// # Safety
    /// The caller must be compiled for the instruction set of `L`.
    #[inline(always)]
    unsafe fn task_at<L: Lanes, const M: usize, const W: usize>(
        self,
        rows: Range<usize>,
        columns: Range<usize>,
    ) {
        let mut packed = LEFT.take();
        packed.resize(packed.len().max(TILES * M * DEPTH), 0.0);
        let direct = self.a.col == 1 && !self.a.row.is_multiple_of(CONFLICT);
        let whole_tiles = rows.start + rows.len() / M * M;
        for start in (0..self.depth).step_by(DEPTH) {
            let k = start..(start + DEPTH).min(self.depth);
            let to_pack = if direct { whole_tiles..rows.end } else { rows.clone() };
            self.pack_left::<M>(to_pack, k.clone(), &mut packed);
            let add = self.add || start > 0;
            for first in columns.clone().step_by(WIDTH) {
                let columns = first..(first + WIDTH).min(columns.end);
                let mut tiles = packed.chunks_exact(M * k.len());
                for row in rows.clone().step_by(M) {
                    let place = Place { row, rows: M.min(rows.end - row), k: k.clone(), add };
                    let left = if direct && row < whole_tiles {
                        let from = row * self.a.row + self.k_start + start;
                        Left { data: &self.a.data[from..], row: self.a.row, col: 1 }
                    } else {
                        let data = tiles.next().expect("each tile that isn't read in its place was packed");
                        Left { data, row: 1, col: M }
                    };
                    // SAFETY: the caller's promise.
                    unsafe { self.row_of_tiles::<L, M, W>(left, &place, columns.clone()) };
                }
            }
        }
        LEFT.set(packed);
    }

    /// Rows interleaved by M: `[tiles, k, M]`; rows behind the last are zeros.
    #[inline(always)]
    fn pack_left<const M: usize>(&self, rows: Range<usize>, k: Range<usize>, packed: &mut [f32]) {
        let Left { data, row: row_stride, col } = self.a;
        let k_start = self.k_start + k.start;
        for (row, to) in rows.clone().step_by(M).zip(packed.chunks_exact_mut(M * k.len())) {
            let count = M.min(rows.end - row);
            let from = row * row_stride + k_start * col;
            if col == 1 {
                let lanes: [&[f32]; M] = std::array::from_fn(|lane| {
                    if lane < count { &data[from + lane * row_stride..][..k.len()] } else { &[] }
                });
                transpose(&lanes, to);
            } else {
                for (index, to) in to.as_chunks_mut::<M>().0.iter_mut().enumerate() {
                    let from = &data[from + index * col..][..count];
                    if let Some(whole) = from.first_chunk::<M>() {
                        *to = *whole;
                    } else {
                        to[..count].copy_from_slice(from);
                        to[count..].fill(0.0);
                    }
                }
            }
        }
    }

    /// # Safety
    /// The caller must be compiled for the instruction set of `L`.
    #[inline(always)]
    unsafe fn row_of_tiles<L: Lanes, const M: usize, const W: usize>(
        &self,
        a: Left<'_>,
        place: &Place,
        columns: Range<usize>,
    ) {
        let mut column = columns.start;
        while column < columns.end {
            let width = columns.end - column;
            let strips = width.div_ceil(STRIP).min(W);
            let width = width.min(strips * STRIP);
            match strips {
                // SAFETY: the caller's promise.
                1 => unsafe { self.tile::<L, M, 1>(a, place, column, width) },
                // SAFETY: the caller's promise.
                2 => unsafe { self.tile::<L, M, 2>(a, place, column, width) },
                // SAFETY: the caller's promise.
                _ => unsafe { self.tile::<L, M, W>(a, place, column, width) },
            }
            column += strips * STRIP;
        }
    }

    /// One tile, straight in the output if all of it lies there, else by way of a whole one beside it.
    ///
    /// # Safety
    /// The caller must be compiled for the instruction set of `L`.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const M: usize, const W: usize>(
        &self,
        a: Left<'_>,
        place: &Place,
        column: usize,
        width: usize,
    ) {
        let strip = |index: usize| {
            let start = ((column / STRIP + index) * self.depth + place.k.start) * STRIP;
            self.strips[start..start + place.k.len() * STRIP].as_ptr()
        };
        let b: [*const f32; W] = std::array::from_fn(strip);
        let start = place.row * self.n + self.n_start + column;
        let out = self.c.pointer(start, (place.rows - 1) * self.n + width);
        if place.rows == M && width == W * STRIP {
            // SAFETY: this task alone writes these columns of these rows, which lie inside `c`.
            return unsafe { sums::<L, M, W>(a, b, place.k.len(), (out, self.n), place.add) };
        }
        let mut whole = [[[0.0_f32; STRIP]; W]; M];
        let beside = whole.as_mut_ptr().cast::<f32>();
        let copy = |from: *const f32, from_row: usize, to: *mut f32, to_row: usize| {
            for row in 0..place.rows {
                let (from, to) = (from.wrapping_add(row * from_row), to.wrapping_add(row * to_row));
                // SAFETY: `rows` rows of `width` values lie in the output and in the tile beside it.
                unsafe { from.copy_to_nonoverlapping(to, width) };
            }
        };
        if place.add {
            copy(out, self.n, beside, W * STRIP);
        }
        // SAFETY: a whole tile lies beside the output.
        unsafe { sums::<L, M, W>(a, b, place.k.len(), (beside, W * STRIP), place.add) };
        copy(beside, W * STRIP, out, self.n);
    }
}

/// Rows of a tile and the part of K that is added to them.
struct Place {
    row: usize,
    rows: usize,
    /// Within what is packed of the right side.
    k: Range<usize>,
    add: bool,
}

/// M rows times W strips: the loop in which all the time is spent.
///
/// # Safety
/// `a` holds M rows of k values, each of `b` `[k, 16]`; M rows with the given stride are writable for W·16
/// values; the caller must be compiled for the instruction set of `L`.
#[inline(always)]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers the whole inner loop")]
unsafe fn sums<L: Lanes, const M: usize, const W: usize>(
    a: Left<'_>,
    mut b: [*const f32; W],
    k: usize,
    (c, c_row): (*mut f32, usize),
    add: bool,
) {
    let Left { data, row, col } = a;
    assert!((M - 1) * row + (k - 1) * col < data.len(), "{M} rows of {k} values in {}", data.len());
    let mut a = data.as_ptr();
    // SAFETY: all addresses are those the caller promised.
    unsafe {
        let mut acc = [[L::splat(0.0); W]; M];
        if add {
            for (m, acc) in acc.iter_mut().enumerate() {
                for (w, acc) in acc.iter_mut().enumerate() {
                    *acc = L::load(c.add(m * c_row + w * STRIP));
                }
            }
        }
        for _ in 0..k {
            let right = b.map(|b| L::load(b));
            for (m, acc) in acc.iter_mut().enumerate() {
                let left = L::splat(*a.add(m * row));
                for (acc, right) in acc.iter_mut().zip(right) {
                    *acc = left.fma(right, *acc);
                }
            }
            a = a.wrapping_add(col);
            b = b.map(|b| b.add(STRIP));
        }
        for (m, acc) in acc.iter().enumerate() {
            for (w, acc) in acc.iter().enumerate() {
                acc.store(c.add(m * c_row + w * STRIP));
            }
        }
    }
}

/// Rows of a tile at the level that products run at.
fn tile_rows() -> usize {
    match level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => Avx512Lanes::ROWS,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => Avx2Lanes::ROWS,
        _ => <[f32; 16]>::ROWS,
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn task_avx512(block: Block<'_>, rows: Range<usize>, columns: Range<usize>) {
    // SAFETY: this function is compiled for AVX-512 F.
    unsafe { block.task_at::<Avx512Lanes, { Avx512Lanes::ROWS }, { Avx512Lanes::STRIPS }>(rows, columns) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn task_avx2(block: Block<'_>, rows: Range<usize>, columns: Range<usize>) {
    // SAFETY: this function is compiled for AVX2 and FMA.
    unsafe { block.task_at::<Avx2Lanes, { Avx2Lanes::ROWS }, { Avx2Lanes::STRIPS }>(rows, columns) }
}
