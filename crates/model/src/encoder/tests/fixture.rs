//! A tiny `E5S1` file with random weights, and the same weights dense for the reference.

use std::collections::BTreeMap;
use std::path::PathBuf;

use half::f16;

pub(super) const HIDDEN: usize = 64;
pub(super) const LAYERS: usize = 2;
pub(super) const HEADS: usize = 4;
pub(super) const INNER: usize = 96;
pub(super) const POSITIONS: usize = 24;
pub(super) const EPS: f32 = 1e-6;

/// Ids 0 to 3 are bos, pad, eos and unknown, as in the real model.
pub(super) const PIECES: [&str; 24] = [
    "<s>",
    "<pad>",
    "</s>",
    "<unk>",
    "▁",
    "▁query",
    "query",
    "▁passage",
    "passage",
    ":",
    "a",
    "b",
    "c",
    "ab",
    "▁ab",
    "cab",
    "国",
    "中国",
    "首都",
    "是",
    "哪里",
    "▁the",
    "the",
    "<mask>",
];
/// Rows beyond the pieces, as the real model has.
pub(super) const VOCAB: usize = PIECES.len() + 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Storage {
    Dense,
    FourBit,
}

pub(super) struct Fixture {
    /// Every tensor decoded, by its name in the file.
    pub(super) tensors: BTreeMap<String, Vec<f32>>,
    pub(super) bytes: Vec<u8>,
}

/// `SplitMix64` (Steele et al. 2014).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [-1, 1).
    fn value(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }
}

/// A tensor of the file: type number, number of weights, bytes.
struct Stored(u8, usize, Vec<u8>);

fn dense(values: &[f32]) -> Stored {
    Stored(0, values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// Random blocks of 32: an f16 scale, then sixteen bytes with weight j low and weight j + 16 high.
fn four_bit(random: &mut Random, count: usize, size: f32) -> (Vec<f32>, Stored) {
    let (mut values, mut bytes) = (Vec::new(), Vec::new());
    for _ in 0..count / 32 {
        let scale = f16::from_f32(size / 8.0 * (1.0 + 0.3 * random.value()));
        bytes.extend(scale.to_le_bytes());
        let nibbles: Vec<u8> = (0..32).map(|_| (random.next() % 16) as u8).collect();
        bytes.extend((0..16).map(|j| nibbles[j] | nibbles[j + 16] << 4));
        values.extend(nibbles.iter().map(|&q| scale.to_f32() * (f32::from(q) - 8.0)));
    }
    (values, Stored(1, count, bytes))
}

impl Fixture {
    pub(super) fn new(storage: Storage) -> Self {
        let mut random = Random(7);
        let mut tensors = BTreeMap::new();
        let mut stored = Vec::new();
        for (name, count, size, center) in tensor_list() {
            let is_matrix =
                name == "emb.word" || name.strip_suffix(".w").is_some_and(|part| !part.ends_with("ln"));
            if is_matrix && storage == Storage::FourBit {
                let (values, blocks) = four_bit(&mut random, count, size);
                tensors.insert(name.clone(), values);
                stored.push((name, blocks));
            } else {
                let values: Vec<f32> = (0..count).map(|_| center + size * random.value()).collect();
                stored.push((name.clone(), dense(&values)));
                tensors.insert(name, values);
            }
        }
        Self { tensors, bytes: container(&stored) }
    }

    /// Writes the file into a folder that lives as long as the result.
    pub(super) fn write(&self) -> (tempfile::TempDir, PathBuf) {
        write(&self.bytes)
    }
}

pub(super) fn write(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny-e5.bin");
    fs_err::write(&path, bytes).unwrap();
    (folder, path)
}

/// Name, number of weights, spread and center of all tensors.
fn tensor_list() -> Vec<(String, usize, f32, f32)> {
    let mut list = vec![
        ("emb.word".to_owned(), VOCAB * HIDDEN, 1.0, 0.0),
        ("emb.pos".to_owned(), POSITIONS * HIDDEN, 0.5, 0.0),
        ("emb.type".to_owned(), 2 * HIDDEN, 0.3, 0.0),
        ("emb.ln.w".to_owned(), HIDDEN, 0.3, 1.0),
        ("emb.ln.b".to_owned(), HIDDEN, 0.2, 0.0),
    ];
    for layer in 0..LAYERS {
        for (part, rows, cols) in [
            ("q", HIDDEN, HIDDEN),
            ("k", HIDDEN, HIDDEN),
            ("v", HIDDEN, HIDDEN),
            ("ao", HIDDEN, HIDDEN),
            ("fi", INNER, HIDDEN),
            ("fo", HIDDEN, INNER),
        ] {
            // Large enough that attention is far from uniform and GELU far from linear.
            list.push((format!("l{layer}.{part}.w"), rows * cols, 0.35, 0.0));
            list.push((format!("l{layer}.{part}.b"), rows, 0.3, 0.0));
        }
        for part in ["aln", "oln"] {
            list.push((format!("l{layer}.{part}.w"), HIDDEN, 0.3, 1.0));
            list.push((format!("l{layer}.{part}.b"), HIDDEN, 0.2, 0.0));
        }
    }
    list
}

fn container(tensors: &[(String, Stored)]) -> Vec<u8> {
    let mut out = b"E5S1".to_vec();
    let numbers =
        |values: &[usize]| values.iter().flat_map(|&value| (value as u32).to_le_bytes()).collect::<Vec<u8>>();
    out.extend(numbers(&[1, HIDDEN, LAYERS, HEADS, INNER, VOCAB, POSITIONS, 2]));
    out.extend(EPS.to_le_bytes());
    out.extend(numbers(&[32, PIECES.len(), 0, 2, 1, 3]));
    let spellings = PIECES.concat();
    out.extend((spellings.len() as u64).to_le_bytes());
    let ends = PIECES.iter().scan(0, |end, piece| {
        *end += piece.len();
        Some(*end)
    });
    let offsets: Vec<usize> = std::iter::once(0).chain(ends).collect();
    out.extend(numbers(&offsets));
    for (id, piece) in PIECES.iter().enumerate() {
        // Longer pieces are likelier than their parts.
        let score = if id < 4 { 0.0 } else { -8.0 + 0.5 * piece.chars().count() as f32 };
        out.extend(score.to_le_bytes());
    }
    out.extend(spellings.bytes());
    // One entry of the character map: full-width Ａ becomes a.
    out.extend(numbers(&[1, 9, 'Ａ' as usize]));
    out.push(1);
    out.extend(numbers(&['a' as usize]));
    out.extend(numbers(&[tensors.len()]));
    let directory: usize = tensors.iter().map(|(name, _)| 2 + name.len() + 1 + 4 + 16).sum();
    let mut offset = (out.len() + directory).next_multiple_of(32);
    for (name, Stored(kind, count, bytes)) in tensors {
        out.extend((name.len() as u16).to_le_bytes());
        out.extend(name.bytes());
        out.push(*kind);
        out.extend((*count as u32).to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        out.extend((bytes.len() as u64).to_le_bytes());
        offset += bytes.len();
    }
    out.resize(out.len().next_multiple_of(32), 0);
    for (_, Stored(_, _, bytes)) in tensors {
        out.extend(bytes);
    }
    out
}
