//! The longest piece first, from the left (`WordPiece` as BERT uses it).
//!
//! Pieces that start a word are stored with a space in front, those that continue one without: so one trie holds
//! both, and pieces in order spell the text.

use crate::trie::Trie;
use crate::vocabulary::TokenId;

#[derive(Debug)]
pub(crate) struct WordPiece {
    pieces: Trie,
    unknown: TokenId,
    /// Longer words are unknown as a whole.
    max_word_chars: usize,
}

impl WordPiece {
    pub(crate) fn new(pieces: Vec<(&[u8], TokenId)>, unknown: TokenId, max_word_chars: usize) -> Self {
        Self { pieces: Trie::new(pieces), unknown, max_word_chars }
    }

    /// Appends the ids of a word; one that can't be put together is the unknown token. `spaced` is working memory.
    pub(crate) fn encode(&self, word: &str, spaced: &mut Vec<u8>, out: &mut Vec<TokenId>) {
        if word.len() > self.max_word_chars && word.chars().count() > self.max_word_chars {
            out.push(self.unknown);
            return;
        }
        spaced.clear();
        spaced.push(b' ');
        spaced.extend_from_slice(word.as_bytes());
        let first = out.len();
        let mut at = 0;
        while at < spaced.len() {
            let mut longest = None;
            self.pieces.prefixes(&spaced[at..], |len, id| longest = Some((len, id)));
            let Some((len, id)) = longest else {
                out.truncate(first);
                out.push(self.unknown);
                return;
            };
            out.push(id);
            at += len;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_piece_comes_first() {
        let pieces: [&[u8]; 6] = [b" un", b" unable", b"able", b"ab", " 中".as_bytes(), b"l"];
        let pieces = pieces.into_iter().zip(1..).collect();
        let model = WordPiece::new(pieces, 0, 8);
        for (word, expected) in [
            ("un", vec![1]),
            ("unable", vec![2]),
            ("unablel", vec![2, 6]),
            ("unab", vec![1, 4]),
            ("able", vec![0]),
            ("unabx", vec![0]),
            ("中", vec![5]),
            ("中中", vec![0]),
            ("unlllllll", vec![0]),
            ("unllllll", vec![1, 6, 6, 6, 6, 6, 6]),
        ] {
            let mut out = vec![7];
            model.encode(word, &mut Vec::new(), &mut out);
            assert_eq!(out[1..], expected, "{word}");
        }
    }
}
