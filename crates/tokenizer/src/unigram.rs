//! The most probable segmentation under a Unigram language model (Kudo 2018), by Viterbi.
//!
//! Ties, the penalty of unknown characters and their fusing follow SentencePiece and Hugging Face's tokenizers.

use crate::trie::Trie;
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
}
