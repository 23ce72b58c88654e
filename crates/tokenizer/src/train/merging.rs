//! Learns merges: the most frequent pair first, of equal ones that with the smaller ids, as `BpeTrainer` does.
//!
//! Counts change only around the places where a pair is joined, so each pair keeps the words it was seen in. Entries of
//! the heap may be out of date: one is put back with its present count when it comes up. A word keeps its place in one
//! buffer and only gets shorter, so words of a large step are shared out among threads in stretches.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use hearth_artifacts::progress::{Event, Progress, Unit};

use super::pair_counts::PairCounts;
use super::words::WordCounts;
use super::{NUM_BYTES, TrainConfig};
use crate::error::{Error, Result};
use crate::vocabulary::TokenId;

mod changes;

use changes::Changes;

const STAGE: &str = "learn merges";

/// A step with fewer words than this isn't worth starting threads for.
const MIN_WORDS_PER_THREAD: usize = 1 << 13;

type Pair = (TokenId, TokenId);

/// Learns until the vocabulary is full or nothing is left to join; new tokens are appended to `tokens`.
pub(super) fn learn(
    counts: WordCounts,
    byte_ids: &[TokenId; NUM_BYTES],
    tokens: &mut Vec<String>,
    config: &TrainConfig,
    progress: &dyn Progress,
) -> Result<Vec<Pair>> {
    let num_base = tokens.len();
    let total = (config.vocab_size - num_base) as u64;
    progress.event(Event::Start { stage: STAGE, total: Some(total), unit: Unit::Items });
    let mut learner = Learner::new(counts, byte_ids, tokens, config);
    let mut merges: Vec<Pair> = Vec::new();
    let mut by_spelling: HashMap<String, TokenId> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), id as TokenId)).collect();
    while tokens.len() < config.vocab_size {
        if progress.cancelled() {
            return Err(Error::Cancelled);
        }
        let Some((pair, words)) = learner.next_pair(config.min_frequency.max(1)) else { break };
        let joined = format!("{}{}", tokens[pair.0 as usize], tokens[pair.1 as usize]);
        // Another pair may have spelled the same before.
        let id = *by_spelling.entry(joined).or_insert_with_key(|joined| {
            tokens.push(joined.clone());
            tokens.len() as TokenId - 1
        });
        merges.push(pair);
        learner.join(pair, id, &words);
        progress.event(Event::Advance { stage: STAGE, done: (tokens.len() - num_base) as u64 });
    }
    let summary = format!("{} merges, {} tokens", merges.len(), tokens.len());
    progress.event(Event::Finish { stage: STAGE, summary: &summary });
    Ok(last_of_each(merges))
}

/// A pair that was joined twice keeps its later rank, as it does where files are read.
fn last_of_each(merges: Vec<Pair>) -> Vec<Pair> {
    let mut seen = std::collections::HashSet::with_capacity(merges.len());
    let mut kept: Vec<Pair> = merges.into_iter().rev().filter(|pair| seen.insert(*pair)).collect();
    kept.reverse();
    kept
}

/// All words as ids, and a stretch of them that one thread works on.
#[derive(Debug)]
struct Words<'a> {
    /// The ids of each word at its place; behind the word's present length stands what is left of longer days.
    symbols: &'a mut [TokenId],
    lens: &'a mut [u32],
    starts: &'a [usize],
    counts: &'a [i64],
    /// The number of the first word here.
    first: usize,
}

#[derive(Debug)]
struct Learner {
    symbols: Vec<TokenId>,
    lens: Vec<u32>,
    starts: Vec<usize>,
    counts: Vec<i64>,
    pair_counts: PairCounts,
    /// Count, pair and number of the entry, the last only to tell apart entries of one pair.
    heap: BinaryHeap<(i64, Reverse<Pair>, Reverse<u32>)>,
    /// The words of each entry, in ascending order.
    entries: Vec<Vec<u32>>,
    free_entries: Vec<u32>,
    /// In bytes.
    token_lens: Vec<usize>,
    max_token_length: usize,
    changes: Vec<Changes>,
}

impl Learner {
    fn new(
        words: WordCounts,
        byte_ids: &[TokenId; NUM_BYTES],
        tokens: &[String],
        config: &TrainConfig,
    ) -> Self {
        let mut symbols = Vec::with_capacity(words.num_bytes());
        let mut starts = Vec::with_capacity(words.len());
        let mut lens = Vec::with_capacity(words.len());
        for index in 0..words.len() {
            let word = words.word(index);
            starts.push(symbols.len());
            lens.push(word.len() as u32);
            symbols.extend(word.iter().map(|byte| byte_ids[usize::from(*byte)]));
        }
        let counts = (0..words.len()).map(|index| words.count(index) as i64).collect();
        drop(words);
        let mut token_lens = vec![0; tokens.len()];
        for id in byte_ids {
            token_lens[*id as usize] = 1;
        }
        let changes = (0..config.threads.max(1)).map(|_| Changes::new(config.vocab_size)).collect();
        let mut learner = Self {
            symbols,
            lens,
            starts,
            counts,
            pair_counts: PairCounts::new(),
            heap: BinaryHeap::new(),
            entries: Vec::new(),
            free_entries: Vec::new(),
            token_lens,
            max_token_length: config.max_token_length.unwrap_or(usize::MAX),
            changes,
        };
        learner.count_bytes(byte_ids);
        learner
    }

    /// The first pairs are of bytes, so a table of all of them says how much memory their words take.
    fn count_bytes(&mut self, byte_ids: &[TokenId; NUM_BYTES]) {
        let num_ids = byte_ids.iter().max().map_or(0, |id| *id as usize + 1);
        let mut counts = vec![0_i64; num_ids * num_ids];
        let mut num_words = vec![0_usize; num_ids * num_ids];
        let mut last_word = vec![u32::MAX; num_ids * num_ids];
        self.each_pair(num_ids, |pair, word, count| {
            counts[pair] += count;
            if last_word[pair] != word {
                last_word[pair] = word;
                num_words[pair] += 1;
            }
        });
        let mut words: Vec<Vec<u32>> = num_words.into_iter().map(Vec::with_capacity).collect();
        self.each_pair(num_ids, |pair, word, _| {
            if words[pair].last() != Some(&word) {
                words[pair].push(word);
            }
        });
        for (index, (count, words)) in counts.into_iter().zip(words).enumerate() {
            if count > 0 {
                let pair = ((index / num_ids) as TokenId, (index % num_ids) as TokenId);
                self.pair_counts.add(pair, count);
                self.push(pair, count, words);
            }
        }
    }

    fn each_pair(&self, num_ids: usize, mut each: impl FnMut(usize, u32, i64)) {
        for (word, ((start, len), count)) in (0..).zip(self.starts.iter().zip(&self.lens).zip(&self.counts)) {
            for pair in self.symbols[*start..start + *len as usize].windows(2) {
                each(pair[0] as usize * num_ids + pair[1] as usize, word, *count);
            }
        }
    }

    fn push(&mut self, pair: Pair, count: i64, words: Vec<u32>) {
        let entry = self.free_entries.pop().unwrap_or_else(|| {
            self.entries.push(Vec::new());
            self.entries.len() as u32 - 1
        });
        self.entries[entry as usize] = words;
        self.heap.push((count, Reverse(pair), Reverse(entry)));
    }

    /// Takes the most frequent pair off the heap, with its words.
    fn next_pair(&mut self, min_frequency: u64) -> Option<(Pair, Vec<u32>)> {
        loop {
            let (count, Reverse(pair), Reverse(entry)) = self.heap.pop()?;
            let present = self.pair_counts.get(pair);
            if present != count {
                self.heap.push((present, Reverse(pair), Reverse(entry)));
                continue;
            }
            if count < min_frequency as i64 {
                return None;
            }
            self.free_entries.push(entry);
            return Some((pair, std::mem::take(&mut self.entries[entry as usize])));
        }
    }

    /// Joins the pair to `id` in `words`, and puts the pairs that come of it on the heap.
    fn join(&mut self, pair: Pair, id: TokenId, words: &[u32]) {
        if self.token_lens.len() <= id as usize {
            self.token_lens.resize(id as usize + 1, 0);
        }
        self.token_lens[id as usize] = self.token_lens[pair.0 as usize] + self.token_lens[pair.1 as usize];
        let step = Step { pair, id, token_lens: &self.token_lens, max_token_length: self.max_token_length };
        let all = Words {
            symbols: &mut self.symbols,
            lens: &mut self.lens,
            starts: &self.starts,
            counts: &self.counts,
            first: 0,
        };
        let num_threads = (words.len() / MIN_WORDS_PER_THREAD).clamp(1, self.changes.len());
        share(&step, all, words, &mut self.changes[..num_threads]);
        let [first, others @ ..] = self.changes.as_mut_slice() else { return };
        for other in &mut others[..num_threads - 1] {
            first.absorb(other);
        }
        let new_pairs = first.apply(pair, id, &mut self.pair_counts);
        for (pair, words) in new_pairs {
            let count = self.pair_counts.get(pair);
            if count > 0 {
                self.push(pair, count, words);
            }
        }
    }
}

/// One merge.
#[derive(Debug)]
struct Step<'a> {
    pair: Pair,
    id: TokenId,
    token_lens: &'a [usize],
    max_token_length: usize,
}

/// Gives each of `changes` an equal part of `words`.
fn share(step: &Step<'_>, all: Words<'_>, words: &[u32], changes: &mut [Changes]) {
    let num_parts = changes.len();
    let [mine, others @ ..] = changes else { return };
    if others.is_empty() {
        return step.run(all, words, mine);
    }
    let (my_words, other_words) = words.split_at(words.len() / num_parts);
    let (my_stretch, others_stretch) = all.split_at(other_words.first().map_or(u32::MAX, |word| *word));
    std::thread::scope(|scope| {
        scope.spawn(|| share(step, others_stretch, other_words, others));
        step.run(my_stretch, my_words, mine);
    });
}

impl Words<'_> {
    /// The stretches of words before `word` and from it on.
    fn split_at(self, word: u32) -> (Self, Self) {
        let Self { symbols, lens, starts, counts, first } = self;
        let at = (word as usize - first).min(lens.len());
        let num_symbols = starts.get(at).map_or(symbols.len(), |start| start - starts[0]);
        let (symbols, other_symbols) = symbols.split_at_mut(num_symbols);
        let (lens, other_lens) = lens.split_at_mut(at);
        let (starts, other_starts) = starts.split_at(at);
        let (counts, other_counts) = counts.split_at(at);
        let others = Self {
            symbols: other_symbols,
            lens: other_lens,
            starts: other_starts,
            counts: other_counts,
            first: first + at,
        };
        (Self { symbols, lens, starts, counts, first }, others)
    }
}

impl Step<'_> {
    fn run(&self, mut all: Words<'_>, words: &[u32], changes: &mut Changes) {
        for word in words {
            self.join_in(&mut all, *word, changes);
        }
    }

    /// Joins the pair wherever it stands in a word, from the left.
    fn join_in(&self, all: &mut Words<'_>, word: u32, changes: &mut Changes) {
        let (left, right) = self.pair;
        let index = word as usize - all.first;
        let start = all.starts[index] - all.starts[0];
        let len = all.lens[index] as usize;
        let symbols = &mut all.symbols[start..start + len];
        let Some(first) = symbols.windows(2).position(|pair| pair == [left, right]) else { return };
        let count = all.counts[index];
        let new_len = self.token_lens[self.id as usize];
        let fits = |other: TokenId| self.token_lens[other as usize] + new_len < self.max_token_length;
        let (mut read, mut write) = (first, first);
        while read < len {
            if symbols[read] != left || symbols.get(read + 1) != Some(&right) {
                symbols[write] = symbols[read];
                read += 1;
            } else {
                if write > 0 {
                    let before = symbols[write - 1];
                    changes.before(before, word, count, fits(before));
                }
                if let Some(&behind) = symbols.get(read + 2) {
                    changes.behind(behind, word, count, fits(behind));
                }
                symbols[write] = self.id;
                read += 2;
            }
            write += 1;
        }
        all.lens[index] = write as u32;
    }
}
