//! The loop: admit requests, compute one step for all of them, send what came out.
//!
//! A step holds one token of every sequence that is decoding, with what is guessed to follow it, and prompt tokens
//! of those that aren't yet: up to `prefill_chunk`, or as many as the [`Pace`] allows beside those that decode. Results don't depend on who shares a step: rows are
//! computed independently.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Weak};
use std::time::Instant;

use hearth_kernels::pool::Pool;
use hearth_model::{Decoder, Model};
use hearth_tensor::Tensor;
use hearth_tensor::eager::{Eager, Rows, Workspace};
use hearth_tokenizer::TokenId;

use crate::counters::Counters;
use crate::engine::EngineConfig;
use crate::pace::Pace;
use crate::prefix::PrefixTree;
use crate::queue::Queue;
use crate::request::{Error, Event};
use crate::sequence::{Job, Sequence};
use crate::speculate::Speculator;
use crate::store::{Chain, Store};

pub(crate) struct Scheduler {
    pub(crate) base: Arc<Decoder>,
    pub(crate) model: Arc<Model>,
    pool: Arc<Pool>,
    pub(crate) config: EngineConfig,
    pub(crate) counters: Arc<Counters>,
    speculator: Speculator,
    workspace: Workspace,
    pub(crate) pace: Pace,
    pub(crate) prefixes: PrefixTree,
    pub(crate) queue: Queue,
    /// Sequences that gave their memory to older ones, the oldest first.
    pub(crate) paused: VecDeque<Sequence>,
    pub(crate) active: Vec<Sequence>,
    pub(crate) num_admitted: u64,
    pub(crate) store: Option<Store>,
    /// Where the chains of decoders in use begin.
    pub(crate) chains: Vec<(Weak<Decoder>, Chain)>,
}

/// What one sequence computes in a step.
pub(crate) struct Share {
    /// Tokens whose keys and values are missing.
    pub(crate) count: usize,
    /// Guesses behind them.
    pub(crate) drafts: Vec<TokenId>,
    /// Whether these tokens are of a prompt, as far as the pace is concerned.
    is_prompt: bool,
}

/// A prompt under way.
struct Prompt {
    index: usize,
    missing: usize,
    order: u64,
}

/// Divides a step's prompt tokens: half of them for the prompt that came first, so that it always goes on, then
/// those that are done soonest, so that a short question doesn't wait behind a long document.
fn divide(mut prompts: Vec<Prompt>, chunk: usize) -> Vec<(usize, usize)> {
    prompts.sort_by_key(|prompt| prompt.order);
    let mut left = chunk;
    let mut counts = vec![0; prompts.len()];
    if let Some(first) = prompts.first() {
        counts[0] = first.missing.min(chunk.div_ceil(2));
        left -= counts[0];
    }
    let mut soonest: Vec<usize> = (0..prompts.len()).collect();
    soonest.sort_by_key(|&at| (prompts[at].missing - counts[at], prompts[at].order));
    for at in soonest {
        let more = left.min(prompts[at].missing - counts[at]);
        counts[at] += more;
        left -= more;
    }
    prompts.iter().map(|prompt| prompt.index).zip(counts).collect()
}

impl Scheduler {
    pub(crate) fn new(
        model: Arc<Model>,
        pool: Arc<Pool>,
        config: EngineConfig,
        (speculator, store): (Speculator, Option<Store>),
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            base: Arc::new(model.decoder.clone()),
            model,
            pool,
            config,
            counters,
            speculator,
            workspace: Workspace::default(),
            pace: Pace::new(config.max_batch),
            prefixes: PrefixTree::default(),
            queue: Queue::default(),
            paused: VecDeque::new(),
            active: Vec::new(),
            num_admitted: 0,
            store,
            chains: Vec::new(),
        }
    }

    /// Works until every handle is gone and every request is done.
    pub(crate) fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            if self.active.is_empty() && self.paused.is_empty() && self.queue.is_empty() {
                match jobs.recv() {
                    Ok(job) => self.queue.push(job),
                    Err(_) => break,
                }
            }
            if self.counters.is_stopping() {
                self.end_all();
                break;
            }
            for job in jobs.try_iter() {
                self.queue.push(job);
            }
            self.drop_ended();
            self.admit();
            self.step();
            self.retire();
        }
        self.save_all();
    }

    /// Ends what waits and what runs.
    fn end_all(&mut self) {
        self.queue.retain(|job| {
            for output in &job.outputs {
                output.send(Event::Failed(Error::Stopped));
            }
            false
        });
        for sequence in self.active.iter_mut().chain(&mut self.paused) {
            sequence.fail(&Error::Stopped);
        }
        self.retire();
    }

    /// Computes one step of every sequence, a forward pass for each adapter in use.
    fn step(&mut self) {
        let started = Instant::now();
        let mut shares = self.shares();
        self.make_room(&mut shares);
        let mut done = vec![false; self.active.len()];
        for first in 0..shares.len() {
            if done[first] || shares[first].count == 0 {
                continue;
            }
            let decoder = Arc::clone(&self.active[first].decoder);
            let group: Vec<usize> = (first..shares.len())
                .filter(|&i| shares[i].count > 0 && Arc::ptr_eq(&self.active[i].decoder, &decoder))
                .collect();
            for &i in &group {
                done[i] = true;
            }
            self.forward(&decoder, &group, &shares);
        }
        for sequence in &mut self.active {
            if sequence.over && sequence.request.max_tokens == 0 {
                sequence.end_empty();
            }
        }
        self.counters.hold(self.active.len(), self.used_bytes());
        self.keep_whole_pages();
        let prompt = shares.iter().filter(|share| share.is_prompt).map(|share| share.count).sum();
        let num_decoding = shares.iter().filter(|share| !share.is_prompt && share.count > 0).count();
        let rows: usize = shares.iter().map(|share| share.count).sum();
        if rows > 0 {
            let elapsed = started.elapsed().as_secs_f64();
            self.pace.learn(num_decoding, prompt, (1e3 * elapsed) as f32);
            self.counters.measure(rows, elapsed);
        }
    }

    fn shares(&mut self) -> Vec<Share> {
        let drafts = self.speculator.propose(&mut self.active, &self.config, &self.pool);
        let missing = |sequence: &Sequence| sequence.tokens.len() - sequence.cache.len();
        let is_live = |sequence: &&Sequence| !sequence.over;
        let num_decoding = self.active.iter().filter(is_live).filter(|s| !s.is_prefilling()).count();
        let prompts = self.active.iter().enumerate().filter(|(_, s)| !s.over && s.is_prefilling());
        let prompts: Vec<Prompt> =
            prompts.map(|(i, s)| Prompt { index: i, missing: missing(s), order: s.order }).collect();
        let chunk = self.pace.chunk(num_decoding, prompts.len(), self.config.prefill_chunk);
        let share = |(sequence, drafts): (&Sequence, Vec<TokenId>)| {
            let is_prompt = !sequence.over && sequence.is_prefilling();
            let count = if sequence.over || is_prompt { 0 } else { missing(sequence) };
            Share { count, drafts, is_prompt }
        };
        let mut shares: Vec<Share> = self.active.iter().zip(drafts).map(share).collect();
        for (index, count) in divide(prompts, chunk) {
            shares[index].count = count;
        }
        shares
    }

    fn forward(&mut self, decoder: &Decoder, group: &[usize], shares: &[Share]) {
        let (mut ids, mut wanted, mut rows, mut asking) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (i, sequence) in self.active.iter_mut().enumerate() {
            if !group.contains(&i) {
                continue;
            }
            let Share { count, drafts, .. } = &shares[i];
            let from = sequence.cache.len();
            ids.extend_from_slice(&sequence.tokens[from..from + count]);
            let is_asking = from + count == sequence.tokens.len();
            if is_asking {
                asking.push(i);
                wanted.extend(ids.len() - 1..ids.len() + drafts.len());
                ids.extend_from_slice(drafts);
            }
            let count = if is_asking { count + drafts.len() } else { *count };
            rows.push(Rows { cache: &mut sequence.cache, count });
        }
        self.counters.tokens.add(ids.len());
        let mut graph = Eager::new(&self.pool, &mut self.workspace, rows);
        if wanted.is_empty() {
            drop(decoder.hidden(&mut graph, &ids));
            return graph.finish();
        }
        let logits = decoder.logits(&mut graph, &ids, &wanted);
        graph.finish();
        let mut row = 0;
        for i in asking {
            self.choose(i, &logits, row, &shares[i].drafts);
            row += 1 + shares[i].drafts.len();
        }
    }

    /// Goes on with a sequence from the logits of its rows: one, and one for each draft.
    fn choose(&mut self, i: usize, logits: &Tensor, row: usize, drafts: &[TokenId]) {
        let max_context = self.config.max_context;
        let mut num_chosen = self.active[i].siblings.len();
        let mut forks = self.active[i].fork(self.model.tokenizer());
        for fork in &mut forks {
            self.counters.generated.add(1);
            fork.accept(logits.row(row), max_context);
        }
        self.active.append(&mut forks);
        let sequence = &mut self.active[i];
        // Position of the row's token; the keys and values up to it are those of the sequence.
        let mut valid = sequence.tokens.len();
        let mut num_right = 0;
        for at in 0..=drafts.len() {
            // Before the token is sent: who has read an answer finds it counted.
            self.counters.generated.add(1);
            num_chosen += 1;
            let id = sequence.accept(logits.row(row + at), max_context);
            if sequence.over || id.is_none() || id != drafts.get(at).copied() {
                break;
            }
            num_right += 1;
            valid += 1;
        }
        sequence.cache.truncate(valid);
        self.queue.charge(sequence.client(), 0, num_chosen);
        if !drafts.is_empty() {
            sequence.drafting.learn(drafts.len(), num_right);
            self.counters.drafted.add(drafts.len());
            self.counters.accepted.add(num_right);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Missing tokens of prompts in the order they came, and what each gets of a chunk.
    fn check(missing: &[usize], chunk: usize, expected: &[usize]) {
        let prompt = |(index, &missing)| Prompt { index, missing, order: index as u64 };
        let mut counts = divide(missing.iter().enumerate().map(prompt).collect(), chunk);
        counts.sort_unstable();
        let counts: Vec<usize> = counts.into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, expected, "{missing:?} in {chunk}");
    }

    #[test]
    fn the_first_prompt_goes_on_and_short_ones_pass_the_rest() {
        check(&[], 256, &[]);
        check(&[1000], 256, &[256]);
        check(&[10], 256, &[10]);
        check(&[1000, 50, 2000], 256, &[206, 50, 0]);
        check(&[1000, 2000, 40, 80], 256, &[136, 0, 40, 80]);
        check(&[98, 98, 98], 128, &[98, 30, 0]);
        check(&[500, 20], 1, &[1, 0]);
        check(&[500, 20], 0, &[0, 0]);
    }
}
