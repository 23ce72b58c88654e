//! What a model file says about its tokenizer, before anything is built from it.
//!
//! GGUF's `tokenizer.ggml.*` fields and the vocabularies of encoder containers both fit; the reader of the
//! file fills a [`Vocabulary`], [`crate::Tokenizer::from_parts`] builds the tokenizer.

use crate::normalizer::Normalizer;

/// Index of a token in its model's vocabulary, and row of the embedding table.
pub type TokenId = u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Byte-level BPE (`tokenizer.ggml.model` = `gpt2`).
    ByteBpe,
    /// BPE on characters, with bytes for unknown ones: `SentencePiece`'s (`tokenizer.ggml.model` = `llama`).
    CharBpe,
    /// Unigram language model of SentencePiece (`tokenizer.ggml.model` = `t5`).
    Unigram,
    /// BERT's pieces (`tokenizer.ggml.model` = `bert`).
    WordPiece,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl TokenKind {
    /// The kind behind a number of GGUF's `tokenizer.ggml.token_type`; unknown numbers count as normal.
    pub fn from_gguf(number: i32) -> Self {
        match number {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }

    /// Tokens that text can spell but must never turn into (promise G3).
    pub(crate) fn is_special(self) -> bool {
        matches!(self, Self::Control | Self::Unknown)
    }
}

/// A vocabulary as files store it. Tokens stand in their stored spelling (`Ġthe` or `▁the`).
#[derive(Clone, Debug)]
pub struct Vocabulary {
    pub kind: Kind,
    pub tokens: Vec<String>,
    /// Log-probabilities (Unigram) or priorities (BPE on characters).
    pub scores: Vec<f32>,
    /// In the order of rank, byte BPE only.
    pub merges: Vec<(String, String)>,
    /// One per token, or empty when all are normal.
    pub token_kinds: Vec<TokenKind>,
    /// `tokenizer.ggml.pre`, the family whose pattern splits the text: `gpt-2`, `qwen2`, `llama-bpe`, `smollm`, …
    /// For BPE on bytes only.
    pub pre: String,
    pub bos: Option<TokenId>,
    pub eos: Option<TokenId>,
    pub unk: Option<TokenId>,
    pub pad: Option<TokenId>,
    /// Whether [`crate::Tokenizer::wrap`] puts bos in front and eos behind.
    pub add_bos: bool,
    pub add_eos: bool,
    /// A space in front of the text, as SentencePiece does; byte BPE ignores it.
    pub add_space_prefix: bool,
    /// Applied in order before splitting.
    pub normalizers: Vec<Normalizer>,
}

impl Vocabulary {
    /// A vocabulary with tokens only; the reader fills in what its file holds.
    pub fn new(kind: Kind, tokens: Vec<String>) -> Self {
        Self {
            kind,
            tokens,
            scores: Vec::new(),
            merges: Vec::new(),
            token_kinds: Vec::new(),
            pre: "default".to_owned(),
            bos: None,
            eos: None,
            unk: None,
            pad: None,
            add_bos: false,
            add_eos: false,
            add_space_prefix: kind != Kind::ByteBpe,
            normalizers: Vec::new(),
        }
    }

    /// Takes merges as GGUF stores them: `left right`, one space between.
    pub fn with_merge_lines<S: AsRef<str>>(mut self, lines: &[S]) -> Self {
        let pair = |line: &S| {
            let line = line.as_ref();
            let (left, right) = line.split_once(' ').unwrap_or((line, ""));
            (left.to_owned(), right.to_owned())
        };
        self.merges = lines.iter().map(pair).collect();
        self
    }
}
