//! The most probable segmentation under a Unigram language model (Kudo 2018), by Viterbi.
//!
//! Ties, the penalty of unknown characters and their fusing follow SentencePiece and Hugging Face's tokenizers.

use std::collections::VecDeque;

use crate::vocabulary::TokenId;

/// SentencePiece's penalty of an unknown character below the worst piece.
const UNKNOWN_PENALTY: f64 = 10.0;

#[derive(Debug)]
pub(crate) struct Unigram {
    trie: Trie,
    scores: Vec<f64>,
    unknown_score: f64,
    unknown: TokenId,
    /// Unknown characters become these instead, if the model has all 256.
    byte_ids: Option<Box<[TokenId; 256]>>,
}

#[derive(Clone, Copy)]
struct Best {
    score: f64,
    start: usize,
    id: TokenId,
}

/// Marks a position that no piece reaches yet.
const UNREACHED: usize = usize::MAX;

impl Unigram {
    /// `pieces` are those that text may become; `scores` cover the whole vocabulary.
    pub(crate) fn new(
        pieces: Vec<(&[u8], TokenId)>,
        scores: Vec<f64>,
        unknown: TokenId,
        byte_ids: Option<Box<[TokenId; 256]>>,
    ) -> Self {
        let worst = scores.iter().copied().fold(f64::INFINITY, f64::min);
        let unknown_score = worst - UNKNOWN_PENALTY;
        Self { trie: Trie::new(pieces), scores, unknown_score, unknown, byte_ids }
    }

    pub(crate) fn encode(&self, word: &str, out: &mut Vec<TokenId>) {
        let best = self.best_paths(word);
        let first = out.len();
        let mut end = word.len();
        let mut unknown_end = None;
        while end > 0 {
            let Best { start, id, .. } = best[end];
            if id == self.unknown {
                unknown_end.get_or_insert(end);
            } else {
                self.push_unknown(word, end, unknown_end.take(), out);
                out.push(id);
            }
            end = start;
        }
        self.push_unknown(word, 0, unknown_end, out);
        out[first..].reverse();
    }

    /// A run of unknown characters is one unknown token, or its bytes. Written backwards, as the caller reads.
    fn push_unknown(&self, word: &str, start: usize, end: Option<usize>, out: &mut Vec<TokenId>) {
        let Some(end) = end else { return };
        match &self.byte_ids {
            Some(byte_ids) => {
                let bytes = &word.as_bytes()[start..end];
                out.extend(bytes.iter().rev().map(|byte| byte_ids[usize::from(*byte)]));
            }
            None => out.push(self.unknown),
        }
    }

    /// The best piece that ends at each byte.
    fn best_paths(&self, word: &str) -> Vec<Best> {
        let mut best = vec![Best { score: 0.0, start: UNREACHED, id: self.unknown }; word.len() + 1];
        for (start, c) in word.char_indices() {
            let here = best[start].score;
            let char_end = start + c.len_utf8();
            let mut has_single = false;
            let offer = |target: &mut Best, id: TokenId, score: f64| {
                if target.start == UNREACHED || score > target.score {
                    *target = Best { score, start, id };
                }
            };
            self.trie.prefixes(&word.as_bytes()[start..], |len, id| {
                offer(&mut best[start + len], id, self.scores[id as usize] + here);
                has_single |= start + len == char_end;
            });
            if !has_single {
                offer(&mut best[char_end], self.unknown, self.unknown_score + here);
            }
        }
        best
    }
}

/// A trie in breadth-first order: the children of a node stand side by side, sorted by byte.
#[derive(Debug)]
struct Trie {
    /// Children of node n are `first_child[n]..first_child[n + 1]`.
    first_child: Vec<u32>,
    byte_of: Vec<u8>,
    id_of: Vec<TokenId>,
}

const NO_PIECE: TokenId = TokenId::MAX;

impl Trie {
    fn new(mut pieces: Vec<(&[u8], TokenId)>) -> Self {
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
    fn prefixes(&self, text: &[u8], mut found: impl FnMut(usize, TokenId)) {
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

    fn encode(pieces: &[(&str, f64)], bytes: bool, word: &str) -> Vec<TokenId> {
        let entries = pieces.iter().enumerate().skip(1);
        let entries = entries.map(|(id, (piece, _))| (piece.as_bytes(), id as u32)).collect();
        let scores = pieces.iter().map(|(_, score)| *score).collect();
        let byte_ids = bytes.then(|| Box::new(std::array::from_fn(|byte| 1000 + byte as u32)));
        let mut out = Vec::new();
        Unigram::new(entries, scores, 0, byte_ids).encode(word, &mut out);
        out
    }

    #[test]
    fn best_path_and_unknowns() {
        let pieces = [
            ("<unk>", 0.0),
            ("a", -1.0),
            ("b", -1.0),
            ("ab", -1.5),
            ("abc", -9.0),
            ("c", -2.0),
            ("中", -3.0),
            ("", -1.0),
        ];
        for (word, expected) in [
            ("", vec![]),
            ("a", vec![1]),
            ("ab", vec![3]),
            ("abc", vec![3, 5]),
            ("xyz", vec![0]),
            ("axyb", vec![1, 0, 2]),
            ("中国", vec![6, 0]),
            ("国a", vec![0, 1]),
        ] {
            assert_eq!(encode(&pieces, false, word), expected, "{word}");
        }
        assert_eq!(encode(&pieces, true, "a国"), [1, 1000 + 0xE5, 1000 + 0x9B, 1000 + 0xBD]);
    }

    #[test]
    fn the_first_of_equal_paths_stays() {
        let pieces = [("<unk>", 0.0), ("a", -1.0), ("aa", -2.0)];
        // "a" + "a" scores like "aa"; the path offered first wins, which is the one from the earlier start.
        assert_eq!(encode(&pieces, false, "aa"), [2]);
    }

    #[test]
    fn the_trie_finds_all_prefixes() {
        let pieces: Vec<(&[u8], TokenId)> =
            vec![(b"abc", 3), (b"a", 1), (b"b", 4), (b"abd", 5), (b"ab", 2), (b"a", 9)];
        let mut found = Vec::new();
        Trie::new(pieces).prefixes(b"abdx", |len, id| found.push((len, id)));
        assert_eq!(found, [(1, 9), (2, 2), (3, 5)]);
    }
}
