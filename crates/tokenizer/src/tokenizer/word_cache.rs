//! Words that one call has merged before: their ids stand in the output already and are copied from there.

use std::ops::Range;

use crate::vocabulary::TokenId;

/// Shorter texts repeat too little to pay for the table.
const MIN_TEXT_BYTES: usize = 2048;
const MAX_SLOTS: usize = 1 << 14;

#[derive(Clone, Copy)]
struct Slot<'t> {
    word: &'t [u8],
    start: usize,
    num_ids: usize,
}

/// One slot a hash; a newer word takes the place of an older one.
pub(crate) struct WordCache<'t> {
    slots: Vec<Slot<'t>>,
}

impl<'t> WordCache<'t> {
    pub(crate) fn for_text(text: &str) -> Self {
        let num_slots = if text.len() < MIN_TEXT_BYTES {
            0
        } else {
            (text.len() / 16).next_power_of_two().min(MAX_SLOTS)
        };
        Self { slots: vec![Slot { word: &[], start: 0, num_ids: 0 }; num_slots] }
    }

    /// Appends the ids of a word seen before; `false` if it is new.
    pub(crate) fn repeat(&self, word: &[u8], hash: u64, ids: &mut Vec<TokenId>) -> bool {
        let Some(slot) = self.slots.get(self.slot(hash)) else {
            return false;
        };
        if slot.word != word {
            return false;
        }
        ids.extend_from_within(slot.start..slot.start + slot.num_ids);
        true
    }

    /// Notes where the ids of `word` stand in the output.
    pub(crate) fn insert(&mut self, word: &'t [u8], hash: u64, place: Range<usize>) {
        let at = self.slot(hash);
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = Slot { word, start: place.start, num_ids: place.len() };
        }
    }

    /// Bits of the hash that the token table doesn't use for its place.
    fn slot(&self, hash: u64) -> usize {
        (hash >> 40) as usize & self.slots.len().wrapping_sub(1)
    }
}
