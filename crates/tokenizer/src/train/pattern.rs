//! The split patterns to train with, by name or one's own, and the steps of `tokenizer.json` that stand for them.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::split::{CL100K_PORTABLE, GPT2, NANOCHAT, Splitter, compile, split_patterns};

/// Names of [`SplitPattern::named`].
pub const PATTERN_NAMES: [&str; 9] =
    ["gpt2", "cl100k", "llama3", "qwen2", "nanochat", "o200k", "tekken", "smollm", "deepseek-v3"];

/// Regular expressions, each splitting what the one before left whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitPattern(Vec<String>);

impl SplitPattern {
    /// The pattern of a family.
    pub fn named(name: &str) -> Option<Self> {
        let patterns = match name {
            "gpt2" => &[GPT2],
            "cl100k" => &[CL100K_PORTABLE],
            "nanochat" => &[NANOCHAT],
            "llama3" | "qwen2" | "smollm" | "tekken" | "deepseek-v3" => split_patterns(name)?,
            "o200k" => split_patterns("gpt-4o")?,
            _ => return None,
        };
        Some(Self(patterns.iter().map(|pattern| (*pattern).to_owned()).collect()))
    }

    /// A regular expression of one's own; what lies between its matches is words too.
    pub fn own(pattern: &str) -> Result<Self> {
        if pattern.is_empty() {
            return Err(Error::EmptyPattern);
        }
        compile(pattern)?;
        Ok(Self(vec![pattern.to_owned()]))
    }

    pub(super) fn splitters(&self) -> Result<Vec<Splitter>> {
        self.0.iter().map(|pattern| Splitter::from_pattern(pattern)).collect()
    }

    /// Whether words end where a run of letters does, so that long texts may be cut there.
    pub fn is_known(&self) -> bool {
        PATTERN_NAMES.iter().any(|name| Self::named(name).as_ref() == Some(self))
    }

    pub(super) fn pre_tokenizer(&self) -> Value {
        let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
        let mut patterns = self.0.as_slice();
        let ends_in_gpt2 = patterns.last().is_some_and(|last| last == GPT2);
        if ends_in_gpt2 {
            patterns = &patterns[..patterns.len() - 1];
        }
        let mut steps: Vec<Value> = patterns.iter().map(|pattern| split_step(pattern)).collect();
        steps.push(byte_level(ends_in_gpt2));
        match steps.as_slice() {
            [step] => step.clone(),
            _ => json!({"type": "Sequence", "pretokenizers": steps}),
        }
    }
}

fn split_step(pattern: &str) -> Value {
    if pattern == r"\p{N}" {
        return json!({"type": "Digits", "individual_digits": true});
    }
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
}
