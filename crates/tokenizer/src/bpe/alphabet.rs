//! What merging starts from: a token for each byte, or for each character with bytes for those without one.

use std::collections::HashMap;

use super::{NO_TOKEN, spelled};
use crate::vocabulary::TokenId;

#[derive(Debug)]
pub(crate) enum Alphabet {
    /// Bytes without a token are left out.
    Bytes(Box<[TokenId; 256]>),
    Chars(Chars),
}

#[derive(Debug)]
pub(crate) struct Chars {
    /// Of the basic plane, `NO_TOKEN` where there is none.
    low: Vec<TokenId>,
    high: HashMap<char, TokenId>,
    unknown: Unknown,
}

/// What becomes of characters without a token.
#[derive(Debug)]
pub(crate) struct Unknown {
    /// Tokens of the bytes they consist of, where the vocabulary has them.
    pub(crate) byte_ids: Box<[Option<TokenId>; 256]>,
    /// Bytes take the place of what is left after merging, not before.
    pub(crate) bytes_after_merging: bool,
    /// In place of characters whose bytes have no token either; without it they are left out.
    pub(crate) token: Option<TokenId>,
    /// A run of such characters is one token.
    pub(crate) fuse: bool,
}

impl Chars {
    pub(crate) fn new(ids: impl Iterator<Item = (char, TokenId)>, unknown: Unknown) -> Self {
        let mut chars = Self { low: vec![NO_TOKEN; 1 << 16], high: HashMap::new(), unknown };
        for (c, id) in ids {
            match chars.low.get_mut(c as usize) {
                Some(place) => *place = id,
                None => {
                    chars.high.insert(c, id);
                }
            }
        }
        chars
    }

    fn find(&self, c: char) -> Option<TokenId> {
        match self.low.get(c as usize) {
            Some(id) => Some(*id).filter(|id| *id != NO_TOKEN),
            None => self.high.get(&c).copied(),
        }
    }

    /// Appends a token for each character; the order of what is unknown is that of Hugging Face's tokenizers.
    fn start(&self, word: &str, ids: &mut Vec<TokenId>) {
        let mut pending = None;
        for c in word.chars() {
            if let Some(id) = self.find(c) {
                ids.extend(pending.take());
                ids.push(id);
            } else if self.unknown.bytes_after_merging {
                ids.push(spelled::id_of_char(c));
            } else if !self.push_bytes(c, ids) {
                if !self.unknown.fuse {
                    ids.extend(pending.take());
                }
                pending = self.unknown.token;
            }
        }
        ids.extend(pending);
    }

    /// `false`, and nothing appended, if a byte has no token.
    fn push_bytes(&self, c: char, ids: &mut Vec<TokenId>) -> bool {
        let mut utf8 = [0; 4];
        let bytes = c.encode_utf8(&mut utf8).bytes();
        let first = ids.len();
        for byte in bytes {
            let Some(id) = self.unknown.byte_ids[usize::from(byte)] else {
                ids.truncate(first);
                return false;
            };
            ids.push(id);
        }
        true
    }

    /// Turns characters that found no partner into their bytes.
    fn finish(&self, merged: &[TokenId], out: &mut Vec<TokenId>) {
        for id in merged {
            match spelled::char_of(*id) {
                None => out.push(*id),
                Some(c) => {
                    if !self.push_bytes(c, out) {
                        out.extend(self.unknown.token);
                    }
                }
            }
        }
    }
}

impl Alphabet {
    /// A token for each byte of the vocabulary.
    pub(crate) fn bytes(ids: &[Option<TokenId>; 256]) -> Self {
        Self::Bytes(Box::new(ids.map(|id| id.unwrap_or(NO_TOKEN))))
    }

    pub(super) fn start(&self, word: &str, ids: &mut Vec<TokenId>) {
        match self {
            Self::Bytes(byte_ids) => {
                ids.extend(word.bytes().map(|byte| byte_ids[usize::from(byte)]));
                if ids.contains(&NO_TOKEN) {
                    ids.retain(|id| *id != NO_TOKEN);
                }
            }
            Self::Chars(chars) => chars.start(word, ids),
        }
    }

    pub(super) fn finish(&self, merged: &[TokenId], out: &mut Vec<TokenId>) {
        match self {
            Self::Chars(chars) if chars.unknown.bytes_after_merging => chars.finish(merged, out),
            _ => out.extend_from_slice(merged),
        }
    }

    /// How many bytes of `text` have no way into a token.
    pub(crate) fn num_lost_bytes(&self, text: &str) -> usize {
        match self {
            Self::Bytes(byte_ids) => {
                text.bytes().filter(|byte| byte_ids[usize::from(*byte)] == NO_TOKEN).count()
            }
            Self::Chars(chars) if chars.unknown.token.is_some() => 0,
            Self::Chars(chars) => {
                let is_lost = |c: &char| chars.find(*c).is_none() && !chars.push_bytes(*c, &mut Vec::new());
                text.chars().filter(is_lost).map(char::len_utf8).sum()
            }
        }
    }
}
