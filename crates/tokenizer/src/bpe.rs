//! Byte-pair merging of one word (Sennrich et al. 2016).
//!
//! Merging starts from bytes (GPT-2) or characters (`SentencePiece`), see [`alphabet`]; what joins is listed by the
//! vocabulary ([`pair_table`]) or follows from its tokens ([`spelled`]). The pair with the lowest rank merges first, the
//! leftmost of equals. Short words scan an array of ranks; long ones use a heap, so that a word of a megabyte costs
//! n log n. Both give the same ids, which tests check.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::vocabulary::TokenId;

mod alphabet;
mod longest;
mod pair_table;
mod spelled;

pub(crate) use alphabet::{Alphabet, Chars, Unknown};
use longest::{Longest, Path};
use pair_table::PairTable;
pub(crate) use spelled::{SpelledJoins, ranks_of_scores};

/// Below this many parts scanning beats the heap: a few cache lines of ranks.
const SCAN_LIMIT: usize = 128;
const NO_MERGE: u64 = u64::MAX;
const NO_TOKEN: TokenId = TokenId::MAX;

const UNTRIED: u8 = 0;
const WHOLE: u8 = 1;
const PARTS: u8 = 2;

#[derive(Debug)]
pub(crate) struct Bpe {
    alphabet: Alphabet,
    joins: Joins,
    /// The same without merging, for vocabularies that allow it.
    longest: Option<Longest>,
    /// Whether merging a token's own bytes gives that token; found out when first asked.
    whole: Vec<AtomicU8>,
    /// A word that is a token is that token, whatever the merges say (Llama 3, tiktoken).
    ignore_merges: bool,
}

/// Which neighbours join, and in which order.
#[derive(Debug)]
pub(crate) enum Joins {
    Listed(Listed),
    Spelled(SpelledJoins),
}

/// Merges of (left, right, result).
#[derive(Debug)]
pub(crate) struct Listed(PairTable, Vec<(TokenId, TokenId, TokenId)>);

impl Listed {
    /// `merges` stand in the order of rank.
    pub(crate) fn new(merges: Vec<(TokenId, TokenId, TokenId)>) -> Self {
        let mut table = PairTable::with_capacity(merges.len());
        for (rank, (left, right, result)) in merges.iter().enumerate() {
            table.insert(*left, *right, (rank as u64) << 32 | u64::from(*result));
        }
        Self(table, merges)
    }
}

/// Working memory that one call of `encode` reuses for all its words.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    ids: Vec<TokenId>,
    merges: Vec<u64>,
    path: Path,
}

impl Bpe {
    pub(crate) fn new(alphabet: Alphabet, joins: Joins, num_tokens: usize, ignore_merges: bool) -> Self {
        let whole = (0..num_tokens).map(|_| AtomicU8::new(UNTRIED)).collect();
        let mut joins = joins;
        let longest = match (&alphabet, &mut joins) {
            (Alphabet::Bytes(byte_ids), Joins::Listed(listed)) => {
                let merges = std::mem::take(&mut listed.1);
                Longest::new(byte_ids, &merges, &listed.0, num_tokens)
            }
            _ => None,
        };
        Self { alphabet, joins, longest, whole, ignore_merges }
    }

    pub(crate) fn num_lost_bytes(&self, text: &str) -> usize {
        self.alphabet.num_lost_bytes(text)
    }

    /// Whether the word, which is spelled like `token`, merges into exactly that token.
    #[inline]
    pub(crate) fn is_whole(&self, word: &str, token: TokenId, scratch: &mut Scratch) -> bool {
        if self.ignore_merges {
            return true;
        }
        let state = &self.whole[token as usize];
        // Relaxed: every thread computes the same answer, and nothing else hangs on it.
        match state.load(Ordering::Relaxed) {
            WHOLE => true,
            PARTS => false,
            _ => {
                let mut ids = Vec::new();
                self.merge(word, scratch, &mut ids);
                let is_whole = ids == [token];
                state.store(if is_whole { WHOLE } else { PARTS }, Ordering::Relaxed);
                is_whole
            }
        }
    }

    /// Appends the ids of a word.
    pub(crate) fn merge(&self, word: &str, scratch: &mut Scratch, out: &mut Vec<TokenId>) {
        if let (Some(longest), Joins::Listed(listed)) = (&self.longest, &self.joins) {
            if longest.encode(word.as_bytes(), &listed.0, &mut scratch.path, out) {
                return;
            }
        }
        scratch.ids.clear();
        self.alphabet.start(word, &mut scratch.ids);
        self.join(scratch);
        self.alphabet.finish(&scratch.ids, out);
    }

    fn join(&self, scratch: &mut Scratch) {
        let is_short = scratch.ids.len() <= SCAN_LIMIT;
        match &self.joins {
            Joins::Listed(Listed(table, _)) if is_short => join_by_scan(scratch, |l, r| table.find(l, r)),
            Joins::Listed(Listed(table, _)) => join_by_heap(scratch, |l, r| table.find(l, r)),
            Joins::Spelled(tokens) if is_short => join_by_scan(scratch, |l, r| tokens.find(l, r)),
            Joins::Spelled(tokens) => join_by_heap(scratch, |l, r| tokens.find(l, r)),
        }
    }
}

/// `find` gives `rank << 32 | result`, or `NO_MERGE`. Ranks may be equal.
fn join_by_scan(scratch: &mut Scratch, find: impl Fn(TokenId, TokenId) -> u64) {
    let Scratch { ids, merges, .. } = scratch;
    merges.clear();
    merges.extend(ids.windows(2).map(|pair| find(pair[0], pair[1])));
    loop {
        let mut best = NO_MERGE;
        let mut at = 0;
        for (index, merge) in merges.iter().enumerate() {
            if *merge >> 32 < best >> 32 {
                best = *merge;
                at = index;
            }
        }
        if best == NO_MERGE {
            return;
        }
        ids[at] = best as TokenId;
        ids.remove(at + 1);
        merges.remove(at);
        if at < merges.len() {
            merges[at] = find(ids[at], ids[at + 1]);
        }
        if at > 0 {
            merges[at - 1] = find(ids[at - 1], ids[at]);
        }
    }
}

fn join_by_heap(scratch: &mut Scratch, find: impl Fn(TokenId, TokenId) -> u64) {
    let ids = &mut scratch.ids;
    let len = ids.len();
    let mut next: Vec<u32> = (1..=len as u32).collect();
    let mut previous: Vec<u32> = (0..len as u32).map(|at| at.wrapping_sub(1)).collect();
    // (rank and position, result, left, right): stale entries are known by ids that have changed since.
    let mut heap = BinaryHeap::new();
    let push = |heap: &mut BinaryHeap<_>, at: u32, left: TokenId, right: TokenId| {
        let merge = find(left, right);
        if merge != NO_MERGE {
            heap.push(Reverse((merge >> 32 << 32 | u64::from(at), merge as TokenId, left, right)));
        }
    };
    for (at, pair) in ids.windows(2).enumerate() {
        push(&mut heap, at as u32, pair[0], pair[1]);
    }
    while let Some(Reverse((place, joined, left, right))) = heap.pop() {
        let at = place as u32;
        let right_at = next[at as usize] as usize;
        if ids[at as usize] != left || right_at >= len || ids[right_at] != right {
            continue;
        }
        ids[at as usize] = joined;
        ids[right_at] = NO_TOKEN;
        let after = next[right_at];
        next[at as usize] = after;
        if (after as usize) < len {
            previous[after as usize] = at;
            push(&mut heap, at, joined, ids[after as usize]);
        }
        let before = previous[at as usize];
        if at > 0 {
            push(&mut heap, before, ids[before as usize], joined);
        }
    }
    ids.retain(|id| *id != NO_TOKEN);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes are their own ids; each merge makes the next id.
    fn table(pairs: &[(TokenId, TokenId)]) -> PairTable {
        let merges = pairs.iter().zip(256..).map(|(pair, result)| (pair.0, pair.1, result));
        Listed::new(merges.collect()).0
    }

    fn by_scan(table: &PairTable, word: &[u8]) -> Vec<TokenId> {
        let mut scratch = Scratch {
            ids: word.iter().copied().map(u32::from).collect(),
            merges: Vec::new(),
            path: Path::default(),
        };
        join_by_scan(&mut scratch, |left, right| table.find(left, right));
        scratch.ids
    }

    fn by_heap(table: &PairTable, word: &[u8]) -> Vec<TokenId> {
        let mut scratch = Scratch {
            ids: word.iter().copied().map(u32::from).collect(),
            merges: Vec::new(),
            path: Path::default(),
        };
        join_by_heap(&mut scratch, |left, right| table.find(left, right));
        scratch.ids
    }

    #[test]
    fn equal_ranks_merge_from_the_left() {
        let table = table(&[(97, 97), (256, 97)]);
        for (word, expected) in [("", vec![]), ("a", vec![97]), ("aaa", vec![257]), ("aaaa", vec![256, 256])]
        {
            assert_eq!(by_scan(&table, word.as_bytes()), expected, "{word}");
            assert_eq!(by_heap(&table, word.as_bytes()), expected, "{word}");
        }
    }

    #[test]
    fn ranks_follow_scores_and_equal_scores_share_one() {
        assert_eq!(ranks_of_scores(&[]), [0_u32; 0]);
        assert_eq!(ranks_of_scores(&[-3.0, 0.0, -1.0, -0.0, -1.0]), [2, 0, 1, 0, 1]);
    }

    proptest! {
        #[test]
        fn heap_equals_scan(
            word in proptest::collection::vec(97_u8..101, 0..300),
            pairs in proptest::collection::vec((0_usize..1000, 0_usize..1000), 0..40),
        ) {
            let mut made: Vec<TokenId> = (97..101).collect();
            let mut merges: Vec<(TokenId, TokenId)> = Vec::new();
            for (left, right) in pairs {
                let pair = (made[left % made.len()], made[right % made.len()]);
                if !merges.contains(&pair) {
                    made.push(256 + merges.len() as u32);
                    merges.push(pair);
                }
            }
            let table = table(&merges);
            prop_assert_eq!(by_heap(&table, &word), by_scan(&table, &word));
        }
    }
    proptest! {
        /// Merges that each make a token of their own, as in published vocabularies; some tokens are never reached.
        #[test]
        fn longest_tokens_equal_merging(
            word in "[abcd]{0,200}|(ab|cd|aa){0,60}",
            pairs in proptest::collection::vec((0_usize..1000, 0_usize..1000), 0..60),
        ) {
            let mut made: Vec<TokenId> = (97..101).collect();
            let mut spelled: Vec<Vec<u8>> = (97..101_u8).map(|byte| vec![byte]).collect();
            let mut merges: Vec<(TokenId, TokenId, TokenId)> = Vec::new();
            for (left, right) in pairs {
                let (left, right) = (left % made.len(), right % made.len());
                let joined = [spelled[left].as_slice(), &spelled[right]].concat();
                if joined.len() < 40 && !spelled.contains(&joined) {
                    let id = 256 + merges.len() as u32;
                    merges.push((made[left], made[right], id));
                    made.push(id);
                    spelled.push(joined);
                }
            }
            let num_tokens = 256 + merges.len();
            let alphabet = Alphabet::bytes(&std::array::from_fn(|byte| Some(byte as u32)));
            let expected = by_scan(&Listed::new(merges.clone()).0, word.as_bytes());
            let bpe = Bpe::new(alphabet, Joins::Listed(Listed::new(merges)), num_tokens, false);
            prop_assert!(bpe.longest.is_some());
            let mut ids = vec![7];
            bpe.merge(&word, &mut Scratch::default(), &mut ids);
            prop_assert_eq!(&ids[1..], expected);
        }
    }

    #[test]
    fn merges_of_another_kind_are_carried_out() {
        let merge = |merges: &[(TokenId, TokenId, TokenId)], word: &str| {
            let alphabet = Alphabet::bytes(&std::array::from_fn(|byte| Some(byte as u32)));
            let bpe = Bpe::new(alphabet, Joins::Listed(Listed::new(merges.to_vec())), 300, false);
            let mut ids = Vec::new();
            bpe.merge(word, &mut Scratch::default(), &mut ids);
            (bpe.longest.is_some(), ids)
        };
        // Two ways to one token, and a part that is made later than the whole.
        assert_eq!(
            merge(&[(97, 98, 256), (256, 99, 257), (98, 99, 258), (97, 258, 257)], "abc"),
            (false, vec![257])
        );
        assert_eq!(merge(&[(256, 99, 257), (97, 98, 256)], "abc"), (false, vec![257]));
        assert_eq!(merge(&[(97, 98, 256), (256, 99, 257)], "abcab"), (true, vec![257, 256]));
    }
}
