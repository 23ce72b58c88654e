//! The whole path from text to ids and back, for BPE, Unigram and `WordPiece` vocabularies.
//!
//! [`Tokenizer::encode`] never makes a special token out of text; [`Tokenizer::encode_special`] recognises them.
//! Both are pure functions of vocabulary and text; a cache of short words only makes them faster.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::added::AddedTokens;
use crate::bpe::{Bpe, Scratch};
use crate::error::Result;
use crate::normalizer::Normalizer;
use crate::split::{Splitter, split};
use crate::unigram::Unigram;
use crate::vocabulary::{Kind, TokenId, TokenKind, Vocabulary};
use crate::wordpiece::WordPiece;

mod build;
mod parallel;
mod token_table;
mod word_cache;

pub(crate) use build::{Merges, Parts, Spaces, WordPieceRules, spelled_byte};
pub use parallel::cut_between_words;
pub(crate) use token_table::{TokenTable, hash};
use word_cache::{IdleTables, WordCache};

pub struct Tokenizer {
    kind: Kind,
    model: Model,
    normalizers: Vec<Normalizer>,
    splitters: Vec<Splitter>,
    spaces: Spaces,
    /// Characters that tokens hold a space behind, so that words aren't cut there; `None` cuts nowhere.
    glue: Option<Vec<char>>,
    tokens: Arc<TokenTable>,
    kinds: Vec<TokenKind>,
    added: AddedTokens,
    /// Those of `added` that plain text may become.
    harmless: AddedTokens,
    named: HashMap<String, TokenId>,
    ids: ControlIds,
    tables: IdleTables,
}

/// Ids that have a meaning of their own, and whether [`Tokenizer::wrap`] uses them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ControlIds {
    pub(crate) bos: Option<TokenId>,
    pub(crate) eos: Option<TokenId>,
    pub(crate) unk: Option<TokenId>,
    pub(crate) pad: Option<TokenId>,
    pub(crate) add_bos: bool,
    pub(crate) add_eos: bool,
}

#[derive(Debug)]
enum Model {
    Bpe(Box<Bpe>),
    Unigram(Unigram),
    WordPiece(WordPiece),
}

/// Where a space is put in front if none stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpacePrefix {
    Never,
    /// The start of the text.
    First,
    /// The start of each stretch between special tokens.
    Always,
    /// The start of each stretch between special tokens, also where a space stands already.
    Doubled,
}

impl Tokenizer {
    /// Builds the tokenizer of a vocabulary that another format's reader has filled.
    pub fn from_parts(vocabulary: Vocabulary) -> Result<Self> {
        Parts::from_vocabulary(vocabulary)?.build()
    }

    /// The ids of plain text. Whatever the text spells, no control token comes out, and of user-defined ones only
    /// runs of white space and tags of HTML, which mean nothing but themselves.
    pub fn encode(&self, text: &str) -> Vec<TokenId> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        self.encode_between(&self.harmless, text, true, Cow::Borrowed, &mut ids);
        ids
    }

    /// The ids of text in which special tokens are recognised: templates and recorded prompts, not user text.
    pub fn encode_special(&self, text: &str) -> Vec<TokenId> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        self.encode_segments(text, true, Cow::Borrowed, &mut ids);
        ids
    }

    /// Splits `text` at special tokens; what stands between goes through `clean` and is encoded as plain text.
    pub(crate) fn encode_segments<'t>(
        &self,
        text: &'t str,
        is_first: bool,
        clean: impl Fn(&'t str) -> Cow<'t, str>,
        ids: &mut Vec<TokenId>,
    ) {
        self.encode_between(&self.added, text, is_first, clean, ids);
    }

    fn encode_between<'t>(
        &self,
        added: &AddedTokens,
        text: &'t str,
        is_first: bool,
        clean: impl Fn(&'t str) -> Cow<'t, str>,
        ids: &mut Vec<TokenId>,
    ) {
        let mut at = 0;
        while let Some(found) = added.find(text, at) {
            self.encode_plain(&clean(&text[at..found.start]), is_first && at == 0, ids);
            ids.push(found.id);
            at = found.end;
        }
        self.encode_plain(&clean(&text[at..]), is_first && at == 0, ids);
    }

    fn encode_plain(&self, text: &str, is_first: bool, ids: &mut Vec<TokenId>) {
        let mut text = Cow::Borrowed(text);
        for normalizer in &self.normalizers {
            text = normalizer.apply(text);
        }
        let mut is_first = is_first;
        match &self.model {
            Model::Bpe(bpe) => {
                // Pieces that need no change live as long as the text, so that repeated words are found again.
                let text = self.with_space_prefix(self.with_spaces(text), is_first);
                let mut scratch = Scratch::default();
                let mut cache = WordCache::for_text(&text, self.tables.take());
                split(&self.splitters, &text, &mut |piece| {
                    self.for_each_word(piece, |word| {
                        self.encode_word(bpe, word, &mut scratch, &mut cache, ids);
                    });
                });
                self.tables.give_back(cache.into_table());
            }
            Model::Unigram(unigram) => split(&self.splitters, &text, &mut |piece| {
                let spaced = self.with_space_prefix(self.with_spaces(Cow::Borrowed(piece)), is_first);
                is_first = false;
                self.for_each_word(&spaced, |word| unigram.encode(word, ids));
            }),
            Model::WordPiece(pieces) => {
                let mut spaced = Vec::new();
                let mut cache = WordCache::for_text(&text, self.tables.take());
                split(&self.splitters, &text, &mut |word| {
                    let hash = token_table::hash(word.as_bytes());
                    if !cache.repeat(word.as_bytes(), hash, ids) {
                        let start = ids.len();
                        pieces.encode(word, &mut spaced, ids);
                        cache.insert(word.as_bytes(), hash, start..ids.len());
                    }
                });
                self.tables.give_back(cache.into_table());
            }
        }
    }

    /// Cuts where no token reaches across: in front of each space, or only in front of a run of them.
    #[inline]
    fn for_each_word<'t>(&self, text: &'t str, mut word: impl FnMut(&'t str)) {
        let glue = match &self.glue {
            Some(glue) => glue.as_slice(),
            None if self.spaces.cut_words => &[],
            None if text.is_empty() => return,
            None => return word(text),
        };
        let mut start = 0;
        for (at, _) in text.match_indices(' ') {
            let can_cut = self.spaces.cut_words || {
                let before = text[start..at].chars().next_back();
                before.is_some_and(|c| c != ' ' && glue.binary_search(&c).is_err())
            };
            if can_cut && at > start {
                word(&text[start..at]);
                start = at;
            }
        }
        if start < text.len() {
            word(&text[start..]);
        }
    }

    /// Pieces are stored with spaces for `SentencePiece`'s `▁`, which text may also spell itself.
    fn with_spaces<'t>(&self, text: Cow<'t, str>) -> Cow<'t, str> {
        if self.spaces.are_marked && text.contains('▁') {
            Cow::Owned(text.replace('▁', " "))
        } else {
            text
        }
    }

    #[inline]
    fn encode_word<'t>(
        &self,
        bpe: &Bpe,
        word: &'t str,
        scratch: &mut Scratch,
        cache: &mut WordCache<'t>,
        ids: &mut Vec<TokenId>,
    ) {
        let bytes = word.as_bytes();
        let key = cache.short_key(bytes);
        let Some(key) = key else {
            return self.encode_long_word(bpe, word, scratch, cache, ids);
        };
        if !cache.repeat_short(key, ids) {
            let start = ids.len();
            self.encode_new_word(bpe, word, token_table::hash(bytes), scratch, ids);
            cache.insert_short(key, &ids[start..]);
        }
    }

    fn encode_long_word<'t>(
        &self,
        bpe: &Bpe,
        word: &'t str,
        scratch: &mut Scratch,
        cache: &mut WordCache<'t>,
        ids: &mut Vec<TokenId>,
    ) {
        let bytes = word.as_bytes();
        let hash = token_table::hash(bytes);
        if cache.repeat(bytes, hash, ids) {
            return;
        }
        let start = ids.len();
        self.encode_new_word(bpe, word, hash, scratch, ids);
        cache.insert(bytes, hash, start..ids.len());
    }

    fn encode_new_word(
        &self,
        bpe: &Bpe,
        word: &str,
        hash: u64,
        scratch: &mut Scratch,
        ids: &mut Vec<TokenId>,
    ) {
        let bytes = word.as_bytes();
        if let Some(id) = self.tokens.find_hashed(bytes, hash) {
            if bpe.is_whole(word, id, scratch) {
                ids.push(id);
                return;
            }
        }
        bpe.merge(word, scratch, ids);
    }

    fn with_space_prefix<'t>(&self, text: Cow<'t, str>, is_first: bool) -> Cow<'t, str> {
        let wanted = match self.spaces.prefix {
            SpacePrefix::Never => false,
            SpacePrefix::First => is_first && !text.starts_with(' '),
            SpacePrefix::Always => !text.starts_with(' '),
            SpacePrefix::Doubled => true,
        };
        if wanted && !text.is_empty() { Cow::Owned(format!(" {text}")) } else { text }
    }

    /// Puts bos in front and eos behind where the model wants them, as encoders of the BERT kind do.
    pub fn wrap(&self, ids: &[TokenId]) -> Vec<TokenId> {
        let bos = self.ids.bos.filter(|_| self.ids.add_bos);
        let eos = self.ids.eos.filter(|_| self.ids.add_eos);
        bos.into_iter().chain(ids.iter().copied()).chain(eos).collect()
    }

    /// Text for a reader: control tokens are left out, bytes that aren't UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[TokenId]) -> String {
        String::from_utf8(self.decode_bytes(ids))
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// Like [`Self::decode`], with control tokens spelled out: the mirror of [`Self::encode_special`].
    pub fn decode_special(&self, ids: &[TokenId]) -> String {
        String::from_utf8_lossy(&self.join(ids, |_| true)).into_owned()
    }

    /// The bytes behind [`Self::decode`].
    pub fn decode_bytes(&self, ids: &[TokenId]) -> Vec<u8> {
        self.join(ids, |id| !self.is_special(id))
    }

    fn join(&self, ids: &[TokenId], wanted: impl Fn(TokenId) -> bool) -> Vec<u8> {
        let mut out: Vec<u8> = Vec::with_capacity(ids.len() * 4);
        let mut has_text = false;
        for id in ids.iter().copied().filter(|id| wanted(*id)) {
            let bytes = self.token_bytes(id);
            let skip = usize::from(!has_text && self.strips_first_space(bytes));
            has_text |= !bytes.is_empty();
            out.extend_from_slice(&bytes[skip..]);
        }
        out
    }

    pub(crate) fn strips_first_space(&self, bytes: &[u8]) -> bool {
        self.spaces.prefix != SpacePrefix::Never && bytes.first() == Some(&b' ')
    }

    /// What a token spells; nothing for an id beyond the vocabulary (padded embedding rows).
    pub fn token_bytes(&self, id: TokenId) -> &[u8] {
        self.tokens.bytes(id)
    }

    /// Whether it is a control token or the unknown token, which plain text never becomes.
    pub fn is_special(&self, id: TokenId) -> bool {
        self.kinds.get(id as usize).is_some_and(|kind| kind.is_special())
    }

    /// The token with exactly this text, special ones included.
    pub fn token_to_id(&self, token: &str) -> Option<TokenId> {
        self.named.get(token).copied().or_else(|| self.tokens.find(token.as_bytes()))
    }

    /// How many bytes of `text` the vocabulary can't spell and [`Self::encode`] leaves out (0 for whole vocabularies).
    pub fn num_lost_bytes(&self, text: &str) -> usize {
        match &self.model {
            Model::Bpe(bpe) => bpe.num_lost_bytes(text),
            Model::Unigram(_) | Model::WordPiece(_) => 0,
        }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn vocab_size(&self) -> usize {
        self.kinds.len()
    }

    pub fn bos(&self) -> Option<TokenId> {
        self.ids.bos
    }

    pub fn eos(&self) -> Option<TokenId> {
        self.ids.eos
    }

    pub fn unk(&self) -> Option<TokenId> {
        self.ids.unk
    }

    pub fn pad(&self) -> Option<TokenId> {
        self.ids.pad
    }

    pub fn adds_bos(&self) -> bool {
        self.ids.add_bos
    }

    pub(crate) fn ids_mut(&mut self) -> &mut ControlIds {
        &mut self.ids
    }

    pub(crate) fn added_tokens(&self) -> &AddedTokens {
        &self.added
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("kind", &self.kind)
            .field("vocab_size", &self.vocab_size())
            .field("splitters", &self.splitters)
            .field("ids", &self.ids)
            .finish_non_exhaustive()
    }
}
