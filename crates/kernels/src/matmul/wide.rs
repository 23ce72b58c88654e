//! Products with many rows of x: weights are widened once for all of them.
//!
//! The columns are walked in chunks whose widened weights stay near the core. Between chunks a row's sums wait in y
//! as f32, which they were before, so that the chunks change no bit.

use super::blocks::{avx2, avx512};
use super::{Activations, BLOCK, BlockPacking, InputBits, PANEL, PackedMatrix, bytes, grain};
use crate::cpu::Level;
use crate::pool::{Parts, Pool};

/// Bytes of widened weights in a chunk at most. More than a first-level cache holds costs little, since each line is
/// used by eight rows; fewer chunks save rounds of sums through y.
const CHUNK: usize = 36 << 10;

/// Bytes of a chunk's activations that all panels of a task read one after the other: half of a small
/// second-level cache.
const CACHED: usize = 256 << 10;

/// Some widened blocks of one panel with the activations of one product: what an inner loop works on.
#[derive(Clone, Copy)]
pub(super) struct WideJob<'a> {
    /// Sixteen lines of 64 bytes a block; eight if `byte_x` isn't empty.
    pub(super) words: *const u8,
    /// Scales and minima of each block, sixteen f32 a value.
    pub(super) scales: *const f32,
    pub(super) packing: BlockPacking,
    pub(super) first_block: usize,
    pub(super) num_blocks: usize,
    pub(super) x: &'a Activations,
    /// The activations as [`super::bytes`] wants them, if they have eight bits and the level a loop for them.
    pub(super) byte_x: &'a [i8],
    /// Rows of x to compute.
    pub(super) first: usize,
    pub(super) count: usize,
    /// Sixteen outputs of row `first + i` go to `y + i * y_row`; what stands there is added to but for the
    /// first block.
    pub(super) y: *mut f32,
    pub(super) y_row: usize,
}

/// From how many rows of x on [`matmul_wide`] pays, if this level has it.
pub(super) fn wide_from(level: Level) -> usize {
    match level {
        Level::Avx512 => avx512::WIDE_FROM,
        Level::Avx2 => avx2::WIDE_FROM,
        Level::Scalar => usize::MAX,
    }
}

/// [`super::matmul_quantised`] for many rows.
pub(super) fn matmul_wide(
    pool: &Pool,
    level: Level,
    x: &Activations,
    (w, packing): (&PackedMatrix, BlockPacking),
    y: &mut [f32],
) {
    let (rows, blocks, parts) = (w.rows(), x.blocks(), Parts::new(y));
    let with_bytes = level == Level::Avx512 && x.bits() == InputBits::Eight;
    let byte_x = if with_bytes { x.bytes(pool) } else { &[] };
    // Bytes of a widened integer, and of one of x.
    let width = if with_bytes { 1 } else { 2 };
    let chunk = blocks.div_ceil(blocks.div_ceil(CHUNK / (BLOCK * PANEL * width)));
    let together = (CACHED / (chunk * BLOCK * width)).next_multiple_of(24).min(x.rows());
    pool.for_each_range(w.panels(), grain(w), |panels| {
        let mut words = vec![Line([0; 64]); chunk * BLOCK * PANEL * width / 64];
        let mut scales = vec![0.0; chunk * packing.scales() * PANEL];
        let mut lanes = vec![0.0; if panels.end * PANEL > rows { together * PANEL } else { 0 }];
        for first in (0..x.rows()).step_by(together) {
            let count = together.min(x.rows() - first);
            for first_block in (0..blocks).step_by(chunk) {
                let num_blocks = chunk.min(blocks - first_block);
                for index in panels.clone() {
                    let panel = w.panel(index);
                    let quants = &panel[first_block * packing.quant_bytes()..];
                    let at = blocks * packing.quant_bytes() + first_block * packing.scales() * PANEL * 2;
                    let from = (quants.as_ptr(), panel[at..].as_ptr());
                    let to = (words.as_mut_ptr().cast(), scales.as_mut_ptr());
                    // SAFETY: a panel holds every block and its scales; the buffers hold a chunk.
                    unsafe { widen((level, with_bytes), packing, num_blocks, from, to) };
                    let outputs = PANEL.min(rows - index * PANEL);
                    let (y, y_row) = match outputs {
                        PANEL => {
                            let len = (count - 1) * rows + PANEL;
                            // SAFETY: this task alone writes these columns; the last row ends inside y.
                            let out = unsafe { parts.slice(first * rows + index * PANEL, len) };
                            (out.as_mut_ptr(), rows)
                        }
                        _ => (lanes.as_mut_ptr(), PANEL),
                    };
                    let job = WideJob {
                        words: words.as_ptr().cast(),
                        scales: scales.as_ptr(),
                        packing,
                        first_block,
                        num_blocks,
                        x,
                        byte_x,
                        first,
                        count,
                        y,
                        y_row,
                    };
                    // SAFETY: words and scales hold the chunk; y has room for `count` rows.
                    unsafe { run((level, with_bytes), job) };
                    if outputs == PANEL || first_block + num_blocks < blocks {
                        continue;
                    }
                    for (row, lanes) in lanes.chunks_exact(PANEL).take(count).enumerate() {
                        // SAFETY: this task alone writes these columns of this row.
                        let out = unsafe { parts.slice((first + row) * rows + index * PANEL, outputs) };
                        out.copy_from_slice(&lanes[..outputs]);
                    }
                }
            }
        }
    });
}

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// # Safety
/// As of the levels' `widen`.
unsafe fn widen(
    path: (Level, bool),
    packing: BlockPacking,
    count: usize,
    from: (*const u8, *const u8),
    to: (*mut u8, *mut f32),
) {
    match path {
        // SAFETY: the level was detected; the caller's promise.
        (Level::Avx512, true) => unsafe { bytes::widen(packing, count, from, to) },
        // SAFETY: as above.
        (Level::Avx512, false) => unsafe { avx512::widen(packing, count, from, to) },
        // SAFETY: as above.
        (Level::Avx2, _) => unsafe { avx2::widen(packing, count, from, to) },
        (Level::Scalar, _) => unreachable!("`wide_from` sends no rows here"),
    }
}

/// # Safety
/// As of the levels' `wide`.
pub(super) unsafe fn run(path: (Level, bool), job: WideJob<'_>) {
    match path {
        // SAFETY: the level was detected; the caller's promise.
        (Level::Avx512, true) => unsafe { bytes::rows(job) },
        // SAFETY: as above.
        (Level::Avx512, false) => unsafe { avx512::wide(job) },
        // SAFETY: as above.
        (Level::Avx2, _) => unsafe { avx2::wide(job) },
        (Level::Scalar, _) => unreachable!("`wide_from` sends no rows here"),
    }
}
