//! A text embedder small enough to be made by code in a test: an `E5S1` container with random weights.
//!
//! Out: one file as the encoder reads it, with f32 tensors and a Unigram vocabulary of single ASCII characters, so that a
//! text has about as many tokens as characters. Its vectors depend on the text and on nothing else; they know no
//! meaning.

use std::io;
use std::path::Path;

use crate::tiny_model::Random;

const HIDDEN: usize = 32;
const LAYERS: usize = 1;
const HEADS: usize = 2;
const INNER: usize = 64;
/// As many positions as the multilingual E5 models have.
const POSITIONS: usize = 512;
const EPS: f32 = 1e-6;

/// Ids 0 to 3, in the order in which the container names them: bos, pad, eos, unknown.
const CONTROL: [&str; 4] = ["<s>", "<pad>", "</s>", "<unk>"];
/// What stands before a query and before a passage, with the space that Unigram writes as `▁`.
const PREFIXES: [&str; 3] = ["▁query", "▁passage", "▁"];

/// Writes the embedder; its name is the file's, without the extension.
pub fn tiny_embedder(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs_err::create_dir_all(folder)?;
    }
    fs_err::write(path, container())
}

fn pieces() -> Vec<String> {
    let named = CONTROL.into_iter().chain(PREFIXES).map(str::to_owned);
    named.chain((b'!'..=b'~').map(|byte| char::from(byte).to_string())).collect()
}

/// Name, values and spread of every tensor; norms lie around 1.
fn tensors(vocab_size: usize) -> Vec<(String, Vec<f32>)> {
    let mut random = Random::new(7);
    let mut list = Vec::new();
    let mut push = |name: String, count: usize, spread: f32, center: f32| {
        let values = (0..count).map(|_| center + spread * random.signed()).collect();
        list.push((name, values));
    };
    push("emb.word".into(), vocab_size * HIDDEN, 0.5, 0.0);
    push("emb.pos".into(), POSITIONS * HIDDEN, 0.1, 0.0);
    push("emb.type".into(), 2 * HIDDEN, 0.1, 0.0);
    push("emb.ln.w".into(), HIDDEN, 0.1, 1.0);
    push("emb.ln.b".into(), HIDDEN, 0.1, 0.0);
    for layer in 0..LAYERS {
        for (part, rows, cols) in [
            ("q", HIDDEN, HIDDEN),
            ("k", HIDDEN, HIDDEN),
            ("v", HIDDEN, HIDDEN),
            ("ao", HIDDEN, HIDDEN),
            ("fi", INNER, HIDDEN),
            ("fo", HIDDEN, INNER),
        ] {
            push(format!("l{layer}.{part}.w"), rows * cols, 0.2, 0.0);
            push(format!("l{layer}.{part}.b"), rows, 0.1, 0.0);
        }
        for part in ["aln", "oln"] {
            push(format!("l{layer}.{part}.w"), HIDDEN, 0.1, 1.0);
            push(format!("l{layer}.{part}.b"), HIDDEN, 0.1, 0.0);
        }
    }
    list
}

fn numbers(out: &mut Vec<u8>, values: &[usize]) {
    out.extend(values.iter().flat_map(|&value| (value as u32).to_le_bytes()));
}

/// Numbers, vocabulary, an empty character map, the directory of tensors, their data from a multiple of 32 on.
fn container() -> Vec<u8> {
    let pieces = pieces();
    let vocab_size = pieces.len();
    let mut out = b"E5S1".to_vec();
    numbers(&mut out, &[1, HIDDEN, LAYERS, HEADS, INNER, vocab_size, POSITIONS, 2]);
    out.extend(EPS.to_le_bytes());
    let (block_len, bos, eos, pad, unknown) = (32, 0, 2, 1, 3);
    numbers(&mut out, &[block_len, vocab_size, bos, eos, pad, unknown]);
    let spellings = pieces.concat();
    out.extend((spellings.len() as u64).to_le_bytes());
    let ends = pieces.iter().scan(0, |end, piece| {
        *end += piece.len();
        Some(*end)
    });
    let offsets: Vec<usize> = std::iter::once(0).chain(ends).collect();
    numbers(&mut out, &offsets);
    for id in 0..vocab_size {
        let score: f32 = if id < CONTROL.len() { 0.0 } else { -4.0 };
        out.extend(score.to_le_bytes());
    }
    out.extend(spellings.bytes());
    numbers(&mut out, &[0, 0]);
    let tensors = tensors(vocab_size);
    numbers(&mut out, &[tensors.len()]);
    let directory: usize = tensors.iter().map(|(name, _)| 2 + name.len() + 1 + 4 + 16).sum();
    let mut offset = (out.len() + directory).next_multiple_of(32);
    for (name, values) in &tensors {
        let num_bytes = size_of_val(values.as_slice());
        out.extend((name.len() as u16).to_le_bytes());
        out.extend(name.bytes());
        // Type 0: f32.
        out.push(0);
        numbers(&mut out, &[values.len()]);
        out.extend((offset as u64).to_le_bytes());
        out.extend((num_bytes as u64).to_le_bytes());
        offset += num_bytes;
    }
    out.resize(out.len().next_multiple_of(32), 0);
    out.extend(tensors.iter().flat_map(|(_, values)| values).flat_map(|value| value.to_le_bytes()));
    out
}
