//! A byte-level BPE `tokenizer.json`: the 256 bytes, a few merges, the special tokens of `ChatML`.
//!
//! Bytes are spelt in the alphabet of GPT-2's vocabulary: printable Latin-1 as itself, the other 68 bytes
//! as U+0100 upwards in ascending order.

use serde_json::{Map, Value, json};

/// Merges in order of rank; every part is a byte or the result of an earlier merge.
const MERGES: [(&str, &str); 7] =
    [("t", "h"), ("th", "e"), ("i", "n"), ("e", "r"), ("Ġ", "the"), ("a", "n"), ("an", "d")];

/// In order of id, behind bytes and merges.
pub(crate) const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// Bytes, merges and special tokens.
pub(crate) const VOCAB_SIZE: usize = 256 + MERGES.len() + SPECIAL.len();

/// Bytes and merges by id, as the vocabulary spells them.
pub(crate) fn tokens() -> Vec<String> {
    let bytes = alphabet().into_iter().map(String::from);
    bytes.chain(MERGES.iter().map(|(left, right)| format!("{left}{right}"))).collect()
}

/// A merge a line, its parts with a space between.
pub(crate) fn merges() -> Vec<String> {
    MERGES.iter().map(|(left, right)| format!("{left} {right}")).collect()
}

pub(crate) fn tokenizer_json() -> Value {
    let tokens = tokens();
    let vocab: Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
    let merges = merges();
    let added = SPECIAL.iter().enumerate().map(|(index, content)| {
        json!({
            "id": tokens.len() + index, "content": content, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false, "special": true,
        })
    });
    let added: Vec<Value> = added.collect();
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": null,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": false, "vocab": vocab, "merges": merges,
        },
    })
}

/// The character of each byte.
fn alphabet() -> Vec<char> {
    let mut next = 0x100;
    let spell = |byte: u8| match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
        _ => {
            next += 1;
            char::from_u32(next - 1).expect("U+0100 to U+0143 are letters")
        }
    };
    (0..=255).map(spell).collect()
}
