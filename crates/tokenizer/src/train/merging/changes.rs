//! What one merge changes around the places where it joins a pair: by neighbour, so that counts are looked up once each.

use super::super::pair_counts::PairCounts;
use super::Pair;
use crate::vocabulary::TokenId;

/// By the id in front of the pair, and by the id behind it.
#[derive(Debug)]
pub(super) struct Changes {
    before: Side,
    behind: Side,
}

#[derive(Debug)]
struct Side {
    by_neighbour: Vec<Change>,
    /// Neighbours with a change, in the order in which they came.
    seen: Vec<TokenId>,
}

#[derive(Clone, Debug, Default)]
struct Change {
    is_seen: bool,
    /// How often the neighbour stood beside the pair's part.
    lost: i64,
    /// How often it stands beside the joined pair, where that isn't too long.
    gained: i64,
    /// Words in which it does, in ascending order.
    words: Vec<u32>,
}

impl Changes {
    pub(super) fn new(vocab_size: usize) -> Self {
        let side = || Side { by_neighbour: vec![Change::default(); vocab_size], seen: Vec::new() };
        Self { before: side(), behind: side() }
    }

    #[inline]
    pub(super) fn before(&mut self, neighbour: TokenId, word: u32, count: i64, fits: bool) {
        self.before.note(neighbour, word, count, fits);
    }

    #[inline]
    pub(super) fn behind(&mut self, neighbour: TokenId, word: u32, count: i64, fits: bool) {
        self.behind.note(neighbour, word, count, fits);
    }

    /// Takes in the changes of words that come after all of these, and leaves `other` empty.
    pub(super) fn absorb(&mut self, other: &mut Self) {
        self.before.absorb(&mut other.before);
        self.behind.absorb(&mut other.behind);
    }

    /// Changes the counts, and gives the pairs that `id` is in now with their words; empty afterwards.
    pub(super) fn apply(
        &mut self,
        (left, right): Pair,
        id: TokenId,
        counts: &mut PairCounts,
    ) -> Vec<(Pair, Vec<u32>)> {
        let mut new_pairs = Vec::new();
        // The joined pair beside itself comes from both sides where another pair has spelled it before.
        if !self.behind.by_neighbour[id as usize].words.is_empty() {
            let words = std::mem::take(&mut self.behind.by_neighbour[id as usize].words);
            let change = &mut self.before.by_neighbour[id as usize];
            if !change.words.is_empty() {
                change.words.extend(words);
                change.words.sort_unstable();
                change.words.dedup();
            } else {
                new_pairs.push(((id, id), words));
            }
        }
        for neighbour in self.before.seen.drain(..) {
            let change = std::mem::take(&mut self.before.by_neighbour[neighbour as usize]);
            counts.add((neighbour, left), -change.lost);
            if !change.words.is_empty() {
                counts.add((neighbour, id), change.gained);
                new_pairs.push(((neighbour, id), change.words));
            }
        }
        for neighbour in self.behind.seen.drain(..) {
            let change = std::mem::take(&mut self.behind.by_neighbour[neighbour as usize]);
            counts.add((right, neighbour), -change.lost);
            if change.gained > 0 {
                counts.add((id, neighbour), change.gained);
            }
            if !change.words.is_empty() {
                new_pairs.push(((id, neighbour), change.words));
            }
        }
        new_pairs
    }
}

impl Side {
    #[inline]
    fn note(&mut self, neighbour: TokenId, word: u32, count: i64, fits: bool) {
        let change = &mut self.by_neighbour[neighbour as usize];
        if !change.is_seen {
            change.is_seen = true;
            self.seen.push(neighbour);
        }
        change.lost += count;
        if fits {
            change.gained += count;
            if change.words.last() != Some(&word) {
                change.words.push(word);
            }
        }
    }

    fn absorb(&mut self, other: &mut Self) {
        for neighbour in other.seen.drain(..) {
            let theirs = std::mem::take(&mut other.by_neighbour[neighbour as usize]);
            let change = &mut self.by_neighbour[neighbour as usize];
            if !change.is_seen {
                change.is_seen = true;
                self.seen.push(neighbour);
            }
            change.lost += theirs.lost;
            change.gained += theirs.gained;
            change.words.extend(theirs.words);
        }
    }
}
