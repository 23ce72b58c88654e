//! The longest token that a text begins with: a trie as a double array (Aoe 1989), one look at memory for each byte.
//!
//! The child of a node for a byte stands at `base ^ byte`, if that place says that it belongs to the node.

use crate::vocabulary::TokenId;

const NO_TOKEN: TokenId = TokenId::MAX;
const FREE: u32 = u32::MAX;
/// Blocks of places that a node's children may go to; older ones are as full as they get.
const OPEN_BLOCKS: usize = 16;
const BLOCK: usize = 256;

#[derive(Clone, Copy, Debug)]
struct Place {
    base: u32,
    parent: u32,
    id: TokenId,
}

const EMPTY: Place = Place { base: 0, parent: FREE, id: NO_TOKEN };

#[derive(Debug, Default)]
pub(super) struct DoubleArray {
    places: Vec<Place>,
}

impl DoubleArray {
    /// Tells each token the longest other one that begins it, or `NO_TOKEN`.
    pub(super) fn new(mut tokens: Vec<(Vec<u8>, TokenId)>, mut prefix: impl FnMut(TokenId, TokenId)) -> Self {
        tokens.sort_unstable();
        let mut array = Self { places: vec![EMPTY; BLOCK] };
        array.places[0].parent = 0;
        // A node: its place, its tokens, how many bytes they share, and the last token on the way.
        let mut open = std::collections::VecDeque::from([(0_usize, 0..tokens.len(), 0_usize, NO_TOKEN)]);
        let mut cursor = 1;
        while let Some((place, mut range, depth, mut longest)) = open.pop_front() {
            if tokens.get(range.start).is_some_and(|(bytes, _)| bytes.len() == depth) && !range.is_empty() {
                let id = tokens[range.start].1;
                prefix(id, longest);
                array.places[place].id = id;
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
            let base = array.room(&children, &mut cursor);
            array.places[place].base = base as u32;
            for (byte, range) in children {
                let child = base ^ usize::from(byte);
                array.places[child].parent = place as u32;
                open.push_back((child, range, depth + 1, longest));
            }
        }
        array
    }

    /// A base for which the places of all children are free.
    fn room<R>(&mut self, children: &[(u8, R)], cursor: &mut usize) -> usize {
        let first_open = self.places.len().saturating_sub(OPEN_BLOCKS * BLOCK);
        *cursor = (*cursor).max(first_open);
        while *cursor < self.places.len() && self.places[*cursor].parent != FREE {
            *cursor += 1;
        }
        let first = usize::from(children[0].0);
        for place in *cursor..self.places.len() {
            let base = place ^ first;
            if children.iter().all(|(byte, _)| self.places[base ^ usize::from(*byte)].parent == FREE) {
                return base;
            }
        }
        let base = self.places.len();
        self.places.resize(base + BLOCK, EMPTY);
        base
    }

    /// The longest token at the start of `text`, or `NO_TOKEN`.
    #[inline]
    pub(super) fn longest(&self, text: &[u8]) -> TokenId {
        let mut node = 0;
        let mut base = self.places[0].base;
        let mut found = NO_TOKEN;
        for byte in text {
            let child = base ^ u32::from(*byte);
            let place = &self.places[child as usize];
            if place.parent != node {
                break;
            }
            if place.id != NO_TOKEN {
                found = place.id;
            }
            (node, base) = (child, place.base);
        }
        found
    }
}
