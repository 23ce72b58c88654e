//! Words that were met before, with their ids.
//!
//! Most words are short: those are kept with their ids two in a cache line, in tables that calls hand on to
//! later ones. A word's ids are a function of the word, so what a table holds changes the speed and nothing else. Ids of
//! longer words stand in the output already and are copied from there within a call.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::vocabulary::TokenId;

/// In shorter texts long words repeat too little to pay for a table.
const MIN_TEXT_BYTES: usize = 2048;
/// Of a cache line each: a core's second cache.
const SHORT_PAIRS: usize = 1 << 14;
const MAX_LONG_SLOTS: usize = 1 << 13;
/// A short word's bytes, with its length in the last one.
const KEY_BYTES: usize = 16;
/// Tables that are kept for later calls at most; a call finds one if no more than so many run at once.
const MAX_IDLE: usize = 16;

/// The tables of short words that no call is using.
#[derive(Debug, Default)]
pub(crate) struct IdleTables(Mutex<Vec<ShortTable>>);

impl IdleTables {
    pub(crate) fn take(&self) -> ShortTable {
        let idle = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| ShortTable(vec![ShortPair::default(); SHORT_PAIRS]))
    }

    pub(crate) fn give_back(&self, table: ShortTable) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(table);
        }
    }
}

/// A pair of slots a hash; a newer word takes the place of the older one.
pub(crate) struct ShortTable(Vec<ShortPair>);

impl std::fmt::Debug for ShortTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShortTable").field("pairs", &self.0.len()).finish()
    }
}

/// Two words that lie in one cache line, the newer first.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct ShortPair([ShortSlot; 2]);

/// A word of up to 15 bytes that became up to four ids.
#[derive(Clone, Copy, Default)]
struct ShortSlot {
    /// The word's key, with the number of ids in its highest bits.
    key: u128,
    ids: [TokenId; 4],
}

/// Where a slot's key holds the number of ids; a length, which stands below, takes four bits.
const NUM_IDS_SHIFT: u32 = 124;

impl ShortSlot {
    #[inline]
    fn holds(&self, key: ShortKey) -> bool {
        (self.key ^ key.0) << (128 - NUM_IDS_SHIFT) == 0
    }
}

#[derive(Clone, Copy)]
struct LongSlot<'t> {
    word: &'t [u8],
    start: usize,
    num_ids: usize,
}

/// What one call knows of the words before.
pub(crate) struct WordCache<'t> {
    text: &'t [u8],
    short: ShortTable,
    long: Vec<LongSlot<'t>>,
}

/// A word's bytes as a number, if it is short.
#[derive(Clone, Copy)]
pub(crate) struct ShortKey(u128);

impl<'t> WordCache<'t> {
    pub(crate) fn for_text(text: &'t str, short: ShortTable) -> Self {
        let num_long = match text.len() {
            ..MIN_TEXT_BYTES => 0,
            len => (len / 16).next_power_of_two().min(MAX_LONG_SLOTS),
        };
        let long = vec![LongSlot { word: &[], start: 0, num_ids: 0 }; num_long];
        Self { text: text.as_bytes(), short, long }
    }

    /// The table of short words, for the next call.
    pub(crate) fn into_table(self) -> ShortTable {
        self.short
    }

    /// The key of a word of the text, read in one piece where the text goes on far enough.
    #[inline]
    pub(crate) fn short_key(&self, word: &'t [u8]) -> Option<ShortKey> {
        if word.len() >= KEY_BYTES {
            return None;
        }
        let at = word.as_ptr().addr().wrapping_sub(self.text.as_ptr().addr());
        let bytes = match self.text.get(at..at.wrapping_add(KEY_BYTES)).and_then(|bytes| bytes.as_array()) {
            Some(bytes) => *bytes,
            None => {
                let mut bytes = [0; KEY_BYTES];
                bytes[..word.len()].copy_from_slice(word);
                bytes
            }
        };
        let of_word = !(u128::MAX << (8 * word.len()));
        Some(ShortKey(u128::from_le_bytes(bytes) & of_word | (word.len() as u128) << 120))
    }

    /// Appends the ids of a short word seen before; `false` if it is new.
    #[inline]
    pub(crate) fn repeat_short(&self, key: ShortKey, ids: &mut Vec<TokenId>) -> bool {
        let [newer, older] = &self.short.0[Self::short_pair(key)].0;
        let slot = match (newer.holds(key), older.holds(key)) {
            (true, _) => newer,
            (_, true) => older,
            _ => return false,
        };
        // All are copied and what is too many taken back: how many there are can't be foreseen, a branch on it is wrong
        // too often.
        let end = ids.len() + (slot.key >> NUM_IDS_SHIFT) as usize;
        ids.extend_from_slice(&slot.ids);
        ids.truncate(end);
        true
    }

    /// Notes the ids of a short word, if they are few.
    pub(crate) fn insert_short(&mut self, key: ShortKey, found: &[TokenId]) {
        let mut ids = [0; 4];
        if let Some(place) = ids.get_mut(..found.len()) {
            place.copy_from_slice(found);
            let slot = ShortSlot { key: key.0 | (found.len() as u128) << NUM_IDS_SHIFT, ids };
            let pair = &mut self.short.0[Self::short_pair(key)].0;
            *pair = [slot, pair[0]];
        }
    }

    /// Both halves multiplied and folded, as wyhash mixes words.
    #[inline]
    fn short_pair(key: ShortKey) -> usize {
        let (low, high) =
            (key.0 as u64 ^ 0xA076_1D64_78BD_642F, (key.0 >> 64) as u64 ^ 0x9E37_79B9_7F4A_7C15);
        let product = u128::from(low) * u128::from(high);
        let hash = (product >> 64) as u64 ^ product as u64;
        (hash >> 20) as usize % SHORT_PAIRS
    }

    /// Appends the ids of a word seen before; `false` if it is new.
    pub(crate) fn repeat(&self, word: &[u8], hash: u64, ids: &mut Vec<TokenId>) -> bool {
        let Some(slot) = self.long.get(self.long_slot(hash)) else {
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
        let at = self.long_slot(hash);
        if let Some(slot) = self.long.get_mut(at) {
            *slot = LongSlot { word, start: place.start, num_ids: place.len() };
        }
    }

    /// Bits of the hash that the token table doesn't use for its place.
    fn long_slot(&self, hash: u64) -> usize {
        (hash >> 40) as usize & self.long.len().wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_wherever_they_stand() {
        let text = "kiln ".repeat(500) + "fifteen letters" + "é";
        let tables = IdleTables::default();
        let mut cache = WordCache::for_text(&text, tables.take());
        let mut ids = Vec::new();
        let key = |cache: &WordCache<'_>, from: usize, to: usize| {
            cache.short_key(&text.as_bytes()[from..to]).map(|key| key.0)
        };
        let first = cache.short_key(&text.as_bytes()[..4]).unwrap();
        assert!(!cache.repeat_short(first, &mut ids));
        cache.insert_short(first, &[7, 8]);
        let again = cache.short_key(&text.as_bytes()[500..504]).unwrap();
        assert!(cache.repeat_short(again, &mut ids));
        assert_eq!(ids, [7, 8]);
        assert_ne!(key(&cache, 0, 4), key(&cache, 0, 5));
        // The end of the text, where sixteen bytes can't be read.
        assert_eq!(key(&cache, 2500, 2515).unwrap() as u8, b'f');
        assert_eq!(key(&cache, 2500, 2516), None);
        assert_eq!(key(&cache, 2510, 2517).unwrap() >> 120, 7);
        cache.insert_short(again, &[1, 2, 3, 4, 5]);
        assert!(cache.repeat_short(again, &mut ids), "too many ids don't take the place of what is there");
        tables.give_back(cache.into_table());
        let next = WordCache::for_text("kiln", tables.take());
        let key = next.short_key(b"kiln").unwrap();
        assert!(next.repeat_short(key, &mut ids), "the next call finds what the one before found");
    }
}
