//! The split patterns of model families, as data: names of GGUF's `tokenizer.ggml.pre` and of tiktoken's encodings.
//!
//! The patterns are those of the families' own published tokenizers.

use super::{Splitter, compile};
use crate::error::{Error, Result};

/// Of GPT-2, which the step `ByteLevel` of `tokenizer.json` brings along.
pub const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
pub(crate) const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub(crate) const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub(crate) const CL100K: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s";
/// [`CL100K`] as the engines of other programs understand it: possessive bounds and `$` mean other things there.
pub(crate) const CL100K_PORTABLE: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+\z|\s*[\r\n]|\s+(?!\S)|\s";
/// Of nanochat: cl100k's with numbers of two digits.
pub(crate) const NANOCHAT: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
pub(crate) const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub(crate) const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const SEED_CODER: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const BAILING: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
/// Digits in threes, then Chinese and Japanese, then the rest.
const DEEPSEEK3: [&str; 3] = [
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
];
const DEEPSEEK_CODER: [&str; 5] = [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}"];
const FALCON: [&str; 3] = [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, r"[0-9][0-9][0-9]"];

const NAMES: &str = "one of the families `gpt-2`, `qwen2`, `llama-bpe`, `smollm`, `starcoder`, `gpt-4o`, `tekken`, \
                     `deepseek-v3`, `deepseek-coder`, `falcon`, `qwen35`, `bloom` and those that split like them";

impl Splitter {
    /// The splitter for a pattern of `tokenizer.json`: a scanner if the pattern is a known one.
    pub(crate) fn from_pattern(pattern: &str) -> Result<Self> {
        Ok(match pattern {
            GPT2 => Self::Gpt2,
            QWEN2 => Self::Tiktoken { max_digits: 1, keeps_tail: false },
            LLAMA3 => Self::Tiktoken { max_digits: 3, keeps_tail: false },
            NANOCHAT => Self::Tiktoken { max_digits: 2, keeps_tail: false },
            CL100K | CL100K_PORTABLE => Self::Tiktoken { max_digits: 3, keeps_tail: true },
            O200K => Self::Cased { max_digits: 3, contractions: true },
            TEKKEN => Self::Cased { max_digits: 1, contractions: false },
            r"\p{N}" => Self::Digits,
            _ => Self::Pattern { regex: Box::new(compile(pattern)?), gaps: super::Gaps::Kept },
        })
    }

    /// The splitters behind a name of GGUF's `tokenizer.ggml.pre`.
    pub(crate) fn from_gguf(pre: &str) -> Result<Vec<Self>> {
        let unknown =
            || Error::Unsupported { field: "tokenizer.ggml.pre", value: pre.to_owned(), expected: NAMES };
        let patterns = split_patterns(pre).ok_or_else(unknown)?;
        patterns.iter().map(|pattern| Self::from_pattern(pattern)).collect()
    }
}

/// The names of `tokenizer.ggml.pre` that differ in what they do, the first of each kind.
pub const SPLIT_NAMES: [&str; 13] = [
    "gpt-2",
    "smollm",
    "qwen2",
    "stablelm2",
    "llama-bpe",
    "dbrx",
    "gpt-4o",
    "tekken",
    "deepseek-v3",
    "deepseek-coder",
    "falcon",
    "qwen35",
    "bloom",
];

/// The patterns behind a name of GGUF's `tokenizer.ggml.pre`, each splitting what the one before left whole.
pub fn split_patterns(pre: &str) -> Option<&'static [&'static str]> {
    Some(match pre {
        "" | "default" | "gpt-2" | "gpt2" | "phi-2" | "mpt" | "olmo" | "jais" | "trillion"
        | "roberta-bpe" | "modern-bert" | "mellum" | "gigachat" | "a.x-4.0" | "granite-docling"
        | "jina-es" | "jina-de" | "jina-v1-en" | "jina-v2-es" | "jina-v2-de" | "jina-v2-code" => &[GPT2],
        "qwen2" | "deepseek-r1-qwen" | "stablelm2" | "hunyuan" | "megrez" | "grok-2" | "solar-open"
        | "kormo" | "f2llmv2" => &[QWEN2],
        "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2"
        | "jina-v5-nano" | "dbrx" | "smaug-bpe" | "chatglm-bpe" | "glm4" | "glm5" => &[LLAMA3],
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b"
        | "mellum2" => &[r"\p{N}", GPT2],
        "gpt-4o" | "llama4" | "kanana2" | "talkie" | "minimax-m2" => &[O200K],
        "tekken" => &[TEKKEN],
        "deepseek-v3" | "hunyuan-dense" | "joyai-llm" | "hy_v4" => &DEEPSEEK3,
        "deepseek-coder" => &DEEPSEEK_CODER,
        "falcon" => &FALCON,
        "qwen35" => &[QWEN35],
        "seed-coder" => &[SEED_CODER],
        "bailingmoe" | "bailingmoe2" | "llada-moe" => &[BAILING],
        "bloom" | "poro-chat" | "gpt3-finnish" => &[BLOOM],
        "viking" => &[BLOOM, r"\p{N}"],
        _ => return None,
    })
}

/// Families in which a word that is a token is that token, whatever the merges say.
pub fn ignores_merges(pre: &str) -> bool {
    matches!(
        pre,
        "llama-bpe"
            | "llama3"
            | "llama-v3"
            | "falcon3"
            | "falcon-h1"
            | "pixtral"
            | "midm-2.0"
            | "lfm2"
            | "jina-v5-nano"
            | "chatglm-bpe"
            | "glm4"
            | "glm5"
            | "tekken"
    )
}
