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
        cols.is_multiple_of(self.block_len())
            .then(|| cols / self.block_len() * self.block_bytes())
    }
}

fn f16_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// A run of integers with one scale and one minimum: weight = `scale * q + min`.
///
/// Every quantised format is a sequence of groups; packing reads these instead of decoding to f32.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    pub(crate) scale: f32,
    pub(crate) min: f32,
    /// The first `len` are used; 16 for Q6_K, else 32. Signed for Q8_0 and Q6_K, else unsigned.
    pub(crate) q: [i16; 32],
    pub(crate) len: usize,
}

/// Calls `visit` for each group of a row in order.
///
/// Symmetric formats give `min = 0` and centred integers; the others give unsigned integers.
pub(crate) fn groups(format: Format, row: &[u8], mut visit: impl FnMut(&Group)) {
    for block in row.chunks_exact(format.block_bytes()) {
        match format {
            Format::Q4_0 | Format::Q4_1 => visit(&nibble_group(format, block)),
            Format::Q5_0 | Format::Q5_1 => visit(&five_bit_group(format, block)),
            Format::Q8_0 => {
                let q = std::array::from_fn(|i| i16::from(block[2 + i] as i8));
                visit(&Group {
                    scale: f16_at(block, 0),
                    min: 0.0,
                    q,
                    len: 32,
                });
            }
            Format::Q4K | Format::Q5K => k_groups(format, block, &mut visit),
            Format::Q6K => q6_k_groups(block, &mut visit),
            Format::F32 | Format::F16 | Format::BF16 => {
                unreachable!("dense formats have no groups")
            }
        }
    }
}

fn nibble_group(format: Format, block: &[u8]) -> Group {
    let (quants, min, zero) = match format {
        Format::Q4_0 => (&block[2..], 0.0, 8),
        _ => (&block[4..], f16_at(block, 2), 0),
    };
    let q = std::array::from_fn(|i| {
        let byte = quants[i % 16];
        i16::from(if i < 16 { byte & 15 } else { byte >> 4 }) - zero
    });
    Group {
        scale: f16_at(block, 0),
        min,
        q,
        len: 32,
    }
}

fn five_bit_group(format: Format, block: &[u8]) -> Group {
    let (high_at, min, zero) = match format {
        Format::Q5_0 => (2, 0.0, 16),
        _ => (4, f16_at(block, 2), 0),
    };
    let high = u32::from_le_bytes([
        block[high_at],
        block[high_at + 1],
        block[high_at + 2],
        block[high_at + 3],
    ]);
    let quants = &block[high_at + 4..];
    let q = std::array::from_fn(|i| {
        let byte = quants[i % 16];
        let low = if i < 16 { byte & 15 } else { byte >> 4 };
        i16::from(low) + ((high >> i & 1) << 4) as i16 - zero
    });
    Group {
        scale: f16_at(block, 0),
        min,
        q,
        len: 32,
    }
}

/// The 6-bit scale and minimum of sub-block `j` (0..8) in the 12 packed bytes of Q4_K and Q5_K.
fn k_scale_min(packed: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (
            packed[j + 4] & 15 | packed[j - 4] >> 6 << 4,
            packed[j + 4] >> 4 | packed[j] >> 6 << 4,
        )
    }
}

fn k_groups(format: Format, block: &[u8], visit: &mut impl FnMut(&Group)) {
    let (d, d_min, packed) = (f16_at(block, 0), f16_at(block, 2), &block[4..16]);
    let (high, quants) = match format {
        Format::Q5K => (Some(&block[16..48]), &block[48..176]),
        _ => (None, &block[16..144]),
    };
    for j in 0..8 {
        let (scale, min) = k_scale_min(packed, j);
        let q = std::array::from_fn(|i| {
            let byte = quants[j / 2 * 32 + i];
            let low = if j % 2 == 0 { byte & 15 } else { byte >> 4 };
            i16::from(low) + high.map_or(0, |high| i16::from(high[i] >> j & 1) << 4)
        });
        visit(&Group {
            scale: d * f32::from(scale),
            min: -d_min * f32::from(min),
            q,
            len: 32,
        });
    }
}

fn q6_k_groups(block: &[u8], visit: &mut impl FnMut(&Group)) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = f16_at(block, 208);
    for (j, &scale) in scales.iter().enumerate() {
        // 16 sub-blocks of 16: two halves of 128, each four quarters of 32.
        let (half, quarter, start) = (j / 8, j % 8 / 2, j % 2 * 16);
        let mut q = [0; 32];
        for (i, q) in q.iter_mut().take(16).enumerate() {
            let l = start + i;
            let byte = low[half * 64 + quarter % 2 * 32 + l];
            let bits = if quarter < 2 { byte & 15 } else { byte >> 4 };
            let top = high[half * 32 + l] >> (2 * quarter) & 3;
            *q = i16::from(bits | top << 4) - 32;
        }
        visit(&Group {
            scale: d * f32::from(scale as i8),
            min: 0.0,
            q,
            len: 16,
        });
    }
}

/// Decodes whole blocks to f32: the definition of each format.
///
/// # Panics
/// If `bytes` isn't exactly the blocks that `out` takes.
pub fn dequantize(format: Format, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(
        format.row_bytes(out.len()),
        Some(bytes.len()),
        "{format:?} bytes don't fill {}",
        out.len()
    );
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
            let mut at = 0;
            groups(format, bytes, |group| {
                for &q in &group.q[..group.len] {
                    out[at] = group.scale * f32::from(q) + group.min;
                    at += 1;
                }
            });
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
