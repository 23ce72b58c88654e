//! Megabytes of text a second into ids: `cargo bench -p hearth-tokenizer`.
//!
//! The vocabulary is cl100k (from the package of `tiktoken-rs`), the texts are this repository's own: English, Chinese
//! and Rust. Beside hearth runs `tiktoken-rs` on the same text, one thread each.

use std::sync::LazyLock;

use divan::Bencher;
use divan::counter::BytesCount;
use hearth_tokenizer::{Encoding, Tokenizer};
use tiktoken_rs::CoreBPE;

const TEXTS: [(&str, &str); 3] = [
    ("english", concat!(include_str!("../../../README.md"), include_str!("../../../ARCHITECTURE.md"))),
    ("chinese", include_str!("../../../README.zh-CN.md")),
    (
        "code",
        concat!(
            include_str!("../src/tokenizer.rs"),
            include_str!("../src/split.rs"),
            include_str!("../src/chat.rs")
        ),
    ),
];

static THEIRS: LazyLock<CoreBPE> =
    LazyLock::new(|| tiktoken_rs::cl100k_base().expect("the package holds the file"));

static OURS: LazyLock<Tokenizer> = LazyLock::new(|| {
    let tokens = (0..100_256).filter_map(|id| Some((THEIRS.decode_bytes(&[id]).ok()?, id)));
    let lines = tokens.map(|(bytes, id)| format!("{} {id}\n", base64(&bytes)));
    let file: String = lines.collect();
    Tokenizer::from_tiktoken(file.as_bytes(), Encoding::Cl100k).expect("the file is the published one")
});

fn main() {
    divan::main();
}

fn texts() -> impl Iterator<Item = &'static str> {
    TEXTS.iter().map(|(name, _)| *name)
}

fn text(name: &str) -> &'static str {
    TEXTS.iter().find(|(other, _)| *other == name).map_or("", |(_, text)| text)
}

#[divan::bench(args = texts())]
fn hearth(bencher: Bencher<'_, '_>, name: &str) {
    let text = text(name);
    bencher.counter(BytesCount::of_str(text)).bench(|| OURS.encode(text));
}

/// As a server meets it: a request at a time, a line or two long.
#[divan::bench(args = texts())]
fn hearth_by_line(bencher: Bencher<'_, '_>, name: &str) {
    let text = text(name);
    let num_ids = || text.lines().map(|line| OURS.encode(line).len()).sum::<usize>();
    bencher.counter(BytesCount::of_str(text)).bench(num_ids);
}

#[divan::bench(args = texts())]
fn tiktoken(bencher: Bencher<'_, '_>, name: &str) {
    let text = text(name);
    bencher.counter(BytesCount::of_str(text)).bench(|| THEIRS.encode_ordinary(text));
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | u32::from(*chunk.get(at).unwrap_or(&0)));
        for at in 0..4 {
            let digit = char::from(DIGITS[(bits >> (18 - 6 * at) & 63) as usize]);
            out.push(if at <= chunk.len() { digit } else { '=' });
        }
    }
    out
}
