//! GGUF blocks or dense rows to panels of sixteen interleaved rows, and back to f32.
//!
//! A quantised panel holds, for each block of 32 columns, its integers; then, for all blocks, sixteen
//! f16 scales (and a second sixteen, and sixteen minima, where the packing has them). Step t (0..16) of a block
//! covers columns 2t and 2t + 1: the low and the high 16-bit word of each row's 32-bit lane.
//! * 4 bits: a line of 64 bytes holds four steps, step `4·line + n` in nibble n of each word.
//! * 5 bits: the 4-bit part, then a line whose words hold the fifth bit of step t in bit t.
//! * 6 bits: the same, then a line of sixth bits.
//! * 8 bits: a line holds two steps: lines 2i and 2i + 1 hold steps 4i and 4i + 1 in byte 0 of each word, and the
//!   steps two behind them in byte 1.

use std::mem::MaybeUninit;

use half::{bf16, f16};

use super::words::{Part, decode_part, put_words};
use super::{BLOCK, BlockPacking, InputBits, PANEL, Packing};
use crate::dispatch::multiversion;
use crate::gemm::pack_strips;
use crate::pool::Pool;
use crate::quant::{self, Format};

/// A matrix `[rows, cols]` in panels. Immutable.
#[derive(Clone)]
pub struct PackedMatrix {
    rows: usize,
    cols: usize,
    packing: Packing,
    input_bits: InputBits,
    /// 64-byte aligned through its element type.
    panels: Vec<Line>,
    panel_bytes: usize,
}

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl std::fmt::Debug for PackedMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackedMatrix[{}, {}] {:?}", self.rows, self.cols, self.packing)
    }
}

impl PackedMatrix {
    /// Packs the rows of a GGUF tensor.
    ///
    /// Scales of the K formats and of `IQ4_XS` are products of two numbers; they are kept as f16, which adds at
    /// most 2⁻¹¹ of a weight's own scale.
    ///
    /// # Panics
    /// If `bytes` isn't `rows` whole rows; quantised rows of a GGUF file always are whole blocks of 32.
    pub fn from_blocks(format: Format, rows: usize, cols: usize, bytes: &[u8]) -> Self {
        Self::from_blocks_with(&Pool::new(1), format, rows, cols, bytes)
    }

    /// [`Self::from_blocks`] with the panels shared among the threads of a pool.
    pub fn from_blocks_with(pool: &Pool, format: Format, rows: usize, cols: usize, bytes: &[u8]) -> Self {
        let row_bytes = format.row_bytes(cols).expect("a row of whole blocks");
        assert_eq!(bytes.len(), rows * row_bytes, "bytes of [{rows}, {cols}] {format:?}");
        let Some(packing) = BlockPacking::of(format) else {
            return Self::dense(pool, format, rows, cols, bytes);
        };
        let blocks = cols / BLOCK;
        let panel_bytes = blocks * (packing.quant_bytes() + packing.scales() * PANEL * 2);
        let packing_of_all = Packing::Blocks(packing);
        Self::build(pool, [rows, cols], packing_of_all, panel_bytes, |index, panel| {
            let first = index * PANEL * row_bytes;
            let rows = &bytes[first..(first + PANEL * row_bytes).min(bytes.len())];
            for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
                put_row(format, packing, panel, lane, row);
            }
        })
    }

    /// Packs dense f32 rows `[rows, cols]`.
    pub fn from_f32(rows: usize, cols: usize, values: &[f32]) -> Self {
        assert_eq!(values.len(), rows * cols, "values of [{rows}, {cols}]");
        let pool = Pool::new(1);
        Self::build(&pool, [rows, cols], Packing::F32, cols * PANEL * 4, |index, panel| {
            let first = index * PANEL * cols;
            let rows = &values[first..(first + PANEL * cols).min(values.len())];
            let strip = pack_strips(rows, rows.len() / cols, cols);
            for (to, value) in panel.chunks_exact_mut(4).zip(strip) {
                to.copy_from_slice(&value.to_le_bytes());
            }
        })
    }

    fn dense(pool: &Pool, format: Format, rows: usize, cols: usize, bytes: &[u8]) -> Self {
        if format != Format::BF16 {
            let mut values = vec![0.0; rows * cols];
            quant::dequantize(format, bytes, &mut values);
            return Self::from_f32(rows, cols, &values);
        }
        Self::build(pool, [rows, cols], Packing::BF16, cols * PANEL * 2, |index, panel| {
            let first = index * PANEL * cols * 2;
            let rows = &bytes[first..(first + PANEL * cols * 2).min(bytes.len())];
            for (lane, row) in rows.chunks_exact(cols * 2).enumerate() {
                for (to, value) in panel[lane * 2..].chunks_mut(PANEL * 2).zip(row.as_chunks::<2>().0) {
                    to[..2].copy_from_slice(value);
                }
            }
        })
    }

    /// Makes each panel in a task of its own, so that its pages are first touched there; `fill` gets zeros.
    fn build(
        pool: &Pool,
        [rows, cols]: [usize; 2],
        packing: Packing,
        panel_bytes: usize,
        fill: impl Fn(usize, &mut [u8]) + Sync,
    ) -> Self {
        let panel_bytes = panel_bytes.next_multiple_of(64);
        let lines = rows.div_ceil(PANEL) * panel_bytes / 64;
        let mut panels: Vec<Line> = Vec::with_capacity(lines);
        let unwritten = &mut panels.spare_capacity_mut()[..lines];
        pool.for_each_chunk(unwritten, panel_bytes / 64, |index, lines| {
            lines.fill(MaybeUninit::new(Line([0; 64])));
            // SAFETY: every line has just been written.
            fill(index, bytes_of(unsafe { lines.assume_init_mut() }));
        });
        // SAFETY: the tasks have written all `lines`.
        unsafe { panels.set_len(lines) };
        Self { rows, cols, packing, input_bits: InputBits::Sixteen, panels, panel_bytes }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The same matrix, with inputs rounded to the given bits; dense matrices take f32 whatever is said.
    pub fn with_input_bits(self, input_bits: InputBits) -> Self {
        Self { input_bits, ..self }
    }

    pub fn input_bits(&self) -> InputBits {
        self.input_bits
    }

    /// Whether products round their input.
    pub fn is_quantised(&self) -> bool {
        matches!(self.packing, Packing::Blocks(_))
    }

    /// Bytes in memory, padding included.
    pub fn bytes(&self) -> usize {
        self.panels.len() * 64
    }

    pub(crate) fn packing(&self) -> Packing {
        self.packing
    }

    pub(crate) fn panels(&self) -> usize {
        self.rows.div_ceil(PANEL)
    }

    pub(crate) fn panel_bytes(&self) -> usize {
        self.panel_bytes
    }

    pub(crate) fn panel(&self, index: usize) -> &[u8] {
        let lines = &self.panels[index * self.panel_bytes / 64..(index + 1) * self.panel_bytes / 64];
        // SAFETY: lines are plain bytes without padding, laid one after the other.
        unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), self.panel_bytes) }
    }

    /// Whether every weight is finite: dense values, or the scales and minima of blocks.
    pub fn is_finite(&self) -> bool {
        (0..self.panels()).all(|index| {
            let panel = self.panel(index);
            let half = |bits: &[u8]| u16::from_le_bytes([bits[0], bits[1]]);
            match self.packing {
                Packing::F32 => {
                    panel.chunks_exact(4).all(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).is_finite())
                }
                Packing::BF16 => panel.chunks_exact(2).all(|b| bf16::from_bits(half(b)).is_finite()),
                Packing::Blocks(packing) => panel[self.cols / BLOCK * packing.quant_bytes()..]
                    .chunks_exact(2)
                    .all(|b| f16::from_bits(half(b)).is_finite()),
            }
        })
    }

    /// Columns `start..start + k` of a dense panel as f32 `[k, 16]`; bf16 goes through `widened`.
    pub(crate) fn dense_strip<'a>(
        &'a self,
        index: usize,
        start: usize,
        k: usize,
        widened: &'a mut Vec<f32>,
    ) -> &'a [f32] {
        let panel = self.panel(index);
        match self.packing {
            Packing::F32 => {
                let bytes = &panel[start * PANEL * 4..(start + k) * PANEL * 4];
                // SAFETY: a panel is 64-byte aligned and any bytes are valid f32 values.
                unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), k * PANEL) }
            }
            Packing::BF16 => {
                let bytes = &panel[start * PANEL * 2..(start + k) * PANEL * 2];
                widened.clear();
                widened.extend(bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()));
                widened
            }
            Packing::Blocks(_) => unreachable!("quantised panels have no dense strip"),
        }
    }

    /// Decodes columns `start..start + out.len()` of one row; for quantised matrices both are whole blocks.
    pub fn decode(&self, row: usize, start: usize, out: &mut [f32]) {
        let (panel, lane) = (self.panel(row / PANEL), row % PANEL);
        match self.packing {
            Packing::F32 => {
                for (k, out) in out.iter_mut().enumerate() {
                    let at = ((start + k) * PANEL + lane) * 4;
                    *out = f32::from_le_bytes([panel[at], panel[at + 1], panel[at + 2], panel[at + 3]]);
                }
            }
            Packing::BF16 => {
                for (k, out) in out.iter_mut().enumerate() {
                    let at = ((start + k) * PANEL + lane) * 2;
                    *out = bf16::from_le_bytes([panel[at], panel[at + 1]]).to_f32();
                }
            }
            Packing::Blocks(packing) => {
                let blocks = self.cols / BLOCK;
                let part = Part { panel, packing, blocks, first: start / BLOCK, lanes: lane..lane + 1 };
                let width = out.len();
                decode_part(part, out, width, width);
            }
        }
    }

    /// Decodes columns `start..start + width` of a panel's rows, as [`Self::decode`] does, to
    /// `out[i * stride..]` for the i-th row.
    pub(crate) fn decode_panel(
        &self,
        index: usize,
        (start, width): (usize, usize),
        out: &mut [f32],
        stride: usize,
    ) {
        let rows = PANEL.min(self.rows - index * PANEL);
        if let Packing::Blocks(packing) = self.packing {
            let (panel, blocks) = (self.panel(index), self.cols / BLOCK);
            let part = Part { panel, packing, blocks, first: start / BLOCK, lanes: 0..rows };
            return decode_part(part, out, stride, width);
        }
        for (row, out) in out.chunks_mut(stride).take(rows).enumerate() {
            self.decode(index * PANEL + row, start, &mut out[..width]);
        }
    }

    /// Decodes a whole row: an embedding.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.cols, "out isn't a row");
        self.decode(row, 0, out);
    }
}

fn bytes_of(lines: &mut [Line]) -> &mut [u8] {
    // SAFETY: lines are plain bytes without padding, laid one after the other.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * 64) }
}

/// Where a scale or a minimum of a block's row lies in a panel: one or two scales, then as many minima if any.
pub(crate) fn scale_at(
    packing: BlockPacking,
    blocks: usize,
    block: usize,
    which: usize,
    lane: usize,
) -> usize {
    scales_at(packing, blocks, block, which) + lane * 2
}

/// Where the sixteen values of [`scale_at`] start.
pub(crate) fn scales_at(packing: BlockPacking, blocks: usize, block: usize, which: usize) -> usize {
    blocks * packing.quant_bytes() + (block * packing.scales() + which) * PANEL * 2
}

impl BlockPacking {
    /// How a quantised format is packed; `None` for dense ones.
    fn of(format: Format) -> Option<Self> {
        let (bits, min, halves) = match format {
            Format::F32 | Format::F16 | Format::BF16 => return None,
            Format::Q4_0 => (4, false, false),
            Format::Q4_1 | Format::Q4K => (4, true, false),
            Format::Q5_0 => (5, false, false),
            Format::Q5_1 | Format::Q5K => (5, true, false),
            Format::Q8_0 => (8, false, false),
            Format::Q2K => (4, true, true),
            Format::Q3K => (4, false, true),
            Format::Q6K => (6, false, true),
            // Their integers are looked up in a table whose values take eight bits.
            Format::IQ4NL | Format::IQ4XS => (8, false, false),
        };
        Some(Self { bits, min, halves })
    }
}

multiversion! {
    /// Writes one row of blocks into its lane of a panel.
    fn put_row(format: Format, packing: BlockPacking, panel: &mut [u8], lane: usize, row: &[u8]) {
        // A loop of its own for each format: in it the format is a constant.
        match format {
            Format::Q4_0 => put_blocks(Format::Q4_0, packing, panel, lane, row),
            Format::Q4_1 => put_blocks(Format::Q4_1, packing, panel, lane, row),
            Format::Q5_0 => put_blocks(Format::Q5_0, packing, panel, lane, row),
            Format::Q5_1 => put_blocks(Format::Q5_1, packing, panel, lane, row),
            Format::Q8_0 => put_blocks(Format::Q8_0, packing, panel, lane, row),
            Format::Q2K => put_blocks(Format::Q2K, packing, panel, lane, row),
            Format::Q3K => put_blocks(Format::Q3K, packing, panel, lane, row),
            Format::Q4K => put_blocks(Format::Q4K, packing, panel, lane, row),
            Format::Q5K => put_blocks(Format::Q5K, packing, panel, lane, row),
            Format::Q6K => put_blocks(Format::Q6K, packing, panel, lane, row),
            Format::IQ4NL => put_blocks(Format::IQ4NL, packing, panel, lane, row),
            Format::IQ4XS => put_blocks(Format::IQ4XS, packing, panel, lane, row),
            Format::F32 | Format::F16 | Format::BF16 => unreachable!("dense formats have no blocks"),
        }
    }
}

#[inline(always)]
fn put_blocks(format: Format, packing: BlockPacking, panel: &mut [u8], lane: usize, row: &[u8]) {
    let (groups, len) = (BLOCK / format.group_len(), packing.quant_bytes());
    let blocks = panel.len() / (len + packing.scales() * PANEL * 2);
    // With a minimum the integers stay; without one their zero becomes the packing's.
    let zero = if packing.min { 0 } else { 1 << packing.offset_log2() };
    let row_blocks = row.chunks_exact(format.block_bytes());
    let mut column_block = 0;
    for row_block in row_blocks {
        for block in 0..format.block_len() / BLOCK {
            let mut q = [0; BLOCK];
            for index in 0..groups {
                let group = quant::group(format, row_block, block * groups + index);
                let shift = (zero as u8).wrapping_sub(group.zero);
                for (to, from) in q[index * group.len..].iter_mut().zip(&group.q[..group.len]) {
                    *to = from.wrapping_add(shift);
                }
                put_scale(panel, scale_at(packing, blocks, column_block, index, lane), group.scale);
                if packing.min {
                    let which = packing.min_at() + index;
                    put_scale(panel, scale_at(packing, blocks, column_block, which, lane), group.min);
                }
            }
            let quants = &mut panel[column_block * len..(column_block + 1) * len];
            put_words(packing.bits, quants, lane, &q);
            column_block += 1;
        }
    }
}

#[inline(always)]
fn put_scale(panel: &mut [u8], at: usize, value: f32) {
    panel[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
}

/// Where a column (0..32) of a row lies in its block.
struct Place {
    step: usize,
    /// First byte of the row's word in a line.
    word: usize,
}

impl Place {
    fn of(column: usize, lane: usize) -> Self {
        Self { step: column / 2, word: lane * 4 + column % 2 * 2 }
    }

    fn byte_of_eight(&self) -> usize {
        (self.step / 4 * 2 + self.step % 2) * 64 + self.word + self.step % 4 / 2
    }

    /// Byte and shift of the low four bits.
    fn nibble(&self) -> (usize, usize) {
        (self.step / 4 * 64 + self.word + self.step % 4 / 2, self.step % 2 * 4)
    }

    /// Byte and bit of the fifth bit, or of the sixth a line behind.
    fn high_bit(&self, which: usize) -> (usize, usize) {
        (which * 64 + self.word + self.step / 8, self.step % 8)
    }
}

/// The stored integer of `column` (0..32) in a block, its offset not subtracted.
pub(crate) fn stored(packing: BlockPacking, quants: &[u8], lane: usize, column: usize) -> u8 {
    let place = Place::of(column, lane);
    if packing.bits == 8 {
        return quants[place.byte_of_eight()];
    }
    let (at, shift) = place.nibble();
    let low = quants[at] >> shift & 15;
    (4..usize::from(packing.bits)).fold(low, |q, which| {
        let (at, bit) = place.high_bit(which);
        q | (quants[at] >> bit & 1) << which
    })
}
