//! The ids of a word from left to right: the longest token that may stand behind the one before, and back if none may.
//!
//! Merging is local: a row of tokens is what merging gives exactly if each two neighbours are what merging gives for
//! their own bytes ("So many tokens, so little time", GitHub 2024, and its crate `bpe`, whose algorithm this follows).
//! So no merge is carried out. It needs merges that each make a token of their own, out of tokens made before; other
//! vocabularies keep to [`super::join_by_scan`], which tests compare it with.

use super::{NO_MERGE, PairTable};
use crate::vocabulary::TokenId;

mod double_array;

use double_array::DoubleArray;

/// Vocabularies with longer tokens merge by the heap; published ones have a hundred spaces or a few.
const MAX_TOKEN_BYTES: usize = 512;

/// Steps for each byte after which a word is given up: in text two or three are taken, a hostile vocabulary takes more.
const MAX_STEPS_PER_BYTE: usize = 64;

#[derive(Debug)]
pub(super) struct Longest {
    trie: DoubleArray,
    tokens: Vec<Token>,
}

/// How a token came about.
#[derive(Clone, Copy, Debug)]
struct Token {
    /// The two tokens it was merged from; a byte is its own.
    left: TokenId,
    right: TokenId,
    /// Bytes come first, then merges by rank.
    order: u32,
    len: u32,
    /// The longest token that is shorter and begins it, or `NO_TOKEN`.
    prefix: TokenId,
}

const NO_TOKEN: TokenId = TokenId::MAX;
const UNREACHED: Token = Token { left: NO_TOKEN, right: NO_TOKEN, order: u32::MAX, len: 0, prefix: NO_TOKEN };

/// Working memory of [`Longest::encode`].
#[derive(Debug, Default)]
pub(super) struct Path {
    /// Places from which nothing leads to the end of the word.
    closed: Vec<u64>,
    /// Pairs that were asked about before, with the answer in the lowest bit; one place a hash.
    known: Vec<u64>,
}

/// Of 8 bytes each: a quarter of a core's second cache at most.
const KNOWN_PAIRS: usize = 1 << 14;
const UNKNOWN: u64 = u64::MAX;

impl Longest {
    /// `None` if the merges aren't of the kind that this needs.
    pub(super) fn new(
        byte_ids: &[TokenId; 256],
        merges: &[(TokenId, TokenId, TokenId)],
        table: &PairTable,
        num_tokens: usize,
    ) -> Option<Self> {
        let mut tokens = vec![UNREACHED; num_tokens];
        let mut spellings: Vec<(Vec<u8>, TokenId)> = Vec::with_capacity(merges.len() + 256);
        let mut spelling_of: Vec<u32> = vec![u32::MAX; num_tokens];
        for (byte, &id) in (0_u8..=255).zip(byte_ids) {
            let token = tokens.get_mut(id as usize).filter(|token| token.len == 0)?;
            *token = Token { left: id, right: id, order: u32::from(byte), len: 1, prefix: NO_TOKEN };
            spelling_of[id as usize] = spellings.len() as u32;
            spellings.push((vec![byte], id));
        }
        for (rank, &(left, right, result)) in (256_u32..).zip(merges) {
            let (first, second) = (tokens[left as usize], tokens[right as usize]);
            // Each token is made once, after its parts; a pair that is listed twice isn't of this kind either.
            if first.len == 0 || second.len == 0 || tokens[result as usize].len != 0 {
                return None;
            }
            let len = first.len + second.len;
            if len as usize > MAX_TOKEN_BYTES || table.find(left, right) != rank_and(rank - 256, result) {
                return None;
            }
            tokens[result as usize] = Token { left, right, order: rank, len, prefix: NO_TOKEN };
            let parts = [left, right].map(|id| spelling_of[id as usize] as usize);
            spelling_of[result as usize] = spellings.len() as u32;
            spellings.push(([spellings[parts[0]].0.as_slice(), &spellings[parts[1]].0].concat(), result));
        }
        let mut longest = Self { trie: DoubleArray::default(), tokens };
        longest.keep_reachable(merges, &mut spellings, table);
        let tokens = &mut longest.tokens;
        longest.trie = DoubleArray::new(spellings, |id, prefix| tokens[id as usize].prefix = prefix)?;
        Some(longest)
    }

    /// Leaves out tokens whose own bytes merge into others: they are never in a result.
    fn keep_reachable(
        &self,
        merges: &[(TokenId, TokenId, TokenId)],
        spellings: &mut Vec<(Vec<u8>, TokenId)>,
        table: &PairTable,
    ) {
        let mut is_reachable = vec![true; self.tokens.len()];
        for &(left, right, result) in merges {
            is_reachable[result as usize] = is_reachable[left as usize]
                && is_reachable[right as usize]
                && self.may_meet(left, right, self.tokens[result as usize].order, table);
        }
        spellings.retain(|(_, id)| is_reachable[*id as usize]);
    }

    /// Appends the ids of a word; `false`, and nothing appended, if it takes too many steps.
    pub(super) fn encode(
        &self,
        word: &[u8],
        table: &PairTable,
        path: &mut Path,
        ids: &mut Vec<TokenId>,
    ) -> bool {
        let first = ids.len();
        path.closed.clear();
        path.closed.resize(word.len() / 64 + 1, 0);
        if path.known.is_empty() {
            path.known.resize(KNOWN_PAIRS, UNKNOWN);
        }
        let Path { closed, known } = path;
        let mut steps = word.len() * MAX_STEPS_PER_BYTE;
        let mut at = 0;
        let mut next = self.trie.longest(word);
        while at < word.len() {
            let last = if ids.len() > first { ids.last().copied() } else { None };
            let (mut token, mut len) = next;
            let mut fits = |token: TokenId, len: usize| {
                let end = at + len;
                closed[end / 64] >> (end % 64) & 1 == 0
                    && last.is_none_or(|last| self.is_known_to_meet(last, token, table, known))
            };
            while token != NO_TOKEN && !fits(token, len) {
                token = self.tokens[token as usize].prefix;
                len = self.len(token);
                steps -= 1;
                if steps == 0 {
                    ids.truncate(first);
                    return false;
                }
            }
            if token != NO_TOKEN {
                ids.push(token);
                at += len;
                next = self.trie.longest(&word[at..]);
            } else {
                let Some(last) = last else {
                    // Each word has a result, so this can't be; the other way finds it.
                    return false;
                };
                closed[at / 64] |= 1 << (at % 64);
                ids.pop();
                next = (last, self.len(last));
                at -= next.1;
            }
        }
        true
    }

    /// In bytes; 0 for none.
    fn len(&self, token: TokenId) -> usize {
        self.tokens.get(token as usize).map_or(0, |token| token.len as usize)
    }

    /// [`Self::may_meet`] without limit, remembered: most pairs of a text come again.
    #[inline]
    fn is_known_to_meet(&self, left: TokenId, right: TokenId, table: &PairTable, known: &mut [u64]) -> bool {
        // Ids are below 2^31, or their vocabulary would fill the memory.
        let key = u64::from(left) << 32 | u64::from(right) << 1;
        let place = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as usize % KNOWN_PAIRS;
        let found = known[place];
        if found & !1 == key {
            return found & 1 == 1;
        }
        let may_meet = self.may_meet(left, right, u32::MAX, table);
        known[place] = key | u64::from(may_meet);
        may_meet
    }

    /// Whether merging leaves the two side by side, looking only at merges before `limit`: takes back the merges that
    /// made them, latest first, and asks whether another one would have come before across the boundary.
    fn may_meet(&self, mut left: TokenId, mut right: TokenId, mut limit: u32, table: &PairTable) -> bool {
        loop {
            let merge = table.find(left, right);
            if merge != NO_MERGE && (merge >> 32) as u32 + 256 < limit {
                return false;
            }
            let (first, second) = (&self.tokens[left as usize], &self.tokens[right as usize]);
            let takes_back_left = first.len > 1 && (second.len == 1 || first.order > second.order);
            if takes_back_left {
                limit = first.order;
                left = first.right;
            } else if second.len > 1 {
                // Of equal merges the left one comes first.
                limit = second.order + 1;
                right = second.left;
            } else {
                return true;
            }
        }
    }
}

fn rank_and(rank: u32, result: TokenId) -> u64 {
    u64::from(rank) << 32 | u64::from(result)
}
