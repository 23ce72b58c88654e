//! From a pair of token ids to the merge that joins them.

use super::NO_MERGE;
use crate::vocabulary::TokenId;

/// Bits of the filter for each slot: at most one in six is set, in a thirty-second of the table's memory.
const FILTER_BITS: usize = 4;

/// Open addressing from a pair of ids to `rank << 32 | result`; far faster than a general map for this one use.
///
/// Most pairs that are asked for don't merge, and the table of a large vocabulary is bigger than a core's cache. So a
/// bitmap of hashes (a Bloom filter with one hash) answers most of those first.
#[derive(Debug)]
pub(super) struct PairTable {
    slots: Vec<(u64, u64)>,
    shift: u32,
    filter: Vec<u64>,
}

impl PairTable {
    const EMPTY: u64 = u64::MAX;

    pub(super) fn with_capacity(num_pairs: usize) -> Self {
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
    pub(super) fn insert(&mut self, left: TokenId, right: TokenId, merge: u64) {
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
    pub(super) fn find(&self, left: TokenId, right: TokenId) -> u64 {
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
