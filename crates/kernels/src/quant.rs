//! The block formats of GGUF files and their scalar decoding, which every fast path is tested against.
//!
//! Layouts follow ggml's `ggml-common.h`: little-endian, blocks of 32 or 256 weights along a row.

use half::{bf16, f16};

/// How the weights of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

impl Format {
    /// From the type number in a GGUF tensor table; `None` for formats this program can't read.
    pub fn from_ggml(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::BF16,
            _ => return None,
        })
    }

    /// Weights in a block.
    pub const fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Weights that share one scale.
    pub(crate) const fn group_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q6K => 16,
            _ => 32,
        }
    }

    /// Bytes of a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Bytes of a row of `cols` weights; `None` if `cols` isn't a whole number of blocks.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        cols.is_multiple_of(self.block_len()).then(|| cols / self.block_len() * self.block_bytes())
    }
}

#[inline(always)]
fn f16_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// A run of integers with one scale and one minimum: weight = `scale * (q - zero) + min`.
///
/// Every quantised format is a sequence of groups; packing reads these instead of decoding to f32.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    pub(crate) scale: f32,
    pub(crate) min: f32,
    /// Stands for zero; with a minimum it is 0.
    pub(crate) zero: u8,
    /// The first `len` are used; 16 for Q6_K, else 32.
    pub(crate) q: [u8; 32],
    pub(crate) len: usize,
}

/// Group `index` of a block.
#[inline(always)]
pub(crate) fn group(format: Format, block: &[u8], index: usize) -> Group {
    match format {
        Format::Q4_0 | Format::Q4_1 => nibble_group(format, block),
        Format::Q5_0 | Format::Q5_1 => five_bit_group(format, block),
        Format::Q8_0 => {
            let mut q: [u8; 32] = array_at(block, 2);
            for q in &mut q {
                // Adding 128 to a signed byte flips its sign bit.
                *q ^= 0x80;
            }
            Group { scale: f16_at(block, 0), min: 0.0, zero: 128, q, len: 32 }
        }
        Format::Q4K | Format::Q5K => k_group(format, block, index),
        Format::Q6K => q6_k_group(block, index),
        Format::F32 | Format::F16 | Format::BF16 => unreachable!("dense formats have no groups"),
    }
}

#[inline(always)]
fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("a block holds its fields")
}

/// The low nibbles of sixteen bytes, then the high ones.
#[inline(always)]
fn nibbles(bytes: [u8; 16]) -> [u8; 32] {
    let mut q = [0; 32];
    for (i, byte) in bytes.into_iter().enumerate() {
        q[i] = byte & 15;
        q[16 + i] = byte >> 4;
    }
    q
}

#[inline(always)]
fn nibble_group(format: Format, block: &[u8]) -> Group {
    let (at, min, zero) = match format {
        Format::Q4_0 => (2, 0.0, 8),
        _ => (4, f16_at(block, 2), 0),
    };
    Group { scale: f16_at(block, 0), min, zero, q: nibbles(array_at(block, at)), len: 32 }
}

#[inline(always)]
fn five_bit_group(format: Format, block: &[u8]) -> Group {
    let (high_at, min, zero) = match format {
        Format::Q5_0 => (2, 0.0, 16),
        _ => (4, f16_at(block, 2), 0),
    };
    let high = array_at::<4>(block, high_at);
    let mut q = nibbles(array_at(block, high_at + 4));
    for (q, high) in q.as_chunks_mut::<8>().0.iter_mut().zip(high) {
        for (i, q) in q.iter_mut().enumerate() {
            *q |= (high >> i & 1) << 4;
        }
    }
    Group { scale: f16_at(block, 0), min, zero, q, len: 32 }
}

/// The 6-bit scale and minimum of sub-block `j` (0..8) in the 12 packed bytes of Q4_K and Q5_K.
#[inline(always)]
fn k_scale_min(packed: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (packed[j + 4] & 15 | packed[j - 4] >> 6 << 4, packed[j + 4] >> 4 | packed[j] >> 6 << 4)
    }
}

/// One of 8 sub-blocks of 32.
#[inline(always)]
fn k_group(format: Format, block: &[u8], j: usize) -> Group {
    let (high, quants) = match format {
        Format::Q5K => (array_at::<32>(block, 16), &block[48..176]),
        _ => ([0; 32], &block[16..144]),
    };
    let (scale, min) = k_scale_min(&block[4..16], j);
    let bytes: [u8; 32] = array_at(quants, j / 2 * 32);
    let shift = j % 2 * 4;
    let mut q = [0; 32];
    for (i, q) in q.iter_mut().enumerate() {
        *q = bytes[i] >> shift & 15 | (high[i] >> j & 1) << 4;
    }
    Group {
        scale: f16_at(block, 0) * f32::from(scale),
        min: -f16_at(block, 2) * f32::from(min),
        zero: 0,
        q,
        len: 32,
    }
}

/// One of 16 sub-blocks of 16: two halves of 128, each four quarters of 32.
#[inline(always)]
fn q6_k_group(block: &[u8], j: usize) -> Group {
    let (half, quarter, start) = (j / 8, j % 8 / 2, j % 2 * 16);
    let low: [u8; 16] = array_at(block, half * 64 + quarter % 2 * 32 + start);
    let high: [u8; 16] = array_at(block, 128 + half * 32 + start);
    let mut q = [0; 32];
    for (i, q) in q.iter_mut().take(16).enumerate() {
        *q = low[i] >> (quarter / 2 * 4) & 15 | (high[i] >> (2 * quarter) & 3) << 4;
    }
    let scale = f16_at(block, 208) * f32::from(block[192 + j] as i8);
    Group { scale, min: 0.0, zero: 32, q, len: 16 }
}

/// Decodes whole blocks to f32: the definition of each format.
///
/// # Panics
/// If `bytes` isn't exactly the blocks that `out` takes.
pub fn dequantize(format: Format, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(format.row_bytes(out.len()), Some(bytes.len()), "{format:?} bytes don't fill {}", out.len());
    match format {
        Format::F32 => {
            for (out, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                *out = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            }
        }
        Format::F16 => {
            for (out, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *out = f16::from_le_bytes([b[0], b[1]]).to_f32();
            }
        }
        Format::BF16 => {
            for (out, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *out = bf16::from_le_bytes([b[0], b[1]]).to_f32();
            }
        }
        _ => {
            let blocks = bytes.chunks_exact(format.block_bytes());
            for (block, out) in blocks.zip(out.chunks_exact_mut(format.block_len())) {
                for (index, out) in out.chunks_mut(format.group_len()).enumerate() {
                    let group = group(format, block, index);
                    for (out, q) in out.iter_mut().zip(group.q) {
                        let q = f32::from(i16::from(q) - i16::from(group.zero));
                        *out = group.scale * q + group.min;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q4_0_block_by_hand() {
        // d = 0.5; the first byte holds q = 3 for weight 0 and q = 12 for weight 16.
        let mut block = vec![0x88; 18];
        block[..2].copy_from_slice(&f16::from_f32(0.5).to_le_bytes());
        block[2] = 0xC3;
        let mut out = [0.0; 32];
        dequantize(Format::Q4_0, &block, &mut out);
        assert_eq!((out[0], out[16], out[1]), (-2.5, 2.0, 0.0));
    }

    #[test]
    fn q5_0_takes_its_fifth_bit_from_the_mask() {
        let mut block = vec![0; 22];
        block[..2].copy_from_slice(&f16::from_f32(1.0).to_le_bytes());
        block[2] = 1; // the fifth bit of weight 0
        let mut out = [0.0; 32];
        dequantize(Format::Q5_0, &block, &mut out);
        assert_eq!((out[0], out[1]), (0.0, -16.0));
    }

    #[test]
    fn rows_must_be_whole_blocks() {
        assert_eq!(Format::Q4K.row_bytes(896), None);
        assert_eq!(Format::Q8_0.row_bytes(64), Some(68));
    }
}
