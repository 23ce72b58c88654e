//! Trains a byte-level BPE vocabulary: texts come in, merges come out, and a `tokenizer.json` that others read too.
//!
//! Texts are split into words which are counted on all threads ([`counting`]); then the most frequent pair of
//! neighbours is joined in all words, again and again ([`merging`]). Merges equal those of Hugging Face's `BpeTrainer`
//! on the same settings, ties included, for any number of threads. Special tokens stand first and are never learned:
//! a text that spells one is text. Left out are other alphabets than bytes, and affixes of words.

use std::collections::HashMap;
use std::io;

use hearth_artifacts::progress::Progress;

use crate::byte_alphabet::ByteAlphabet;
use crate::error::{Error, Result};
use crate::vocabulary::TokenId;

mod counting;
mod merging;
mod pair_counts;
mod pattern;
mod save;
mod words;

pub use pattern::{PATTERN_NAMES, SplitPattern};
pub use save::{CHATML_SPECIAL_TOKENS, CHATML_TEMPLATE};

/// Bytes of which every text is made.
const NUM_BYTES: usize = 256;

#[derive(Clone, Debug)]
pub struct TrainConfig {
    /// Special tokens and the 256 bytes included.
    pub vocab_size: usize,
    pub pattern: SplitPattern,
    /// Pairs that occur less often are not joined.
    pub min_frequency: u64,
    /// Tokens are shorter than this, in bytes, except those of two bytes.
    pub max_token_length: Option<usize>,
    /// Whether texts are composed first (Unicode's form C), as Qwen's are.
    pub nfc: bool,
    /// In the order of their ids, from 0.
    pub special_tokens: Vec<String>,
    pub threads: usize,
}

/// A trained vocabulary.
#[derive(Clone, Debug)]
pub struct Trained {
    /// Special tokens, bytes, and what merges made, spelled as `tokenizer.json` does.
    tokens: Vec<String>,
    merges: Vec<(TokenId, TokenId)>,
    pattern: SplitPattern,
    nfc: bool,
    special_tokens: Vec<String>,
    pub stats: TrainStats,
}

/// What training has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrainStats {
    pub num_texts: u64,
    pub num_bytes: u64,
    pub num_words: u64,
    pub num_unique_words: u64,
}

/// Trains on `texts`, each split on its own. An error of a text ends the training.
pub fn train<I>(texts: I, config: &TrainConfig, progress: &dyn Progress) -> Result<Trained>
where
    I: Iterator<Item = io::Result<String>> + Send,
{
    let base = Base::new(config)?;
    let (counts, stats) = counting::count_words(texts, config, progress)?;
    let Base { mut tokens, byte_ids } = base;
    let merges = merging::learn(counts, &byte_ids, &mut tokens, config, progress)?;
    Ok(Trained {
        tokens,
        merges,
        pattern: config.pattern.clone(),
        nfc: config.nfc,
        special_tokens: config.special_tokens.clone(),
        stats,
    })
}

impl Trained {
    pub fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    /// The tokens in the order of their ids, spelled as `tokenizer.json` does.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// Pairs of ids in the order in which they are joined.
    pub fn merges(&self) -> &[(TokenId, TokenId)] {
        &self.merges
    }
}

/// The vocabulary before anything is learned.
struct Base {
    tokens: Vec<String>,
    byte_ids: [TokenId; NUM_BYTES],
}

impl Base {
    fn new(config: &TrainConfig) -> Result<Self> {
        let mut tokens: Vec<String> = Vec::new();
        let mut ids: HashMap<String, TokenId> = HashMap::new();
        let mut add = |token: String| {
            *ids.entry(token.clone()).or_insert_with(|| {
                tokens.push(token);
                tokens.len() as TokenId - 1
            })
        };
        for (index, token) in config.special_tokens.iter().enumerate() {
            if token.is_empty() {
                return Err(Error::SpecialToken { token: token.clone(), problem: "is empty" });
            }
            if config.special_tokens[..index].contains(token) {
                return Err(Error::SpecialToken { token: token.clone(), problem: "is named twice" });
            }
            add(token.clone());
        }
        let alphabet = ByteAlphabet::new();
        let mut spelled: Vec<(String, u8)> =
            (0..=u8::MAX).map(|byte| (alphabet.spell(&[byte]), byte)).collect();
        spelled.sort_unstable_by_key(|(spelling, _)| spelling.chars().next());
        let mut byte_ids = [0; NUM_BYTES];
        for (spelling, byte) in spelled {
            byte_ids[usize::from(byte)] = add(spelling);
        }
        let least = tokens.len();
        if config.vocab_size < least || config.vocab_size > MAX_VOCAB_SIZE {
            return Err(Error::VocabSize { vocab_size: config.vocab_size, least, most: MAX_VOCAB_SIZE });
        }
        Ok(Self { tokens, byte_ids })
    }
}

/// Larger than any published vocabulary by far; each id costs memory in training.
const MAX_VOCAB_SIZE: usize = 1 << 22;
