//! The block formats of GGUF files: their scalar decoding, which every fast path is tested against, and encoding.
//!
//! Layouts follow ggml's `ggml-common.h`: little-endian, blocks of 32 or 256 weights along a row.
//! * `groups` — runs of integers with one scale, out of blocks
//! * `encode` — f32 rows to blocks
//! * `fit` — the search for scales

mod encode;
mod fit;
mod groups;

use half::{bf16, f16};

pub use encode::{can_quantize, quantize};
pub(crate) use groups::group;

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
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    IQ4NL,
    IQ4XS,
}

impl Format {
    /// All of them, in the order in which they stand here.
    pub const ALL: [Self; 15] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::IQ4NL,
        Self::IQ4XS,
    ];

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
            10 => Self::Q2K,
            11 => Self::Q3K,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            20 => Self::IQ4NL,
            23 => Self::IQ4XS,
            30 => Self::BF16,
            _ => return None,
        })
    }

    /// The type number in a GGUF tensor table.
    pub const fn to_ggml(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q2K => 10,
            Self::Q3K => 11,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::IQ4NL => 20,
            Self::IQ4XS => 23,
            Self::BF16 => 30,
        }
    }

    /// As GGUF files and their users spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
            Self::IQ4NL => "IQ4_NL",
            Self::IQ4XS => "IQ4_XS",
        }
    }

    /// Whether weights are kept as floats of their own, without blocks.
    pub const fn is_dense(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }

    /// Weights in a block.
    pub const fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::IQ4NL => 32,
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K | Self::IQ4XS => 256,
        }
    }

    /// Weights that share one scale.
    pub(crate) const fn group_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q2K | Self::Q3K | Self::Q6K => 16,
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
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
            Self::IQ4NL => 18,
            Self::IQ4XS => 136,
        }
    }

    /// Bytes of a row of `cols` weights; `None` if `cols` isn't a whole number of blocks.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        cols.is_multiple_of(self.block_len()).then(|| cols / self.block_len() * self.block_bytes())
    }
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
    fn numbers_and_formats_go_both_ways() {
        for format in Format::ALL {
            assert_eq!(Format::from_ggml(format.to_ggml()), Some(format));
        }
        assert_eq!((0..64).filter_map(Format::from_ggml).count(), Format::ALL.len());
    }

    /// Blocks of random bytes with what the `gguf` package makes of them; written by `golden/gguf_blocks.py`.
    const GOLDEN: &str = include_str!("../../../golden/gguf_blocks.txt");

    fn bytes_of_hex(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn every_format_decodes_as_the_gguf_package_does() {
        let mut seen = Vec::new();
        for line in GOLDEN.lines().filter(|line| !line.starts_with('#')) {
            let fields: Vec<&str> = line.split(' ').collect();
            let format = Format::ALL.into_iter().find(|format| format.name() == fields[0]).unwrap();
            let block = bytes_of_hex(fields[1]);
            let expected = bytes_of_hex(fields[2]);
            let expected = expected.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
            let mut out = vec![0.0; format.block_len() * block.len() / format.block_bytes()];
            dequantize(format, &block, &mut out);
            for (index, (out, expected)) in out.iter().zip(expected).enumerate() {
                // The package multiplies in another order where a scale is a product: one rounding apart.
                let near = (out - expected).abs() <= expected.abs() * 1e-6 + 1e-9;
                assert!(near, "{format:?} weight {index}: {out} vs. {expected}");
            }
            seen.push(format);
        }
        assert!(Format::ALL.iter().all(|format| seen.contains(format)), "{seen:?}");
    }

    #[test]
    fn rows_must_be_whole_blocks() {
        assert_eq!(Format::Q4K.row_bytes(896), None);
        assert_eq!(Format::Q8_0.row_bytes(64), Some(68));
    }
}
