//! A table of words and how often they came: bytes in one buffer, open addressing by hash.

use crate::tokenizer::hash;

#[derive(Debug)]
pub(super) struct WordCounts {
    bytes: Vec<u8>,
    /// Where each word starts in `bytes`, and behind the last one where it ends.
    starts: Vec<usize>,
    counts: Vec<u64>,
    /// The hash's high half and the word's number + 1; 0 where empty.
    slots: Vec<(u32, u32)>,
}

impl WordCounts {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), starts: vec![0], counts: Vec::new(), slots: vec![(0, 0); 1 << 12] }
    }

    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    pub(super) fn num_bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn word(&self, index: usize) -> &[u8] {
        &self.bytes[self.starts[index]..self.starts[index + 1]]
    }

    pub(super) fn count(&self, index: usize) -> u64 {
        self.counts[index]
    }

    #[inline]
    pub(super) fn add(&mut self, word: &[u8], count: u64) {
        let hash = hash(word);
        let tag = (hash >> 32) as u32;
        let mut at = hash as usize & (self.slots.len() - 1);
        loop {
            let (found, number) = self.slots[at];
            if number == 0 {
                break;
            }
            if found == tag && self.word(number as usize - 1) == word {
                self.counts[number as usize - 1] += count;
                return;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.bytes.extend_from_slice(word);
        self.starts.push(self.bytes.len());
        self.counts.push(count);
        self.slots[at] = (tag, self.counts.len() as u32);
        if self.counts.len() * 3 > self.slots.len() * 2 {
            self.grow();
        }
    }

    /// Adds another table's words.
    pub(super) fn absorb(&mut self, other: &Self) {
        for index in 0..other.len() {
            self.add(other.word(index), other.count(index));
        }
    }

    fn grow(&mut self) {
        let num_slots = self.slots.len() * 2;
        let mut slots = vec![(0, 0); num_slots];
        for index in 0..self.len() {
            let hash = hash(self.word(index));
            let mut at = hash as usize & (num_slots - 1);
            while slots[at].1 != 0 {
                at = (at + 1) & (num_slots - 1);
            }
            slots[at] = ((hash >> 32) as u32, index as u32 + 1);
        }
        self.slots = slots;
    }
}
