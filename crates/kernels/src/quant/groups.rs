//! Blocks taken apart: runs of integers with one scale, and a minimum where the format has one.
//!
//! Layouts follow ggml's `ggml-common.h`.

use half::f16;

use super::Format;

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
    /// The first `len` are used; 16 for `Q2_K`, `Q3_K` and `Q6_K`, else 32.
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
        Format::Q2K => q2_k_group(block, index),
        Format::Q3K => q3_k_group(block, index),
        Format::Q4K | Format::Q5K => k_group(format, block, index),
        Format::Q6K => q6_k_group(block, index),
        Format::IQ4NL => {
            let q = looked_up(nibbles(array_at(block, 2)));
            Group { scale: f16_at(block, 0), min: 0.0, zero: 128, q, len: 32 }
        }
        Format::IQ4XS => iq4_xs_group(block, index),
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
pub(super) fn k_scale_min(packed: &[u8], j: usize) -> (u8, u8) {
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

/// Two bits of each of the sixteen weights of sub-block `j`: two halves of 128, each four quarters of 32.
#[inline(always)]
fn bit_pairs(quants: &[u8], j: usize) -> [u8; 32] {
    let (half, quarter, start) = (j / 8, j % 8 / 2, j % 2 * 16);
    let bytes: [u8; 16] = array_at(quants, half * 32 + start);
    let mut q = [0; 32];
    for (q, byte) in q.iter_mut().zip(bytes) {
        *q = byte >> (2 * quarter) & 3;
    }
    q
}

/// One of 16 sub-blocks of 16, with a 4-bit scale and a 4-bit minimum.
#[inline(always)]
fn q2_k_group(block: &[u8], j: usize) -> Group {
    let packed = block[j];
    Group {
        scale: f16_at(block, 80) * f32::from(packed & 15),
        min: -f16_at(block, 82) * f32::from(packed >> 4),
        zero: 0,
        q: bit_pairs(&block[16..80], j),
        len: 16,
    }
}

/// One of 16 sub-blocks of 16, with a signed 6-bit scale; a weight's third bit lies in a mask of its own.
#[inline(always)]
fn q3_k_group(block: &[u8], j: usize) -> Group {
    let mut q = bit_pairs(&block[32..96], j);
    let high: [u8; 16] = array_at(block, j % 2 * 16);
    for (q, high) in q.iter_mut().zip(high) {
        *q |= (high >> (j / 2) & 1) << 2;
    }
    let packed = &block[96..108];
    let low = packed[j % 8] >> (j / 8 * 4) & 15;
    let scale = low | (packed[8 + j % 4] >> (j / 4 * 2) & 3) << 4;
    Group { scale: f16_at(block, 108) * f32::from(scale as i8 - 32), min: 0.0, zero: 4, q, len: 16 }
}

/// What the integers of the IQ4 formats stand for, plus 128: ggml's `kvalues_iq4nl`.
const IQ4_VALUES: [u8; 16] = [1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241];

#[inline(always)]
fn looked_up(q: [u8; 32]) -> [u8; 32] {
    q.map(|q| IQ4_VALUES[usize::from(q)])
}

/// One of 8 sub-blocks of 32, with a signed 6-bit scale.
#[inline(always)]
fn iq4_xs_group(block: &[u8], j: usize) -> Group {
    let high = u16::from_le_bytes([block[2], block[3]]);
    let scale = block[4 + j / 2] >> (j % 2 * 4) & 15 | ((high >> (2 * j) & 3) as u8) << 4;
    Group {
        scale: f16_at(block, 0) * f32::from(scale as i8 - 32),
        min: 0.0,
        zero: 128,
        q: looked_up(nibbles(array_at(block, 8 + j * 16))),
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
