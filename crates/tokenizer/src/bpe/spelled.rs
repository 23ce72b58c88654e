//! Merges that aren't listed: two neighbours join if a token spells both.
//!
//! So `SentencePiece`'s BPE works (`tokenizer.ggml.model` = `llama`), where the token with the highest score is made
//! first, and tiktoken's rank files, where it is the token with the lowest rank.

use std::sync::Arc;

use super::NO_MERGE;
use crate::tokenizer::TokenTable;
use crate::vocabulary::TokenId;

/// Characters without a token take part in merges under their own number, with this bit set.
const CHAR: TokenId = 1 << 31;
/// Longer tokens exist in no known vocabulary; two parts beyond this never join.
const MAX_TOKEN_BYTES: usize = 512;

#[derive(Debug)]
pub(crate) struct SpelledJoins {
    tokens: Arc<TokenTable>,
    /// Lower ranks are made first; one per token.
    ranks: Vec<u32>,
    max_bytes: usize,
}

impl SpelledJoins {
    /// `ranks` of tokens that the table doesn't find are never looked at.
    pub(crate) fn new(tokens: Arc<TokenTable>, ranks: Vec<u32>) -> Self {
        let longest = (0..tokens.len() as TokenId).map(|id| tokens.bytes(id).len()).max();
        Self { max_bytes: longest.unwrap_or(0).min(MAX_TOKEN_BYTES), tokens, ranks }
    }

    /// `rank << 32 | token`, as in the table of listed merges.
    pub(super) fn find(&self, left: TokenId, right: TokenId) -> u64 {
        let mut joined = [0; MAX_TOKEN_BYTES];
        let mut len = 0;
        for part in [left, right] {
            let mut utf8 = [0; 4];
            let bytes = match char_of(part) {
                Some(c) => c.encode_utf8(&mut utf8).as_bytes(),
                None => self.tokens.bytes(part),
            };
            if len + bytes.len() > self.max_bytes {
                return NO_MERGE;
            }
            joined[len..len + bytes.len()].copy_from_slice(bytes);
            len += bytes.len();
        }
        match self.tokens.find(&joined[..len]) {
            Some(id) => u64::from(self.ranks[id as usize]) << 32 | u64::from(id),
            None => NO_MERGE,
        }
    }
}

/// Ranks from scores: the highest is 0, equal ones share theirs.
pub(crate) fn ranks_of_scores(scores: &[f64]) -> Vec<u32> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let mut ranks = vec![0; scores.len()];
    let mut rank = 0;
    for pair in order.windows(2) {
        // Comparing is enough: 0.0 and -0.0 are told apart by the order, but count as one score.
        rank += u32::from(scores[pair[1]] < scores[pair[0]]);
        ranks[pair[1]] = rank;
    }
    ranks
}

pub(super) fn id_of_char(c: char) -> TokenId {
    CHAR | c as TokenId
}

pub(super) fn char_of(id: TokenId) -> Option<char> {
    if id & CHAR == 0 { None } else { char::from_u32(id ^ CHAR) }
}
