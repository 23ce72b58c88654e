//! How often each pair of neighbours stands in all words: open addressing from a pair of ids to a number.

use crate::vocabulary::TokenId;

#[derive(Debug)]
pub(super) struct PairCounts {
    /// The pair (all ones where empty) and its count, which may sink to nothing.
    slots: Vec<(u64, i64)>,
    len: usize,
}

const EMPTY: u64 = u64::MAX;

impl PairCounts {
    pub(super) fn new() -> Self {
        Self { slots: vec![(EMPTY, 0); 1 << 16], len: 0 }
    }

    pub(super) fn get(&self, pair: (TokenId, TokenId)) -> i64 {
        self.slots[self.place(key(pair))].1
    }

    /// Changes a count, and gives the new one.
    pub(super) fn add(&mut self, pair: (TokenId, TokenId), change: i64) -> i64 {
        let key = key(pair);
        let at = self.place(key);
        let slot = &mut self.slots[at];
        let is_new = slot.0 == EMPTY;
        *slot = (key, slot.1 + change);
        let count = slot.1;
        if is_new {
            self.len += 1;
            if self.len * 3 > self.slots.len() * 2 {
                self.grow();
            }
        }
        count
    }

    /// Where the pair is, or would be.
    fn place(&self, key: u64) -> usize {
        // As for merges: the high bits of a product with 2^64 / φ.
        let hash = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut at = (hash >> (64 - self.slots.len().ilog2())) as usize;
        while self.slots[at].0 != EMPTY && self.slots[at].0 != key {
            at = (at + 1) & (self.slots.len() - 1);
        }
        at
    }

    fn grow(&mut self) {
        let larger = vec![(EMPTY, 0); self.slots.len() * 2];
        let old = std::mem::replace(&mut self.slots, larger);
        for slot in old.into_iter().filter(|slot| slot.0 != EMPTY) {
            let at = self.place(slot.0);
            self.slots[at] = slot;
        }
    }
}

fn key(pair: (TokenId, TokenId)) -> u64 {
    u64::from(pair.0) << 32 | u64::from(pair.1)
}
