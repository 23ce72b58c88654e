//! tiktoken's rank files: a line a token, its bytes in base64 and its rank, which is also its id.
//!
//! Neighbours join in the order of what they spell, and a word that is a token isn't taken apart. The files hold neither
//! pattern nor special tokens: [`Encoding`] knows those of the published ones.

use crate::added::AddedToken;
use crate::base64;
use crate::byte_alphabet::ByteAlphabet;
use crate::error::{Error, Result};
use crate::split::{CL100K, GPT2, O200K, Splitter};
use crate::tokenizer::{ControlIds, Merges, Parts, SpacePrefix, Spaces, Tokenizer, WordPieceRules};
use crate::vocabulary::{Kind, TokenId, TokenKind};

/// A published encoding: which words its ranks are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// GPT-2 and GPT-3.
    R50k,
    /// Codex; its ranks hold runs of spaces.
    P50k,
    /// GPT-3.5 and GPT-4.
    Cl100k,
    /// GPT-4o and later.
    O200k,
}

impl Encoding {
    /// By the names that its files have.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "gpt2" | "r50k_base" => Some(Self::R50k),
            "p50k_base" => Some(Self::P50k),
            "cl100k_base" => Some(Self::Cl100k),
            "o200k_base" => Some(Self::O200k),
            _ => None,
        }
    }

    fn pattern(self) -> &'static str {
        match self {
            Self::R50k | Self::P50k => GPT2,
            Self::Cl100k => CL100K,
            Self::O200k => O200K,
        }
    }

    fn special_tokens(self) -> &'static [(&'static str, TokenId)] {
        match self {
            Self::R50k | Self::P50k => &[("<|endoftext|>", 50256)],
            Self::Cl100k => &[
                ("<|endoftext|>", 100_257),
                ("<|fim_prefix|>", 100_258),
                ("<|fim_middle|>", 100_259),
                ("<|fim_suffix|>", 100_260),
                ("<|endofprompt|>", 100_276),
            ],
            Self::O200k => &[("<|endoftext|>", 199_999), ("<|endofprompt|>", 200_018)],
        }
    }
}

/// Ids beyond this are a damaged file, and would cost memory.
const MAX_ID: TokenId = 1 << 24;

impl Tokenizer {
    /// Reads a rank file of a published encoding.
    pub fn from_tiktoken(ranks: &[u8], encoding: Encoding) -> Result<Self> {
        let alphabet = ByteAlphabet::new();
        let mut tokens = Vec::new();
        for (index, line) in ranks.split(|byte| *byte == b'\n').enumerate() {
            let damaged = |problem| Error::RankLine { line: index + 1, problem };
            let line = std::str::from_utf8(line.trim_ascii()).map_err(|_| damaged("isn't text"))?;
            if line.is_empty() {
                continue;
            }
            let (token, rank) = line.split_once(' ').ok_or_else(|| damaged("isn't a token and a rank"))?;
            let id = rank.trim().parse().ok().filter(|id| *id < MAX_ID);
            let id: TokenId = id.ok_or_else(|| damaged("has a rank that isn't a number below 2^24"))?;
            let bytes = base64::decode(token).map_err(|_| damaged("has a token that isn't base64"))?;
            if bytes.is_empty() {
                return Err(damaged("has a token of no bytes"));
            }
            put(&mut tokens, id, alphabet.spell(&bytes));
        }
        let mut kinds = vec![TokenKind::Normal; tokens.len()];
        let mut added = Vec::new();
        for (content, id) in encoding.special_tokens() {
            put(&mut tokens, *id, (*content).to_owned());
            kinds.resize(tokens.len(), TokenKind::Unused);
            kinds[*id as usize] = TokenKind::Control;
            added.push(AddedToken::plain((*content).to_owned(), *id, TokenKind::Control));
        }
        for (kind, _) in kinds.iter_mut().zip(&tokens).filter(|(_, token)| token.is_empty()) {
            *kind = TokenKind::Unused;
        }
        let eos = added.iter().find(|token| token.content == "<|endoftext|>").map(|token| token.id);
        Parts {
            kind: Kind::ByteBpe,
            tokens,
            kinds,
            scores: Vec::new(),
            merges: Merges::ById,
            ignore_merges: true,
            byte_fallback: false,
            fuse_unknown: false,
            word_pieces: WordPieceRules { continuing_prefix: None, max_word_chars: usize::MAX },
            normalizers: Vec::new(),
            splitters: vec![Splitter::from_pattern(encoding.pattern())?],
            spaces: Spaces { prefix: SpacePrefix::Never, are_marked: false, cut_words: false },
            added,
            ids: ControlIds { eos, ..ControlIds::default() },
        }
        .build()
    }
}

fn put(tokens: &mut Vec<String>, id: TokenId, token: String) {
    if id as usize >= tokens.len() {
        tokens.resize(id as usize + 1, String::new());
    }
    tokens[id as usize] = token;
}
