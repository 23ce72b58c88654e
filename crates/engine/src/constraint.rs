//! Output that is right by construction: only tokens that can still lead to a text of the wanted shape may be chosen.
//!
//! The grammars are llguidance's (derivatives of regular expressions under an Earley parser, over a trie of the
//! vocabulary). A mask is exact: every token that fits may be chosen, however else its text could be cut into tokens,
//! so a greedy choice that fits anyway stays what it was. Control tokens never fit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use hearth_tokenizer::{TokenId, Tokenizer};
use llguidance::ParserFactory;
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{
    INVALID_TOKEN, InferenceCapabilities, SimpleVob, TokEnv, TokRxInfo, TokTrie, TokenizerEnv,
};

use crate::request::{Error, Result};

/// What a text must look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Constraint {
    /// Any JSON object.
    JsonObject,
    /// A JSON value that fits this JSON schema.
    JsonSchema(String),
    /// A regular expression that the whole text matches.
    Regex(String),
    /// A grammar in Lark's notation whose rule `start` gives the text.
    Grammar(String),
}

impl Constraint {
    fn kind(&self) -> &'static str {
        match self {
            Self::JsonObject | Self::JsonSchema(_) => "JSON schema",
            Self::Regex(_) => "regular expression",
            Self::Grammar(_) => "grammar",
        }
    }

    fn grammar(&self) -> Result<TopLevelGrammar, String> {
        Ok(match self {
            Self::JsonObject => TopLevelGrammar::from_json_schema(serde_json::json!({ "type": "object" })),
            Self::JsonSchema(text) => {
                let schema: serde_json::Value =
                    serde_json::from_str(text).map_err(|error| format!("it isn't JSON: {error}"))?;
                if !(schema.is_object() || schema.is_boolean()) {
                    return Err("a schema is a JSON object".into());
                }
                TopLevelGrammar::from_json_schema(schema)
            }
            Self::Regex(text) => TopLevelGrammar::from_regex(text),
            Self::Grammar(text) => TopLevelGrammar::from_lark(text.clone()),
        })
    }
}

/// The vocabulary as the grammars see it.
struct Vocabulary {
    tokenizer: Arc<Tokenizer>,
    trie: TokTrie,
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.tokenizer.encode(&String::from_utf8_lossy(bytes))
    }

    /// Forcing the usual tokens for a text that is forced would forbid others that spell the same.
    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}

/// Makes matchers for one vocabulary.
pub(crate) struct Compiler {
    factory: ParserFactory,
    eos: TokenId,
}

impl std::fmt::Debug for Compiler {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Compiler").field("eos", &self.eos).finish_non_exhaustive()
    }
}

impl Compiler {
    /// Reads the vocabulary; `vocab_size` is the model's, which may be padded.
    pub(crate) fn new(tokenizer: &Arc<Tokenizer>, vocab_size: usize) -> Result<Self> {
        let failed = |error: &dyn std::fmt::Display| Error::Constraint {
            kind: "vocabulary",
            reason: error.to_string(),
        };
        let mut words: Vec<Vec<u8>> = (0..vocab_size as TokenId)
            .map(|id| {
                let bytes = tokenizer.token_bytes(id);
                // A text is UTF-8, where 0xFF never stands; the trie marks control tokens by it.
                let fits = !tokenizer.is_special(id) && bytes.first() != Some(&TokTrie::SPECIAL_TOKEN_MARKER);
                if fits { bytes.to_vec() } else { Vec::new() }
            })
            .collect();
        // One end stands for all stop tokens of a request.
        let special = (0..vocab_size as TokenId).find(|&id| tokenizer.is_special(id));
        let eos = tokenizer.eos().or(special).filter(|&id| (id as usize) < vocab_size);
        if let Some(eos) = eos {
            words[eos as usize] = b"\xff<end>".to_vec();
        }
        let eos = eos.unwrap_or(INVALID_TOKEN);
        let trie = TokTrie::from(&TokRxInfo::new(vocab_size as u32, eos), &words);
        let vocabulary: TokEnv = Arc::new(Vocabulary { tokenizer: Arc::clone(tokenizer), trie });
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let factory = ParserFactory::new(&vocabulary, InferenceCapabilities::default(), &slices);
        let mut factory = factory.map_err(|error| failed(&error))?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        Ok(Self { factory, eos })
    }

    pub(crate) fn compile(&self, constraint: &Constraint, stop_ids: &[TokenId]) -> Result<Matcher> {
        let kind = constraint.kind();
        let failed = |reason: String| Error::Constraint { kind, reason };
        let grammar = constraint.grammar().map_err(failed)?;
        // The notations come from outside: a grammar that breaks the parser must not break the engine.
        let parser = catch_unwind(AssertUnwindSafe(|| self.factory.create_parser(grammar)));
        let parser = parser.map_err(|_| failed("the grammar's parser gave up on it".into()))?;
        let parser = parser.map_err(|error| failed(error.to_string()))?;
        let vocab_size = self.factory.tok_env().tok_trie().vocab_size();
        let mut matcher = Matcher {
            kind,
            inner: llguidance::Matcher::new(Ok(parser)),
            eos: self.eos,
            stop_ids: stop_ids.iter().copied().filter(|&id| (id as usize) < vocab_size).collect(),
            masked: Vec::new(),
        };
        // What can't begin is known at once.
        matcher.mask()?;
        Ok(matcher)
    }
}

/// How far one text has got.
#[derive(Clone)]
pub(crate) struct Matcher {
    kind: &'static str,
    inner: llguidance::Matcher,
    eos: TokenId,
    stop_ids: Vec<TokenId>,
    masked: Vec<f32>,
}

impl Matcher {
    fn failed(&self, reason: String) -> Error {
        Error::Constraint { kind: self.kind, reason }
    }

    fn mask(&mut self) -> Result<SimpleVob> {
        self.inner.compute_mask_or_eos().map_err(|error| self.failed(error.to_string()))
    }

    /// The logits of tokens that may follow; −∞ elsewhere. Stop tokens may follow a text that is whole.
    pub(crate) fn masked(&mut self, logits: &[f32]) -> Result<&[f32]> {
        let mut mask = self.mask()?;
        if (self.eos as usize) < logits.len() && mask.is_allowed(self.eos) {
            mask.disallow_token(self.eos);
            for &id in &self.stop_ids {
                mask.allow_token(id);
            }
        }
        if mask.is_zero() {
            return Err(self.failed("no token of this model can go on from here".into()));
        }
        let masked = &mut self.masked;
        masked.clear();
        masked.reserve(logits.len());
        for (&bits, logits) in mask.as_slice().iter().zip(logits.chunks(u32::BITS as usize)) {
            match bits {
                0 => masked.resize(masked.len() + logits.len(), f32::NEG_INFINITY),
                u32::MAX => masked.extend_from_slice(logits),
                _ => masked.extend(
                    logits.iter().enumerate().map(
                        |(i, &logit)| {
                            if bits >> i & 1 == 1 { logit } else { f32::NEG_INFINITY }
                        },
                    ),
                ),
            }
        }
        masked.resize(logits.len(), f32::NEG_INFINITY);
        Ok(&self.masked)
    }

    /// Goes on with a token; a stop token changes nothing.
    pub(crate) fn push(&mut self, id: TokenId) -> Result<()> {
        if self.stop_ids.contains(&id) {
            return Ok(());
        }
        self.inner.consume_token(id).map_err(|error| self.failed(error.to_string()))
    }

    /// Whether the text is whole and nothing may follow.
    pub(crate) fn is_complete(&self) -> bool {
        self.inner.is_stopped() && !self.inner.is_error()
    }
}
