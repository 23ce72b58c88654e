//! `hearth tokenizer train`: files of text to a folder with a vocabulary.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use hearth_artifacts::atomic;
use hearth_tokenizer::train::{
    CHATML_SPECIAL_TOKENS, PATTERN_NAMES, SplitPattern, TrainConfig, TrainStats, Trained, train,
};
use serde_json::json;

use crate::args::TrainTokenizerArgs;
use crate::commands::Context;
use crate::commands::bench::peak_mib;
use crate::rows::Rows;

pub(super) fn run(context: &Context, args: &TrainTokenizerArgs) -> Result<()> {
    let file = args.output.join("tokenizer.json");
    if file.exists() {
        bail!("`{}` is there already\nhint: name another folder with `-o`, or remove it", file.display());
    }
    let config = TrainConfig {
        vocab_size: args.vocab_size,
        pattern: pattern(&args.pattern)?,
        min_frequency: args.min_frequency,
        max_token_length: args.max_token_length,
        nfc: args.nfc,
        special_tokens: match args.special.is_empty() {
            true => CHATML_SPECIAL_TOKENS.map(String::from).to_vec(),
            false => args.special.clone(),
        },
        threads: context.machine.pool.threads(),
    };
    let start = Instant::now();
    let trained = train(Rows::new(args.files.clone()).into_texts(), &config, &context.terminal)?;
    let seconds = start.elapsed().as_secs_f64();
    let TrainStats { num_texts, num_bytes, num_words, num_unique_words } = trained.stats;
    if trained.vocab_size() < args.vocab_size {
        context.terminal.say(&format!(
            "note: the text gives {} tokens and not {}: no more pairs are as frequent as asked",
            trained.vocab_size(),
            args.vocab_size
        ));
    }
    write(&trained, &args.output)?;
    if context.json {
        context.print_json(&json!({
            "tokenizer": file, "vocab_size": trained.vocab_size(), "merges": trained.merges().len(),
            "pattern": args.pattern, "special_tokens": config.special_tokens, "texts": num_texts,
            "bytes": num_bytes, "words": num_words, "unique_words": num_unique_words,
            "threads": config.threads, "seconds": seconds, "peak_mib": peak_mib(),
        }));
    } else {
        context.print(&format!(
            "{}: {} tokens from {:.1} MB of text in {seconds:.1} s",
            file.display(),
            trained.vocab_size(),
            num_bytes as f64 / 1e6,
        ));
    }
    Ok(())
}

/// Writes a vocabulary's files. `tokenizer.json` comes last, because a folder that has it is whole.
pub(crate) fn write(trained: &Trained, folder: &Path) -> Result<()> {
    atomic::write_json(&folder.join("tokenizer_config.json"), &trained.config_json())?;
    Ok(atomic::write_json(&folder.join("tokenizer.json"), &trained.to_json())?)
}

/// The name of a family, or a regular expression. A lone word is a name that nobody knows.
pub(crate) fn pattern(text: &str) -> Result<SplitPattern> {
    if let Some(pattern) = SplitPattern::named(text) {
        return Ok(pattern);
    }
    if text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
        bail!(
            "no split pattern is called `{text}`\nhint: it is one of {}, or a regular expression",
            PATTERN_NAMES.join(", ")
        );
    }
    SplitPattern::own(text).context("`--pattern` can't be used")
}
