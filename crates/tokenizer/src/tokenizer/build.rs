//! From a vocabulary's spellings to the tables that encoding uses.

use std::collections::HashMap;
use std::sync::Arc;

use super::{ControlIds, IdleTables, Model, SpacePrefix, TokenTable, Tokenizer};
use crate::added::{AddedToken, AddedTokens};
use crate::bpe::{Alphabet, Bpe, Chars, Joins, Listed, SpelledJoins, Unknown, ranks_of_scores};
use crate::byte_alphabet::ByteAlphabet;
use crate::error::{Error, Result};
use crate::normalizer::{Normalizer, check_growth};
use crate::split::{Splitter, ignores_merges};
use crate::unigram::Unigram;
use crate::vocabulary::{Kind, TokenId, TokenKind, Vocabulary};
use crate::wordpiece::WordPiece;

/// Looking for a token at each place of a text costs up to its length each time, so that has a limit. The longest in
/// published vocabularies are runs of a few hundred spaces.
const MAX_TOKEN_BYTES: usize = 4096;

/// What all kinds of file come down to.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) kind: Kind,
    pub(crate) tokens: Vec<String>,
    pub(crate) kinds: Vec<TokenKind>,
    pub(crate) scores: Vec<f64>,
    pub(crate) merges: Merges,
    pub(crate) ignore_merges: bool,
    pub(crate) byte_fallback: bool,
    pub(crate) fuse_unknown: bool,
    pub(crate) word_pieces: WordPieceRules,
    pub(crate) normalizers: Vec<Normalizer>,
    pub(crate) splitters: Vec<Splitter>,
    pub(crate) spaces: Spaces,
    pub(crate) added: Vec<AddedToken>,
    pub(crate) ids: ControlIds,
}

/// Which neighbours a BPE vocabulary joins.
#[derive(Debug)]
pub(crate) enum Merges {
    Listed(Vec<(String, String)>),
    /// Whatever spells a token; the highest score first.
    ByScore,
    /// Whatever spells a token; the lowest id first.
    ById,
}

/// What a vocabulary that knows words does with the spaces between them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spaces {
    pub(crate) prefix: SpacePrefix,
    /// `▁` and space are the same to the vocabulary.
    pub(crate) are_marked: bool,
    /// Each space starts a word (`Metaspace`); otherwise only where no token reaches across.
    pub(crate) cut_words: bool,
}

/// How a `WordPiece` vocabulary spells its pieces.
#[derive(Debug)]
pub(crate) struct WordPieceRules {
    /// What stands before pieces inside a word; without it, `▁` stands before those that start one.
    pub(crate) continuing_prefix: Option<String>,
    /// Longer words are unknown.
    pub(crate) max_word_chars: usize,
}

impl WordPieceRules {
    fn spell_into(&self, token: &str, out: &mut Vec<u8>) {
        let Some(prefix) = &self.continuing_prefix else {
            return out.extend(token.replace('▁', " ").bytes());
        };
        match token.strip_prefix(prefix.as_str()).filter(|rest| !rest.is_empty()) {
            Some(rest) => out.extend_from_slice(rest.as_bytes()),
            None => out.extend([b" ", token.as_bytes()].concat()),
        }
    }
}

impl Parts {
    pub(crate) fn from_vocabulary(vocabulary: Vocabulary) -> Result<Self> {
        let Vocabulary { kind, tokens, scores, merges, token_kinds, pre, normalizers, .. } = vocabulary;
        let kinds = if token_kinds.is_empty() { vec![TokenKind::Normal; tokens.len()] } else { token_kinds };
        check_count("token_type", kinds.len(), tokens.len())?;
        let added = tokens.iter().zip(&kinds).enumerate();
        let added = added
            .filter(|(_, (_, kind))| kind.is_special() || **kind == TokenKind::UserDefined)
            .map(|(id, (token, kind))| AddedToken::plain(token.clone(), id as TokenId, *kind))
            .collect();
        Ok(Self {
            splitters: match kind {
                Kind::ByteBpe => Splitter::from_gguf(&pre)?,
                Kind::CharBpe | Kind::Unigram => Vec::new(),
                Kind::WordPiece => vec![Splitter::Bert],
            },
            ignore_merges: ignores_merges(&pre),
            byte_fallback: kinds.contains(&TokenKind::Byte),
            fuse_unknown: false,
            spaces: Spaces {
                prefix: match (kind, vocabulary.add_space_prefix) {
                    (Kind::ByteBpe, _) | (_, false) => SpacePrefix::Never,
                    (Kind::CharBpe, true) => SpacePrefix::Doubled,
                    (Kind::Unigram | Kind::WordPiece, true) => SpacePrefix::Always,
                },
                are_marked: matches!(kind, Kind::CharBpe | Kind::Unigram),
                cut_words: kind == Kind::Unigram,
            },
            word_pieces: WordPieceRules { continuing_prefix: None, max_word_chars: usize::MAX },
            ids: ControlIds {
                bos: vocabulary.bos,
                eos: vocabulary.eos,
                unk: vocabulary.unk,
                pad: vocabulary.pad,
                add_bos: vocabulary.add_bos,
                add_eos: vocabulary.add_eos,
            },
            merges: if kind == Kind::CharBpe { Merges::ByScore } else { Merges::Listed(merges) },
            scores: scores.into_iter().map(f64::from).collect(),
            kind,
            tokens,
            kinds,
            normalizers,
            added,
        })
    }

    pub(crate) fn build(mut self) -> Result<Tokenizer> {
        self.check_ids()?;
        check_growth(&self.normalizers)?;
        if let Some(score) = self.scores.iter().find(|score| score.is_nan()) {
            let value = score.to_string();
            return Err(Error::Unsupported { field: "scores", value, expected: "numbers" });
        }
        let tokens = Arc::new(self.token_table());
        let model = match self.kind {
            Kind::ByteBpe | Kind::CharBpe => Model::Bpe(Box::new(self.bpe(&tokens)?)),
            Kind::Unigram => Model::Unigram(self.unigram(&tokens)?),
            Kind::WordPiece => Model::WordPiece(self.word_piece(&tokens)?),
        };
        let mut named: HashMap<String, TokenId> = HashMap::new();
        for (id, token) in self.tokens.iter().enumerate() {
            if self.kinds[id] != TokenKind::Normal {
                named.insert(token.clone(), id as TokenId);
            }
        }
        named.extend(self.added.iter().map(|token| (token.content.clone(), token.id)));
        let added = AddedTokens::new(self.added);
        Ok(Tokenizer {
            kind: self.kind,
            model,
            normalizers: self.normalizers,
            splitters: self.splitters,
            glue: if self.kind == Kind::CharBpe { glue(&tokens) } else { None },
            spaces: self.spaces,
            tokens,
            kinds: self.kinds,
            harmless: added.harmless(),
            added,
            named,
            ids: self.ids,
            tables: IdleTables::default(),
        })
    }

    fn check_ids(&self) -> Result<()> {
        let mut lengths = self.tokens.iter().map(String::len).zip(0..);
        if let Some((bytes, id)) = lengths.find(|(bytes, _)| *bytes > MAX_TOKEN_BYTES) {
            return Err(Error::LongToken { id, bytes, limit: MAX_TOKEN_BYTES });
        }
        let vocab_size = self.tokens.len();
        let ControlIds { bos, eos, unk, pad, .. } = self.ids;
        for (field, id) in [("bos", bos), ("eos", eos), ("unk", unk), ("pad", pad)] {
            if let Some(id) = id.filter(|id| *id as usize >= vocab_size) {
                return Err(Error::IdOutOfRange { field, id, vocab_size });
            }
        }
        Ok(())
    }

    fn token_table(&self) -> TokenTable {
        let alphabet = ByteAlphabet::new();
        let mut table = TokenTable::new();
        for (token, kind) in self.tokens.iter().zip(&self.kinds) {
            table.push(|out| self.spell_into(token, *kind, &alphabet, out));
        }
        // Where `▁` stands for the space, a space in a token's own spelling is never asked for.
        let is_reachable = |token: &str| !self.spaces.are_marked || !token.contains(' ');
        table.index(|id| {
            self.kinds[id as usize] == TokenKind::Normal && is_reachable(&self.tokens[id as usize])
        });
        table
    }

    fn spell_into(&self, token: &str, kind: TokenKind, alphabet: &ByteAlphabet, out: &mut Vec<u8>) {
        match (self.kind, kind) {
            (Kind::ByteBpe, TokenKind::Normal) if alphabet.decode_into(token, out) => {}
            (_, TokenKind::Byte) => match spelled_byte(token) {
                Some(byte) => out.push(byte),
                None => out.extend_from_slice(token.as_bytes()),
            },
            (Kind::WordPiece, TokenKind::Normal) => self.word_pieces.spell_into(token, out),
            (_, TokenKind::Normal) if self.spaces.are_marked => out.extend(token.replace('▁', " ").bytes()),
            _ => out.extend_from_slice(token.as_bytes()),
        }
    }

    fn bpe(&mut self, tokens: &Arc<TokenTable>) -> Result<Bpe> {
        let joins = match std::mem::replace(&mut self.merges, Merges::ById) {
            Merges::Listed(merges) => Joins::Listed(Listed::new(self.listed_merges(merges, tokens)?)),
            Merges::ByScore => {
                check_count("scores", self.scores.len(), self.tokens.len())?;
                Joins::Spelled(SpelledJoins::new(Arc::clone(tokens), ranks_of_scores(&self.scores)))
            }
            Merges::ById => {
                let ranks = (0..self.tokens.len() as u32).collect();
                Joins::Spelled(SpelledJoins::new(Arc::clone(tokens), ranks))
            }
        };
        let alphabet = if self.kind == Kind::ByteBpe {
            Alphabet::bytes(&std::array::from_fn(|byte| tokens.find(&[byte as u8])))
        } else {
            Alphabet::Chars(self.chars(tokens, matches!(joins, Joins::Spelled(_))))
        };
        Ok(Bpe::new(alphabet, joins, tokens.len(), self.ignore_merges))
    }

    fn chars(&self, tokens: &TokenTable, bytes_after_merging: bool) -> Chars {
        let ids = (0..tokens.len() as TokenId).filter_map(|id| {
            let text = std::str::from_utf8(tokens.bytes(id)).ok()?;
            let mut chars = text.chars();
            let c = chars.next().filter(|_| chars.as_str().is_empty())?;
            (tokens.find(text.as_bytes()) == Some(id)).then_some((c, id))
        });
        let byte_ids = if self.byte_fallback { self.byte_ids() } else { Box::new([None; 256]) };
        Chars::new(
            ids,
            Unknown { byte_ids, bytes_after_merging, token: self.ids.unk, fuse: self.fuse_unknown },
        )
    }

    fn listed_merges(
        &self,
        listed: Vec<(String, String)>,
        tokens: &TokenTable,
    ) -> Result<Vec<(TokenId, TokenId, TokenId)>> {
        let alphabet = ByteAlphabet::new();
        let mut merges = Vec::with_capacity(listed.len());
        let mut joined = Vec::new();
        for (merge_index, (left, right)) in listed.into_iter().enumerate() {
            joined.clear();
            self.spell_into(&left, TokenKind::Normal, &alphabet, &mut joined);
            let left_id = tokens.find(&joined);
            let middle = joined.len();
            self.spell_into(&right, TokenKind::Normal, &alphabet, &mut joined);
            let right_id = tokens.find(&joined[middle..]);
            let missing = match (left_id, right_id, tokens.find(&joined)) {
                (Some(left), Some(right), Some(result)) => {
                    merges.push((left, right, result));
                    continue;
                }
                (None, ..) => "the left part",
                (_, None, _) => "the right part",
                (.., None) => "the result",
            };
            // Text must not grow into a special token, so merges that lead there are left out.
            let is_special = |token: &String| self.added.iter().any(|added| added.content == *token);
            if is_special(&left) || is_special(&right) || is_special(&format!("{left}{right}")) {
                continue;
            }
            return Err(Error::Merge { merge_index, left, right, missing });
        }
        Ok(merges)
    }

    fn unigram(&mut self, tokens: &TokenTable) -> Result<Unigram> {
        check_count("scores", self.scores.len(), self.tokens.len())?;
        let unknown = self.ids.unk.ok_or(Error::NoUnknownToken)?;
        let normal = |id: &TokenId| self.kinds[*id as usize] == TokenKind::Normal && *id != unknown;
        let pieces = (0..tokens.len() as TokenId).filter(normal).map(|id| (tokens.bytes(id), id)).collect();
        let byte_ids = if self.byte_fallback { all_bytes(&self.byte_ids()) } else { None };
        Ok(Unigram::new(pieces, std::mem::take(&mut self.scores), unknown, byte_ids))
    }

    fn word_piece(&self, tokens: &TokenTable) -> Result<WordPiece> {
        let unknown = self.ids.unk.ok_or(Error::NoUnknownToken)?;
        let wanted = |id: &TokenId| {
            // A lone space would start any word.
            tokens.bytes(*id) != b" " && self.kinds[*id as usize] == TokenKind::Normal
        };
        let pieces = (0..tokens.len() as TokenId).filter(wanted).map(|id| (tokens.bytes(id), id)).collect();
        Ok(WordPiece::new(pieces, unknown, self.word_pieces.max_word_chars))
    }

    /// The tokens `<0x00>` to `<0xFF>`, as far as they are there.
    fn byte_ids(&self) -> Box<[Option<TokenId>; 256]> {
        let mut ids = Box::new([None; 256]);
        for (id, token) in self.tokens.iter().enumerate() {
            if let Some(byte) = spelled_byte(token) {
                ids[usize::from(byte)] = Some(id as TokenId);
            }
        }
        ids
    }
}

fn all_bytes(ids: &[Option<TokenId>; 256]) -> Option<Box<[TokenId; 256]>> {
    let ids: Vec<TokenId> = ids.iter().copied().collect::<Option<_>>()?;
    ids.into_boxed_slice().try_into().ok()
}

/// Characters with a space behind them inside a token: between those and a space words can't be cut. Without a token
/// for the space nothing can be, because runs of unknown characters may go on behind it.
fn glue(tokens: &TokenTable) -> Option<Vec<char>> {
    tokens.find(b" ")?;
    let mut glue: Vec<char> = Vec::new();
    for id in 0..tokens.len() as TokenId {
        let Ok(text) = std::str::from_utf8(tokens.bytes(id)) else { continue };
        let spaces = text.match_indices(' ');
        let before = spaces.filter_map(|(at, _)| text[..at].chars().next_back());
        glue.extend(before.filter(|c| *c != ' '));
    }
    glue.sort_unstable();
    glue.dedup();
    Some(glue)
}

fn check_count(field: &'static str, found: usize, expected: usize) -> Result<()> {
    if found == expected { Ok(()) } else { Err(Error::Count { field, found, expected }) }
}

/// The byte that `<0xE4>` stands for.
pub(crate) fn spelled_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}
