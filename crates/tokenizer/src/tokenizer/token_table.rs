//! What each token spells, in one buffer, and the way back from bytes to the token.

use crate::vocabulary::TokenId;

#[derive(Debug)]
pub(crate) struct TokenTable {
    bytes: Vec<u8>,
    /// Token t spells `bytes[ends[t - 1]..ends[t]]`.
    ends: Vec<u32>,
    /// Open addressing by hash: high half of the hash, then id + 1; 0 where empty.
    slots: Vec<(u32, u32)>,
}

impl TokenTable {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::new(), ends: Vec::new(), slots: vec![(0, 0); 2] }
    }

    /// Appends a token's bytes; `write` fills them in.
    pub(crate) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len() as u32);
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    #[inline]
    pub(crate) fn bytes(&self, id: TokenId) -> &[u8] {
        let id = id as usize;
        let Some(end) = self.ends.get(id) else {
            return &[];
        };
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.bytes[start as usize..*end as usize]
    }

    /// Makes the wanted tokens findable; of tokens that spell the same the last stays.
    pub(crate) fn index(&mut self, wanted: impl Fn(TokenId) -> bool) {
        let num_slots = (self.len() * 2).next_power_of_two().max(2);
        let mut slots = vec![(0_u32, 0_u32); num_slots];
        for id in (0..self.len() as TokenId).filter(|id| wanted(*id)) {
            let bytes = self.bytes(id);
            let hash = hash(bytes);
            let tag = (hash >> 32) as u32;
            let mut at = hash as usize & (num_slots - 1);
            while slots[at].1 != 0 && (slots[at].0 != tag || self.bytes(slots[at].1 - 1) != bytes) {
                at = (at + 1) & (num_slots - 1);
            }
            slots[at] = (tag, id + 1);
        }
        self.slots = slots;
    }

    pub(crate) fn find(&self, bytes: &[u8]) -> Option<TokenId> {
        self.find_hashed(bytes, hash(bytes))
    }

    #[inline]
    pub(crate) fn find_hashed(&self, bytes: &[u8], hash: u64) -> Option<TokenId> {
        let tag = (hash >> 32) as u32;
        let mut at = hash as usize & (self.slots.len() - 1);
        loop {
            let (found, id) = self.slots[at];
            if id == 0 {
                return None;
            }
            if found == tag && self.bytes(id - 1) == bytes {
                return Some(id - 1);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }
}

/// Eight bytes at a time, multiplied and folded (the mixing step of wyhash): the same on every machine.
#[inline]
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let mix = |state: u64, word: u64| {
        let product = u128::from(state ^ word) * u128::from(FACTOR);
        (product >> 64) as u64 ^ product as u64
    };
    let (words, tail) = bytes.as_chunks::<8>();
    let mut state = bytes.len() as u64 ^ 0xA076_1D64_78BD_642F;
    for word in words {
        state = mix(state, u64::from_le_bytes(*word));
    }
    let mut last = 0;
    for byte in tail {
        last = last << 8 | u64::from(*byte);
    }
    mix(mix(state, last), FACTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_by_their_bytes() {
        let mut table = TokenTable::new();
        let spelled = ["", "a", " the", "abcdefgh", "abcdefghi", "a", "中"];
        for token in spelled {
            table.push(|out| out.extend_from_slice(token.as_bytes()));
        }
        assert_eq!(table.find(b"a"), None);
        table.index(|id| id != 2);
        for (bytes, expected) in [
            ("", Some(0)),
            ("a", Some(5)),
            (" the", None),
            ("abcdefgh", Some(3)),
            ("abcdefghi", Some(4)),
            ("中", Some(6)),
            ("b", None),
        ] {
            assert_eq!(table.find(bytes.as_bytes()), expected, "{bytes:?}");
        }
        assert_eq!(table.bytes(4), b"abcdefghi");
        assert_eq!(table.bytes(7), b"");
    }
}
