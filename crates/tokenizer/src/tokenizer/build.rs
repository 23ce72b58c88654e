//! From a vocabulary's spellings to the tables that encoding uses.

use std::collections::HashMap;

use super::{ControlIds, Model, SpacePrefix, TokenTable, Tokenizer};
use crate::added::{AddedToken, AddedTokens};
use crate::bpe::Bpe;
use crate::byte_alphabet::ByteAlphabet;
use crate::error::{Error, Result};
use crate::normalizer::Normalizer;
use crate::split::Splitter;
use crate::unigram::Unigram;
use crate::vocabulary::{Kind, TokenId, TokenKind, Vocabulary};

/// What both kinds of file come down to.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) kind: Kind,
    pub(crate) tokens: Vec<String>,
    pub(crate) kinds: Vec<TokenKind>,
    pub(crate) scores: Vec<f64>,
    pub(crate) merges: Vec<(String, String)>,
    pub(crate) ignore_merges: bool,
    pub(crate) byte_fallback: bool,
    pub(crate) normalizers: Vec<Normalizer>,
    pub(crate) splitters: Vec<Splitter>,
    pub(crate) space_prefix: SpacePrefix,
    pub(crate) added: Vec<AddedToken>,
    pub(crate) ids: ControlIds,
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
            splitters: if kind == Kind::ByteBpe { Splitter::from_gguf(&pre)? } else { Vec::new() },
            ignore_merges: matches!(pre.as_str(), "llama-bpe" | "llama3" | "llama-v3"),
            byte_fallback: kinds.contains(&TokenKind::Byte),
            space_prefix: match (kind, vocabulary.add_space_prefix) {
                (Kind::Unigram, true) => SpacePrefix::Always,
                _ => SpacePrefix::Never,
            },
            ids: ControlIds {
                bos: vocabulary.bos,
                eos: vocabulary.eos,
                unk: vocabulary.unk,
                pad: vocabulary.pad,
                add_bos: vocabulary.add_bos,
                add_eos: vocabulary.add_eos,
            },
            scores: scores.into_iter().map(f64::from).collect(),
            kind,
            tokens,
            kinds,
            merges,
            normalizers,
            added,
        })
    }

    pub(crate) fn build(mut self) -> Result<Tokenizer> {
        self.check_ids()?;
        let tokens = self.token_table();
        let model = match self.kind {
            Kind::ByteBpe => Model::ByteBpe(Box::new(self.bpe(&tokens)?)),
            Kind::Unigram => Model::Unigram(self.unigram(&tokens)?),
        };
        let mut named: HashMap<String, TokenId> = HashMap::new();
        for (id, token) in self.tokens.iter().enumerate() {
            if self.kinds[id] != TokenKind::Normal {
                named.insert(token.clone(), id as TokenId);
            }
        }
        named.extend(self.added.iter().map(|token| (token.content.clone(), token.id)));
        Ok(Tokenizer {
            model,
            normalizers: self.normalizers,
            splitters: self.splitters,
            space_prefix: self.space_prefix,
            tokens,
            kinds: self.kinds,
            added: AddedTokens::new(self.added),
            named,
            ids: self.ids,
        })
    }

    fn check_ids(&self) -> Result<()> {
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
            table.push(|out| match (self.kind, kind) {
                (Kind::ByteBpe, TokenKind::Normal) if alphabet.decode_into(token, out) => {}
                (_, TokenKind::Byte) => match spelled_byte(token) {
                    Some(byte) => out.push(byte),
                    None => out.extend_from_slice(token.as_bytes()),
                },
                (Kind::Unigram, TokenKind::Normal) => out.extend(token.replace('▁', " ").bytes()),
                _ => out.extend_from_slice(token.as_bytes()),
            });
        }
        table.index(|id| self.kinds[id as usize] == TokenKind::Normal);
        table
    }

    fn bpe(&mut self, tokens: &TokenTable) -> Result<Bpe> {
        let byte_ids = std::array::from_fn(|byte| tokens.find(&[byte as u8]));
        let alphabet = ByteAlphabet::new();
        let mut merges = Vec::with_capacity(self.merges.len());
        let mut joined = Vec::new();
        for (merge_index, (left, right)) in std::mem::take(&mut self.merges).into_iter().enumerate() {
            joined.clear();
            alphabet.decode_into(&left, &mut joined);
            let left_id = tokens.find(&joined);
            let middle = joined.len();
            alphabet.decode_into(&right, &mut joined);
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
        Ok(Bpe::new(&byte_ids, &merges, tokens.len(), self.ignore_merges))
    }

    fn unigram(&mut self, tokens: &TokenTable) -> Result<Unigram> {
        check_count("scores", self.scores.len(), self.tokens.len())?;
        let unknown = self.ids.unk.ok_or(Error::NoUnknownToken)?;
        let normal = |id: &TokenId| self.kinds[*id as usize] == TokenKind::Normal && *id != unknown;
        let pieces = (0..tokens.len() as TokenId).filter(normal).map(|id| (tokens.bytes(id), id)).collect();
        let byte_ids = if self.byte_fallback { self.byte_ids() } else { None };
        Ok(Unigram::new(pieces, std::mem::take(&mut self.scores), unknown, byte_ids))
    }

    /// The tokens `<0x00>` to `<0xFF>`, if all are there.
    fn byte_ids(&self) -> Option<Box<[TokenId; 256]>> {
        let mut ids = Box::new([TokenId::MAX; 256]);
        for (id, token) in self.tokens.iter().enumerate() {
            if let Some(byte) = spelled_byte(token) {
                ids[usize::from(byte)] = id as TokenId;
            }
        }
        (!ids.contains(&TokenId::MAX)).then_some(ids)
    }
}

fn check_count(field: &'static str, found: usize, expected: usize) -> Result<()> {
    if found == expected { Ok(()) } else { Err(Error::Count { field, found, expected }) }
}

/// The byte that `<0xE4>` stands for.
fn spelled_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}
