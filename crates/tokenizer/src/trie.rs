//! All pieces of a vocabulary that a text starts with.
//!
//! A trie in breadth-first order: the children of a node stand side by side, sorted by byte.

use std::collections::VecDeque;

use crate::vocabulary::TokenId;

#[derive(Clone, Debug)]
pub(crate) struct Trie {
    /// Children of node n are `first_child[n]..first_child[n + 1]`.
    first_child: Vec<u32>,
    byte_of: Vec<u8>,
    id_of: Vec<TokenId>,
}

const NO_PIECE: TokenId = TokenId::MAX;

impl Trie {
    pub(crate) fn new(mut pieces: Vec<(&[u8], TokenId)>) -> Self {
        pieces.sort_unstable();
        let mut trie = Self { first_child: Vec::new(), byte_of: vec![0], id_of: vec![NO_PIECE] };
        // Ranges of `pieces` that share their first `depth` bytes: the nodes yet to be opened.
        let mut open = VecDeque::from([(0, pieces.len(), 0)]);
        while let Some((mut start, end, depth)) = open.pop_front() {
            let node = trie.first_child.len();
            trie.first_child.push(trie.byte_of.len() as u32);
            while start < end && pieces[start].0.len() == depth {
                // Of equal pieces the last id stays, as in a map filled in order.
                trie.id_of[node] = pieces[start].1;
                start += 1;
            }
            while start < end {
                let byte = pieces[start].0[depth];
                let len = pieces[start..end].partition_point(|(piece, _)| piece[depth] == byte);
                trie.byte_of.push(byte);
                trie.id_of.push(NO_PIECE);
                open.push_back((start, start + len, depth + 1));
                start += len;
            }
        }
        trie.first_child.push(trie.byte_of.len() as u32);
        // An empty piece would match everywhere and never end.
        trie.id_of[0] = NO_PIECE;
        trie
    }

    /// Gives length and id of each piece that `text` starts with, shortest first.
    pub(crate) fn prefixes(&self, text: &[u8], mut found: impl FnMut(usize, TokenId)) {
        let mut node = 0;
        for (depth, byte) in text.iter().enumerate() {
            let children = self.first_child[node] as usize..self.first_child[node + 1] as usize;
            let Ok(index) = self.byte_of[children.clone()].binary_search(byte) else {
                return;
            };
            node = children.start + index;
            if self.id_of[node] != NO_PIECE {
                found(depth + 1, self.id_of[node]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trie_finds_all_prefixes() {
        let pieces: Vec<(&[u8], TokenId)> =
            vec![(b"abc", 3), (b"a", 1), (b"b", 4), (b"abd", 5), (b"ab", 2), (b"a", 9)];
        let mut found = Vec::new();
        Trie::new(pieces).prefixes(b"abdx", |len, id| found.push((len, id)));
        assert_eq!(found, [(1, 9), (2, 2), (3, 5)]);
    }
}
