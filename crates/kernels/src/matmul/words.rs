//! Thirty-two integers of one row to the 32-bit words they take in a panel's lines, and back.
//!
//! Word n of a row lies in line n of its block. The even columns are in the low half of a word and the odd ones in
//! the high half (see [`super::pack`]), so a few shifts of whole words do what else would be done byte by byte.

use half::slice::HalfBitsSliceExt;

use super::pack::scales_at;
use super::{BLOCK, BlockPacking, PANEL};
use crate::dispatch::multiversion;

/// Words of a row and block at most: those of eight bits.
const WORDS: usize = 8;

/// Writes the stored integers of one row into a block's lines.
#[inline(always)]
pub(super) fn put_words(bits: u8, quants: &mut [u8], lane: usize, q: &[u8; BLOCK]) {
    if bits == 8 {
        for (pair, q) in q.as_chunks::<8>().0.iter().enumerate() {
            let [a, b, c, d, e, f, g, h] = *q;
            put_word(quants, pair * 2, lane, u32::from_le_bytes([a, e, b, f]));
            put_word(quants, pair * 2 + 1, lane, u32::from_le_bytes([c, g, d, h]));
        }
        return;
    }
    let mut planes = [0; 2];
    for (line, q) in q.as_chunks::<8>().0.iter().enumerate() {
        let bytes = u64::from_le_bytes(*q);
        put_word(quants, line, lane, even_nibbles(bytes) | even_nibbles(bytes >> 8) << 16);
        for (bit, plane) in planes.iter_mut().enumerate() {
            let high = bytes >> (4 + bit);
            *plane |= (even_bits(high) | even_bits(high >> 8) << 16) << (line * 4);
        }
    }
    for (line, plane) in (4..usize::from(bits)).zip(planes) {
        put_word(quants, line, lane, plane);
    }
}

#[inline(always)]
fn put_word(quants: &mut [u8], line: usize, lane: usize, word: u32) {
    let at = line * 64 + lane * 4;
    quants[at..at + 4].copy_from_slice(&word.to_le_bytes());
}

/// The low nibbles of bytes 0, 2, 4 and 6, side by side.
#[inline(always)]
fn even_nibbles(bytes: u64) -> u32 {
    let pairs = bytes & 0x000F_000F_000F_000F;
    let pairs = (pairs | pairs >> 12) & 0x0000_00FF_0000_00FF;
    (pairs | pairs >> 24) as u32 & 0xFFFF
}

/// The lowest bits of bytes 0, 2, 4 and 6, side by side.
#[inline(always)]
fn even_bits(bytes: u64) -> u32 {
    let bits = bytes & 0x0001_0001_0001_0001;
    (bits | bits >> 15 | bits >> 30 | bits >> 45) as u32 & 15
}

/// Part of a quantised panel that is decoded.
#[derive(Debug, Clone)]
pub(super) struct Part<'a> {
    pub(super) panel: &'a [u8],
    pub(super) packing: BlockPacking,
    /// Blocks of a row of the matrix.
    pub(super) blocks: usize,
    /// The first block to decode; the length of the output's rows says how many.
    pub(super) first: usize,
    /// Rows of the panel to decode, one after the other to the output.
    pub(super) lanes: std::ops::Range<usize>,
}

multiversion! {
    /// Decodes to `out[i * stride..][..width]` for the i-th lane; `width` is whole blocks.
    pub(super) fn decode_part(part: Part<'_>, out: &mut [f32], stride: usize, width: usize) {
        match part.packing.bits {
            4 => decode_bits::<4>(&part, out, stride, width),
            5 => decode_bits::<5>(&part, out, stride, width),
            6 => decode_bits::<6>(&part, out, stride, width),
            _ => decode_bits::<8>(&part, out, stride, width),
        }
    }
}

#[inline(always)]
fn decode_bits<const BITS: usize>(part: &Part<'_>, out: &mut [f32], stride: usize, width: usize) {
    let packing = part.packing;
    let offset = if packing.min { 0 } else { 1 << packing.offset_log2() };
    for i in 0..width / BLOCK {
        let block = part.first + i;
        let quants = &part.panel[block * BITS * 64..(block + 1) * BITS * 64];
        let value = |which| half_lanes(part.panel, scales_at(packing, part.blocks, block, which));
        let scales = [value(0), value(usize::from(packing.halves))];
        let min = |half: usize| value(packing.min_at() + half * usize::from(packing.halves));
        let mins = if packing.min { [min(0), min(1)] } else { [[0.0; PANEL]; 2] };
        for (row, lane) in part.lanes.clone().enumerate() {
            let mut words = [0; WORDS];
            for (line, word) in quants.as_chunks::<64>().0.iter().zip(&mut words) {
                *word = line_word(line, lane);
            }
            let out = &mut out[row * stride + i * BLOCK..][..BLOCK];
            for (half, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                for (column, out) in out.iter_mut().enumerate() {
                    let q = stored_of::<BITS>(&words, half * 16 + column) as i32 - offset;
                    *out = scales[half][lane] * q as f32 + mins[half][lane];
                }
            }
        }
    }
}

#[inline(always)]
fn line_word(line: &[u8; 64], lane: usize) -> u32 {
    let at = lane * 4;
    u32::from_le_bytes([line[at], line[at + 1], line[at + 2], line[at + 3]])
}

/// The stored integer of a column (0..32).
#[inline(always)]
fn stored_of<const BITS: usize>(words: &[u32; WORDS], column: usize) -> u32 {
    let odd = column % 2 * 16;
    if BITS == 8 {
        return words[column / 8 * 2 + column % 4 / 2] >> (odd + column % 8 / 4 * 8) & 255;
    }
    let low = words[column / 8] >> (odd + column % 8 / 2 * 4) & 15;
    (4..BITS).fold(low, |q, line| q | (words[line] >> (odd + column / 2) & 1) << line)
}

/// Sixteen f16 values as f32.
#[inline(always)]
fn half_lanes(panel: &[u8], at: usize) -> [f32; PANEL] {
    use half::slice::HalfFloatSliceExt;
    let mut bits = [0_u16; PANEL];
    for (bits, bytes) in bits.iter_mut().zip(panel[at..at + PANEL * 2].as_chunks::<2>().0) {
        *bits = u16::from_le_bytes(*bytes);
    }
    let mut lanes = [0.0; PANEL];
    bits.reinterpret_cast::<half::f16>().convert_to_f32_slice(&mut lanes);
    lanes
}

#[cfg(test)]
mod tests {
    use super::super::pack::stored;
    use super::*;

    #[test]
    fn words_hold_each_integer_where_the_layout_says() {
        for bits in [4, 5, 6, 8] {
            let packing = BlockPacking { bits, min: false, halves: false };
            let mut quants = vec![0; packing.quant_bytes()];
            let q = |lane: usize| std::array::from_fn(|i| ((i * 37 + lane * 101 + 11) % (1 << bits)) as u8);
            for lane in 0..PANEL {
                put_words(bits, &mut quants, lane, &q(lane));
            }
            for lane in 0..PANEL {
                let expected = q(lane);
                for (column, &expected) in expected.iter().enumerate() {
                    let got = stored(packing, &quants, lane, column);
                    assert_eq!(got, expected, "{bits} bits, lane {lane}, column {column}");
                }
            }
        }
    }
}
