//! Byte-pair merging of one word (Sennrich et al. 2016, on bytes as in GPT-2).
//!
//! The pair with the lowest rank merges first, the leftmost of equals. Short words scan an array of ranks;
//! long ones use a heap, so that a word of a megabyte costs n log n. Both give the same ids, which tests check.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::vocabulary::TokenId;

/// Below this many bytes scanning beats the heap: a few cache lines of ranks.
const SCAN_LIMIT: usize = 128;
const NO_MERGE: u64 = u64::MAX;
/// Bits of the filter for each slot: at most one in six is set, in a thirty-second of the table's memory.
const FILTER_BITS: usize = 4;
const NO_TOKEN: TokenId = TokenId::MAX;

const UNTRIED: u8 = 0;
const WHOLE: u8 = 1;
const PARTS: u8 = 2;

#[derive(Debug)]
pub(crate) struct Bpe {
    byte_ids: [TokenId; 256],
    merges: PairTable,
    /// Whether merging a token's own bytes gives that token; found out when first asked.
    whole: Vec<AtomicU8>,
    /// A word that is a token is that token, whatever the merges say (Llama 3).
    ignore_merges: bool,
}

/// Working memory that one call of `encode` reuses for all its words.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    ids: Vec<TokenId>,
    merges: Vec<u64>,
}

impl Bpe {
    /// `merges` hold (left, right, result) in the order of rank.
    pub(crate) fn new(
        byte_ids: &[Option<TokenId>; 256],
        merges: &[(TokenId, TokenId, TokenId)],
        num_tokens: usize,
        ignore_merges: bool,
    ) -> Self {
        let mut table = PairTable::with_capacity(merges.len());
        for (rank, (left, right, result)) in merges.iter().enumerate() {
            table.insert(*left, *right, (rank as u64) << 32 | u64::from(*result));
        }
        Self {
            byte_ids: byte_ids.map(|id| id.unwrap_or(NO_TOKEN)),
            merges: table,
            whole: (0..num_tokens).map(|_| AtomicU8::new(UNTRIED)).collect(),
            ignore_merges,
        }
    }

    pub(crate) fn can_spell(&self, byte: u8) -> bool {
        self.byte_ids[usize::from(byte)] != NO_TOKEN
    }

    /// Whether the word, which is spelled like `token`, merges into exactly that token.
    #[inline]
    pub(crate) fn is_whole(&self, word: &[u8], token: TokenId, scratch: &mut Scratch) -> bool {
        if self.ignore_merges {
            return true;
        }
        let state = &self.whole[token as usize];
        // Relaxed: every thread computes the same answer, and nothing else hangs on it.
        match state.load(Ordering::Relaxed) {
            WHOLE => true,
            PARTS => false,
            _ => {
                let mut ids = Vec::new();
                self.merge(word, scratch, &mut ids);
                let is_whole = ids == [token];
                state.store(if is_whole { WHOLE } else { PARTS }, Ordering::Relaxed);
                is_whole
            }
        }
    }

    /// Appends the ids of a word; bytes without a token are left out.
    pub(crate) fn merge(&self, word: &[u8], scratch: &mut Scratch, out: &mut Vec<TokenId>) {
        let ids = &mut scratch.ids;
        ids.clear();
        ids.extend(word.iter().map(|byte| self.byte_ids[usize::from(*byte)]));
        if ids.contains(&NO_TOKEN) {
            ids.retain(|id| *id != NO_TOKEN);
        }
        if ids.len() <= SCAN_LIMIT {
            self.merge_by_scan(scratch);
        } else {
            self.merge_by_heap(scratch);
        }
        out.extend_from_slice(&scratch.ids);
    }

    fn merge_by_scan(&self, scratch: &mut Scratch) {
        let Scratch { ids, merges } = scratch;
        merges.clear();
        merges.extend(ids.windows(2).map(|pair| self.merges.find(pair[0], pair[1])));
        loop {
            let mut best = NO_MERGE;
            let mut at = 0;
            for (index, merge) in merges.iter().enumerate() {
                if *merge < best {
                    best = *merge;
                    at = index;
                }
            }
            if best == NO_MERGE {
                return;
            }
            ids[at] = best as TokenId;
            ids.remove(at + 1);
            merges.remove(at);
            if at < merges.len() {
                merges[at] = self.merges.find(ids[at], ids[at + 1]);
            }
            if at > 0 {
                merges[at - 1] = self.merges.find(ids[at - 1], ids[at]);
            }
        }
    }

    fn merge_by_heap(&self, scratch: &mut Scratch) {
        let ids = &mut scratch.ids;
        let len = ids.len();
        let mut next: Vec<u32> = (1..=len as u32).collect();
        let mut previous: Vec<u32> = (0..len as u32).map(|at| at.wrapping_sub(1)).collect();
        // (merge, position, left, right): stale entries are known by ids that have changed since.
        let mut heap = BinaryHeap::new();
        let push = |heap: &mut BinaryHeap<_>, at: u32, left: TokenId, right: TokenId| {
            let merge = self.merges.find(left, right);
            if merge != NO_MERGE {
                heap.push(Reverse((merge, at, left, right)));
            }
        };
        for (at, pair) in ids.windows(2).enumerate() {
            push(&mut heap, at as u32, pair[0], pair[1]);
        }
        while let Some(Reverse((merge, at, left, right))) = heap.pop() {
            let right_at = next[at as usize] as usize;
            if ids[at as usize] != left || right_at >= len || ids[right_at] != right {
                continue;
            }
            let joined = merge as TokenId;
            ids[at as usize] = joined;
            ids[right_at] = NO_TOKEN;
            let after = next[right_at];
            next[at as usize] = after;
            if (after as usize) < len {
                previous[after as usize] = at;
                push(&mut heap, at, joined, ids[after as usize]);
            }
            let before = previous[at as usize];
            if at > 0 {
                push(&mut heap, before, ids[before as usize], joined);
            }
        }
        ids.retain(|id| *id != NO_TOKEN);
    }
}

/// Open addressing from a pair of ids to `rank << 32 | result`; far faster than a general map for this one use.
///
/// Most pairs that are asked for don't merge, and the table of a large vocabulary is bigger than a core's cache. So a
/// bitmap of hashes (a Bloom filter with one hash) answers most of those first.
#[derive(Debug)]
struct PairTable {
    slots: Vec<(u64, u64)>,
    shift: u32,
    filter: Vec<u64>,
}

impl PairTable {
    const EMPTY: u64 = u64::MAX;

    fn with_capacity(num_pairs: usize) -> Self {
        let num_slots = (num_pairs + num_pairs / 2).next_power_of_two().max(16);
        Self {
            slots: vec![(Self::EMPTY, NO_MERGE); num_slots],
            shift: 64 - num_slots.ilog2(),
            filter: vec![0; num_slots * FILTER_BITS / 64],
        }
    }

    /// Word and bit of the filter: the hash's bits below those that choose the slot.
    #[inline]
    fn filter_bit(&self, hash: u64) -> (usize, u64) {
        let place = (hash >> (self.shift - FILTER_BITS.ilog2())) as usize;
        (place / 64, 1 << (place % 64))
    }

    /// Fibonacci hashing (Knuth, TAOCP 3, 6.4): the high bits of a product with 2^64 / φ.
    #[inline]
    fn hash(key: u64) -> u64 {
        key.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    /// A pair that comes twice keeps its last rank, as in Hugging Face's tokenizers.
    fn insert(&mut self, left: TokenId, right: TokenId, merge: u64) {
        let key = u64::from(left) << 32 | u64::from(right);
        let hash = Self::hash(key);
        let (word, bit) = self.filter_bit(hash);
        self.filter[word] |= bit;
        let mut at = (hash >> self.shift) as usize;
        while self.slots[at].0 != Self::EMPTY && self.slots[at].0 != key {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = (key, merge);
    }

    #[inline]
    fn find(&self, left: TokenId, right: TokenId) -> u64 {
        let key = u64::from(left) << 32 | u64::from(right);
        let hash = Self::hash(key);
        let (word, bit) = self.filter_bit(hash);
        if self.filter[word] & bit == 0 {
            return NO_MERGE;
        }
        let mut at = (hash >> self.shift) as usize;
        loop {
            let (found, merge) = self.slots[at];
            if found == key {
                return merge;
            }
            if found == Self::EMPTY {
                return NO_MERGE;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes are their own ids; each merge makes the next id.
    fn bpe(pairs: &[(TokenId, TokenId)]) -> Bpe {
        let byte_ids = std::array::from_fn(|byte| Some(byte as TokenId));
        let merges: Vec<_> =
            pairs.iter().enumerate().map(|(rank, pair)| (pair.0, pair.1, 256 + rank as u32)).collect();
        Bpe::new(&byte_ids, &merges, 256 + pairs.len(), false)
    }

    fn merged(bpe: &Bpe, word: &[u8], by: impl Fn(&Bpe, &mut Scratch)) -> Vec<TokenId> {
        let ids = word.iter().map(|byte| u32::from(*byte)).collect();
        let mut scratch = Scratch { ids, merges: Vec::new() };
        by(bpe, &mut scratch);
        scratch.ids
    }

    #[test]
    fn equal_ranks_merge_from_the_left() {
        let bpe = bpe(&[(97, 97), (256, 97)]);
        for (word, expected) in [("", vec![]), ("a", vec![97]), ("aaa", vec![257]), ("aaaa", vec![256, 256])]
        {
            assert_eq!(merged(&bpe, word.as_bytes(), Bpe::merge_by_scan), expected, "{word}");
            assert_eq!(merged(&bpe, word.as_bytes(), Bpe::merge_by_heap), expected, "{word}");
        }
    }

    proptest! {
        #[test]
        fn heap_equals_scan(
            word in proptest::collection::vec(97_u8..101, 0..300),
            pairs in proptest::collection::vec((0_usize..1000, 0_usize..1000), 0..40),
        ) {
            let mut made: Vec<TokenId> = (97..101).collect();
            let mut merges: Vec<(TokenId, TokenId)> = Vec::new();
            for (left, right) in pairs {
                let pair = (made[left % made.len()], made[right % made.len()]);
                if !merges.contains(&pair) {
                    made.push(256 + merges.len() as u32);
                    merges.push(pair);
                }
            }
            let bpe = bpe(&merges);
            prop_assert_eq!(
                merged(&bpe, &word, Bpe::merge_by_heap),
                merged(&bpe, &word, Bpe::merge_by_scan)
            );
        }
    }
}
