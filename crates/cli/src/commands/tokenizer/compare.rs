//! `hearth tokenizer compare`: what several tokenizers make of one's own texts, and how fast.
//!
//! A word is one of Unicode's (UAX 29), so a Chinese character counts as a word of its own.

use std::time::Instant;

use anyhow::{Result, bail};
use hearth_tokenizer::{Tokenizer, count_words};
use serde_json::{Value, json};

use crate::args::CompareTokenizersArgs;
use crate::commands::Context;

struct Text {
    name: String,
    content: String,
    num_words: usize,
    num_chars: usize,
}

pub(super) fn run(context: &Context, args: &CompareTokenizersArgs) -> Result<()> {
    let mut texts = Vec::new();
    for path in &args.text {
        let content = super::read_text(Some(path))?;
        if content.is_empty() {
            bail!("`{}` is empty: there is nothing to compare on", path.display());
        }
        let (num_words, num_chars) = (count_words(&content), content.chars().count());
        texts.push(Text { name: path.display().to_string(), content, num_words, num_chars });
    }
    if !context.json {
        context.print(&format!(
            "{:24} {:24} {:>10} {:>8} {:>8} {:>8} {:>8}",
            "tokenizer", "text", "tokens", "bytes/t", "chars/t", "t/word", "MB/s"
        ));
    }
    for name in &args.tokenizers {
        let tokenizer = super::open(context, name)?;
        for text in &texts {
            let row = measure(&tokenizer, text, args.repeat);
            print(context, name, &tokenizer, text, &row);
        }
    }
    Ok(())
}

struct Measured {
    num_tokens: usize,
    mb_per_s: f64,
    /// Whether decoding gives the text back.
    is_lossless: bool,
}

fn measure(tokenizer: &Tokenizer, text: &Text, repeat: u16) -> Measured {
    let mut ids = Vec::new();
    let mut speeds = Vec::new();
    for _ in 0..repeat {
        let start = Instant::now();
        ids = tokenizer.encode(&text.content);
        speeds.push(text.content.len() as f64 / 1e6 / start.elapsed().as_secs_f64());
    }
    speeds.sort_by(f64::total_cmp);
    Measured {
        num_tokens: ids.len(),
        mb_per_s: speeds[speeds.len() / 2],
        is_lossless: tokenizer.decode(&ids) == text.content,
    }
}

fn print(context: &Context, name: &str, tokenizer: &Tokenizer, text: &Text, row: &Measured) {
    let tokens = row.num_tokens.max(1) as f64;
    let bytes_per_token = text.content.len() as f64 / tokens;
    let chars_per_token = text.num_chars as f64 / tokens;
    let tokens_per_word =
        if text.num_words == 0 { None } else { Some(row.num_tokens as f64 / text.num_words as f64) };
    if context.json {
        let line: Value = json!({
            "tokenizer": name, "vocab_size": tokenizer.vocab_size(), "text": text.name,
            "bytes": text.content.len(), "chars": text.num_chars, "words": text.num_words,
            "tokens": row.num_tokens, "bytes_per_token": bytes_per_token,
            "chars_per_token": chars_per_token, "tokens_per_word": tokens_per_word,
            "mb_per_s": row.mb_per_s, "lossless": row.is_lossless,
        });
        return context.print_json(&line);
    }
    let words = tokens_per_word.map_or("-".into(), |tokens| format!("{tokens:.3}"));
    let loss = if row.is_lossless { "" } else { "  decoding doesn't give the text back" };
    context.print(&format!(
        "{name:24} {:24} {:>10} {bytes_per_token:>8.3} {chars_per_token:>8.3} {words:>8} {:>8.1}{loss}",
        text.name, row.num_tokens, row.mb_per_s
    ));
}
