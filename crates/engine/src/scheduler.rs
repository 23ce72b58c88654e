//! The loop: admit requests, compute one step for all of them, send what came out.
//!
//! A step holds one token of every sequence that is decoding, with what is guessed to follow it, and up to
//! `prefill_chunk` prompt tokens of those that aren't yet. Results don't depend on who shares a step: rows are
//! computed independently.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use hearth_kernels::pool::Pool;
use hearth_model::{Decoder, Model};
use hearth_tensor::Tensor;
use hearth_tensor::eager::{Eager, Rows, Workspace};
use hearth_tensor::kv::KvCache;
use hearth_tokenizer::TokenId;

use crate::engine::{Counters, EngineConfig};
use crate::prefix::{PrefixCache, common_len};
use crate::request::{Error, Event};
use crate::sequence::{Job, Sequence};
use crate::speculate::Speculator;

/// Waiting for a prefix that another sequence is computing pays off from this many tokens on.
const WORTH_WAITING: usize = 64;

pub(crate) struct Scheduler {
    base: Arc<Decoder>,
    model: Arc<Model>,
    pool: Arc<Pool>,
    config: EngineConfig,
    counters: Arc<Counters>,
    speculator: Speculator,
    workspace: Workspace,
    prefixes: PrefixCache,
    waiting: VecDeque<Job>,
    active: Vec<Sequence>,
}

/// What one sequence computes in a step.
struct Share {
    /// Tokens whose keys and values are missing.
    count: usize,
    /// Guesses behind them.
    drafts: Vec<TokenId>,
}

impl Scheduler {
    pub(crate) fn new(
        model: Arc<Model>,
        pool: Arc<Pool>,
        config: EngineConfig,
        speculator: Speculator,
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
            prefixes: PrefixCache::new(config.prefix_cache_bytes),
            waiting: VecDeque::new(),
            active: Vec::new(),
        }
    }

    /// Works until every handle is gone and every request is done.
    pub(crate) fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            if self.active.is_empty() && self.waiting.is_empty() {
                match jobs.recv() {
                    Ok(job) => self.waiting.push_back(job),
                    Err(_) => return,
                }
            }
            self.waiting.extend(jobs.try_iter());
            self.drop_cancelled();
            self.admit();
            self.step();
            self.retire();
        }
    }

    /// Frees the places of requests nobody waits for any more, before anything is computed for them.
    fn drop_cancelled(&mut self) {
        self.waiting.retain_mut(|job| {
            job.outputs.retain(|output| {
                let is_cancelled = output.canceller.is_cancelled();
                if is_cancelled {
                    output.send(Event::Failed(Error::Cancelled));
                }
                !is_cancelled
            });
            !job.outputs.is_empty()
        });
        for sequence in &mut self.active {
            sequence.drop_cancelled();
        }
        self.retire();
    }

    /// Moves waiting requests into the batch, in order; one whose prefix is being computed right now
    /// lets others pass.
    fn admit(&mut self) {
        let mut held = VecDeque::new();
        while let Some(job) = self.waiting.front() {
            let taken: usize = self.active.iter().map(Sequence::num_places).sum();
            if taken + job.outputs.len() > self.config.max_batch {
                break;
            }
            let Some(job) = self.waiting.pop_front() else { break };
            match self.start(job) {
                Ok(sequence) => self.active.push(*sequence),
                Err(job) => held.push_back(*job),
            }
        }
        held.append(&mut self.waiting);
        self.waiting = held;
    }

    /// Gives the job back if it had better wait.
    fn start(&mut self, job: Job) -> Result<Box<Sequence>, Box<Job>> {
        let decoder = job.decoder.clone().unwrap_or_else(|| Arc::clone(&self.base));
        let tokens = &job.request.prompt;
        // The last prompt token is always computed: its logits choose the first token of the answer.
        let limit = tokens.len() - 1;
        let cached = self.prefixes.take(tokens, limit, &decoder);
        let mut best = cached.unwrap_or_else(|| KvCache::new(decoder.page_layout()));
        let neighbours = self.active.iter().filter(|other| Arc::ptr_eq(&other.decoder, &decoder));
        for other in neighbours {
            let common = common_len(&other.tokens, tokens).min(limit);
            let ready = common.min(other.cache.len());
            if ready > best.len() {
                best = other.cache.prefix(ready);
            }
            if common > ready && common - best.len() >= WORTH_WAITING {
                return Err(Box::new(job));
            }
        }
        let mut sequence = Sequence::start(job, decoder, best, self.model.tokenizer());
        // Nothing is computed for a request that asks for nothing.
        sequence.over = sequence.request.max_tokens == 0;
        Ok(Box::new(sequence))
    }

    /// Computes one step of every sequence, a forward pass for each adapter in use.
    fn step(&mut self) {
        let shares = self.shares();
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
    }

    fn shares(&mut self) -> Vec<Share> {
        let prefilling =
            self.active.iter().filter(|sequence| !sequence.over && sequence.is_prefilling()).count();
        // Equal shares: a short question doesn't wait behind a long prompt.
        let chunk = self.config.prefill_chunk.div_ceil(prefilling.max(1));
        let drafts = self.speculator.propose(&mut self.active, &self.config, &self.pool);
        let share = |(sequence, drafts): (&Sequence, Vec<TokenId>)| {
            let missing = sequence.tokens.len() - sequence.cache.len();
            let count = if sequence.over {
                0
            } else if sequence.is_prefilling() {
                missing.min(chunk)
            } else {
                missing
            };
            Share { count, drafts }
        };
        self.active.iter().zip(drafts).map(share).collect()
    }

    fn forward(&mut self, decoder: &Decoder, group: &[usize], shares: &[Share]) {
        let (mut ids, mut wanted, mut rows, mut asking) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (i, sequence) in self.active.iter_mut().enumerate() {
            if !group.contains(&i) {
                continue;
            }
            let Share { count, drafts } = &shares[i];
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
        self.counters.count(ids.len());
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
        let mut forks = self.active[i].fork(self.model.tokenizer());
        for fork in &mut forks {
            fork.accept(logits.row(row), max_context);
        }
        self.active.append(&mut forks);
        let sequence = &mut self.active[i];
        // Position of the row's token; the keys and values up to it are those of the sequence.
        let mut valid = sequence.tokens.len();
        let mut num_right = 0;
        for at in 0..=drafts.len() {
            let id = sequence.accept(logits.row(row + at), max_context);
            if sequence.over || id.is_none() || id != drafts.get(at).copied() {
                break;
            }
            num_right += 1;
            valid += 1;
        }
        sequence.cache.truncate(valid);
        if !drafts.is_empty() {
            sequence.drafting.learn(drafts.len(), num_right);
            self.counters.count_drafts(drafts.len(), num_right);
        }
    }

    /// Takes finished and cancelled sequences out of the batch and keeps their keys and values.
    fn retire(&mut self) {
        let (over, active) = self.active.drain(..).partition(|sequence: &Sequence| sequence.over);
        self.active = active;
        for sequence in Vec::from_iter::<Vec<Sequence>>(over) {
            let mut tokens = sequence.tokens;
            tokens.truncate(sequence.cache.len());
            if !tokens.is_empty() {
                self.prefixes.put(tokens, sequence.cache, sequence.decoder);
            }
        }
    }
}
