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

/// Most joins are this short, and cleared memory costs time.
const SHORT_BYTES: usize = 32;
/// Bits of the filter for each token: one in sixteen to thirty-two is set.
const FILTER_BITS: usize = 16;

#[derive(Debug)]
pub(crate) struct SpelledJoins {
    tokens: Arc<TokenTable>,
    /// Lower ranks are made first; one per token.
    ranks: Vec<u32>,
    max_bytes: usize,
    /// Most pairs that are asked for don't join. Length and both ends of a token tell most of those (a Bloom filter
    /// with one hash), so that only the rest is put together and looked up.
    filter: Vec<u64>,
}

impl SpelledJoins {
    /// `ranks` of tokens that the table doesn't find are never looked at.
    pub(crate) fn new(tokens: Arc<TokenTable>, ranks: Vec<u32>) -> Self {
        let longest = (0..tokens.len() as TokenId).map(|id| tokens.bytes(id).len()).max();
        let num_bits = (tokens.len() * FILTER_BITS).next_power_of_two().max(64);
        let mut filter = vec![0; num_bits / 64];
        for id in 0..tokens.len() as TokenId {
            let bit = shape(tokens.bytes(id), &[]) as usize & (num_bits - 1);
            filter[bit / 64] |= 1 << (bit % 64);
        }
        Self { max_bytes: longest.unwrap_or(0).min(MAX_TOKEN_BYTES), tokens, ranks, filter }
    }

    /// `rank << 32 | token`, as in the table of listed merges.
    #[inline]
    pub(super) fn find(&self, left: TokenId, right: TokenId) -> u64 {
        let (mut left_char, mut right_char) = ([0; 4], [0; 4]);
        let (left, right) = (self.spelling(left, &mut left_char), self.spelling(right, &mut right_char));
        let bit = shape(left, right) as usize & (self.filter.len() * 64 - 1);
        if self.filter[bit / 64] >> (bit % 64) & 1 == 0 {
            return NO_MERGE;
        }
        let len = left.len() + right.len();
        if len <= SHORT_BYTES {
            self.find_joined(left, right, &mut [0; SHORT_BYTES][..len])
        } else if len <= self.max_bytes {
            self.find_joined(left, right, &mut [0; MAX_TOKEN_BYTES][..len])
        } else {
            NO_MERGE
        }
    }

    fn spelling<'a>(&'a self, part: TokenId, utf8: &'a mut [u8; 4]) -> &'a [u8] {
        match char_of(part) {
            Some(c) => c.encode_utf8(utf8).as_bytes(),
            None => self.tokens.bytes(part),
        }
    }

    fn find_joined(&self, left: &[u8], right: &[u8], joined: &mut [u8]) -> u64 {
        let (start, end) = joined.split_at_mut(left.len());
        start.copy_from_slice(left);
        end.copy_from_slice(right);
        match self.tokens.find(joined) {
            Some(id) => u64::from(self.ranks[id as usize]) << 32 | u64::from(id),
            None => NO_MERGE,
        }
    }
}

/// A hash of the length, the first four and the last four bytes of both parts joined.
#[inline]
fn shape(left: &[u8], right: &[u8]) -> u64 {
    let first = |bytes: &[u8]| bytes.iter().take(4).fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
    let head = match left.len() {
        4.. => first(left),
        len => {
            let rest = right.len().min(4 - len);
            first(left) << (8 * rest) | first(&right[..rest])
        }
    };
    let tail = match right.len() {
        len @ 4.. => first(&right[len - 4..]),
        len => {
            let rest = left.len().min(4 - len);
            first(&left[left.len() - rest..]) << (8 * len) | first(right)
        }
    };
    let word = (head << 32 | tail) ^ ((left.len() + right.len()) as u64) << 56;
    word.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_shape_of_parts_is_that_of_the_whole(bytes in proptest::collection::vec(any::<u8>(), 0..12), at in 0..12_usize) {
            let (left, right) = bytes.split_at(at.min(bytes.len()));
            prop_assert_eq!(shape(left, right), shape(&bytes, &[]));
        }
    }
}
