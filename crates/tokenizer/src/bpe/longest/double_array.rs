//! The longest token that a text begins with: a trie as a double array (Aoe 1989), one look at memory for each byte.
//!
//! The child of a node for a byte stands at `base ^ byte`, if that place says that it belongs to the node.

use crate::vocabulary::TokenId;

const NO_TOKEN: TokenId = TokenId::MAX;
/// Blocks of places that a node's children may go to; older ones are as full as they get.
const OPEN_BLOCKS: usize = 16;
const BLOCK: usize = 256;

/// What a place holds, in one number: in the lowest byte the byte that leads here, then a bit that says that it holds
/// anything, 23 bits of the base of its children, and the token that ends here + 1.
///
/// No two nodes share a base, so the byte alone says whose child a place is.
type Place = u64;

const TAKEN: u64 = 1 << 8;
const BASE_SHIFT: u32 = 9;
const MAX_PLACES: usize = 1 << 23;
const ID_SHIFT: u32 = 32;
/// The base of nodes without children.
const NO_CHILDREN: usize = 0;
/// The byte that stands in the root's place, 0.
const ROOT_BYTE: usize = 0xff;

#[derive(Debug, Default)]
pub(super) struct DoubleArray {
    places: Vec<Place>,
}

impl DoubleArray {
    /// Tells each token the longest other one that begins it, or `NO_TOKEN`.
    /// `None` if there are more tokens than fit.
    pub(super) fn new(
        mut tokens: Vec<(Vec<u8>, TokenId)>,
        mut prefix: impl FnMut(TokenId, TokenId),
    ) -> Option<Self> {
        tokens.sort_unstable();
        let mut array = Self { places: vec![0; BLOCK] };
        array.places[0] = TAKEN | ROOT_BYTE as u64;
        // Bases that a node has. Nobody gets that of nodes without children, nor one that leads to the root.
        let mut has_base = vec![false; BLOCK];
        has_base[NO_CHILDREN] = true;
        has_base[ROOT_BYTE] = true;
        // A node: its place, its tokens, how many bytes they share, and the last token on the way.
        let mut open = std::collections::VecDeque::from([(0_usize, 0..tokens.len(), 0_usize, NO_TOKEN)]);
        let mut cursor = 1;
        while let Some((place, mut range, depth, mut longest)) = open.pop_front() {
            if tokens.get(range.start).is_some_and(|(bytes, _)| bytes.len() == depth) && !range.is_empty() {
                let id = tokens[range.start].1;
                prefix(id, longest);
                array.places[place] |= (u64::from(id) + 1) << ID_SHIFT;
                longest = id;
                range.start += 1;
            }
            let mut children = Vec::new();
            while !range.is_empty() {
                let byte = tokens[range.start].0[depth];
                let len = tokens[range.clone()].partition_point(|(bytes, _)| bytes[depth] == byte);
                children.push((byte, range.start..range.start + len));
                range.start += len;
            }
            if children.is_empty() {
                continue;
            }
            let base = array.room(&children, &mut has_base, &mut cursor)?;
            array.places[place] |= (base as u64) << BASE_SHIFT;
            for (byte, range) in children {
                let child = base ^ usize::from(byte);
                array.places[child] = TAKEN | u64::from(byte);
                open.push_back((child, range, depth + 1, longest));
            }
        }
        Some(array)
    }

    /// A base that no other node has, for which the places of all children are free.
    fn room<R>(
        &mut self,
        children: &[(u8, R)],
        has_base: &mut Vec<bool>,
        cursor: &mut usize,
    ) -> Option<usize> {
        let first_open = self.places.len().saturating_sub(OPEN_BLOCKS * BLOCK);
        *cursor = (*cursor).max(first_open);
        while *cursor < self.places.len() && self.places[*cursor] != 0 {
            *cursor += 1;
        }
        let first = usize::from(children[0].0);
        let is_free = |byte: u8, base: usize| self.places[base ^ usize::from(byte)] == 0;
        let found = (*cursor..self.places.len())
            .map(|place| place ^ first)
            .find(|base| !has_base[*base] && children.iter().all(|(byte, _)| is_free(*byte, *base)));
        let base = found.unwrap_or(self.places.len());
        if base == self.places.len() {
            self.places.resize(base + BLOCK, 0);
            has_base.resize(base + BLOCK, false);
        }
        has_base[base] = true;
        (self.places.len() <= MAX_PLACES).then_some(base)
    }

    /// The longest token at the start of `text` and its length, or `NO_TOKEN`.
    #[inline]
    pub(super) fn longest(&self, text: &[u8]) -> (TokenId, usize) {
        let mut node = self.places[0];
        let mut found = (0, 0);
        for (depth, byte) in text.iter().enumerate() {
            let base = (node >> BASE_SHIFT) as usize & (MAX_PLACES - 1);
            node = self.places[base ^ usize::from(*byte)];
            if node & (TAKEN | 0xff) != TAKEN | u64::from(*byte) {
                break;
            }
            if node >> ID_SHIFT != 0 {
                found = (node >> ID_SHIFT, depth + 1);
            }
        }
        ((found.0 as TokenId).wrapping_sub(1), found.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_longest_token_is_found_as_by_looking_at_all(
            spelled in proptest::collection::hash_set(proptest::collection::vec(prop_oneof![Just(0_u8), Just(255), any::<u8>()], 1..5), 0..400),
            text in proptest::collection::vec(prop_oneof![Just(0_u8), Just(255), any::<u8>()], 0..8),
        ) {
            let mut tokens: Vec<(Vec<u8>, TokenId)> = spelled.into_iter().zip(0..).collect();
            tokens.sort();
            let mut prefixes = std::collections::BTreeMap::new();
            let array = DoubleArray::new(tokens.clone(), |id, prefix| _ = prefixes.insert(id, prefix)).unwrap();
            let longest = |text: &[u8], less_than: usize| {
                let fitting = tokens.iter().filter(|(bytes, _)| bytes.len() < less_than && text.starts_with(bytes));
                fitting.max_by_key(|(bytes, _)| bytes.len()).map_or((NO_TOKEN, 0), |(bytes, id)| (*id, bytes.len()))
            };
            prop_assert_eq!(array.longest(&text), longest(&text, usize::MAX));
            for (bytes, id) in &tokens {
                prop_assert_eq!(array.longest(bytes), (*id, bytes.len()));
                prop_assert_eq!(prefixes[id], longest(bytes, bytes.len()).0);
            }
        }
    }
}
