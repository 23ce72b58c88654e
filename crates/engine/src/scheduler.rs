//! The loop: admit requests, compute one step for all of them, send what came out.
//!
//! A step holds one token of every sequence that is decoding and up to `prefill_chunk` prompt tokens of
//! those that aren't yet. Results don't depend on who shares a step: rows are computed independently.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use hearth_kernels::pool::Pool;
use hearth_model::{Decoder, Model};
use hearth_tensor::eager::{Eager, Rows, Workspace};
use hearth_tensor::kv::KvCache;
use hearth_tokenizer::{StreamDecoder, TokenId};

use crate::engine::{Canceller, EngineConfig};
use crate::prefix::{PrefixCache, common_len};
use crate::request::{Error, Event, Finish, Request, Token, Usage};
use crate::sampling::top_logprobs;
use crate::stop::StopText;

/// A checked request with where its events go.
pub(crate) struct Job {
    pub(crate) request: Request,
    /// The decoder with the request's adapter; `None` is the base.
    pub(crate) decoder: Option<Arc<Decoder>>,
    pub(crate) events: Sender<Event>,
    pub(crate) canceller: Canceller,
}

/// Waiting for a prefix that another sequence is computing pays off from this many tokens on.
const WORTH_WAITING: usize = 64;

pub(crate) struct Scheduler {
    base: Arc<Decoder>,
    model: Arc<Model>,
    pool: Arc<Pool>,
    config: EngineConfig,
    workspace: Workspace,
    prefixes: PrefixCache,
    waiting: VecDeque<Job>,
    active: Vec<Sequence>,
}

struct Sequence {
    request: Request,
    decoder: Arc<Decoder>,
    events: Sender<Event>,
    canceller: Canceller,
    /// Prompt and generated tokens; the cache holds keys and values of the first `cache.len()`.
    tokens: Vec<TokenId>,
    cache: KvCache,
    usage: Usage,
    decoded: StreamDecoder,
    stop: StopText,
    over: bool,
}

impl Sequence {
    fn is_prefilling(&self) -> bool {
        self.cache.len() + 1 < self.tokens.len()
    }
}

impl Scheduler {
    pub(crate) fn new(model: Arc<Model>, pool: Arc<Pool>, config: EngineConfig) -> Self {
        Self {
            base: Arc::new(model.decoder.clone()),
            model,
            pool,
            config,
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
        self.waiting.retain(|job| {
            let cancelled = job.canceller.is_cancelled();
            if cancelled {
                // The stream may be gone, then nobody needs the farewell.
                let _ = job.events.send(Event::Failed(Error::Cancelled));
            }
            !cancelled
        });
        for sequence in self.active.iter_mut().filter(|sequence| sequence.canceller.is_cancelled()) {
            // As above.
            let _ = sequence.events.send(Event::Failed(Error::Cancelled));
            sequence.over = true;
        }
        self.retire();
    }

    /// Moves waiting requests into the batch, in order; one whose prefix is being computed right now
    /// lets others pass.
    fn admit(&mut self) {
        let mut held = VecDeque::new();
        while self.active.len() < self.config.max_batch {
            let Some(job) = self.waiting.pop_front() else { break };
            match self.start(job) {
                Ok(sequence) => self.active.push(sequence),
                Err(job) => held.push_back(*job),
            }
        }
        held.append(&mut self.waiting);
        self.waiting = held;
    }

    /// Gives the job back if it had better wait.
    fn start(&mut self, job: Job) -> Result<Sequence, Box<Job>> {
        let decoder = job.decoder.clone().unwrap_or_else(|| Arc::clone(&self.base));
        let tokens = job.request.prompt.clone();
        // The last prompt token is always computed: its logits choose the first token of the answer.
        let limit = tokens.len() - 1;
        let cached = self.prefixes.take(&tokens, limit, &decoder);
        let mut best = cached.unwrap_or_else(|| KvCache::new(decoder.page_layout()));
        let neighbours = self.active.iter().filter(|other| Arc::ptr_eq(&other.decoder, &decoder));
        for other in neighbours {
            let common = common_len(&other.tokens, &tokens).min(limit);
            let ready = common.min(other.cache.len());
            if ready > best.len() {
                best = other.cache.prefix(ready);
            }
            if common > ready && common - best.len() >= WORTH_WAITING {
                return Err(Box::new(job));
            }
        }
        let Job { request, events, canceller, .. } = job;
        let usage = Usage { prompt_tokens: tokens.len(), cached_tokens: best.len(), completion_tokens: 0 };
        Ok(Sequence {
            decoded: StreamDecoder::new(Arc::clone(self.model.tokenizer())),
            stop: StopText::new(request.stop.clone()),
            over: request.max_tokens == 0,
            request,
            decoder,
            events,
            canceller,
            tokens,
            cache: best,
            usage,
        })
    }

    /// Computes one step of every sequence, a forward pass for each adapter in use.
    fn step(&mut self) {
        let prefilling =
            self.active.iter().filter(|sequence| !sequence.over && sequence.is_prefilling()).count();
        // Equal shares: a short question doesn't wait behind a long prompt.
        let share = self.config.prefill_chunk.div_ceil(prefilling.max(1));
        let counts: Vec<usize> = self
            .active
            .iter()
            .map(|sequence| {
                let missing = sequence.tokens.len() - sequence.cache.len();
                if sequence.over {
                    0
                } else if sequence.is_prefilling() {
                    missing.min(share)
                } else {
                    missing
                }
            })
            .collect();
        let mut done = vec![false; self.active.len()];
        for first in 0..self.active.len() {
            if done[first] || counts[first] == 0 {
                continue;
            }
            let decoder = Arc::clone(&self.active[first].decoder);
            let group: Vec<usize> = (first..self.active.len())
                .filter(|&i| counts[i] > 0 && Arc::ptr_eq(&self.active[i].decoder, &decoder))
                .collect();
            for &i in &group {
                done[i] = true;
            }
            self.forward(&decoder, &group, &counts);
        }
        for sequence in
            self.active.iter_mut().filter(|sequence| sequence.over && sequence.request.max_tokens == 0)
        {
            sequence.end(Finish::Length, String::new());
        }
    }

    fn forward(&mut self, decoder: &Decoder, group: &[usize], counts: &[usize]) {
        let (mut ids, mut wanted, mut rows, mut asking) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (i, sequence) in self.active.iter_mut().enumerate() {
            if !group.contains(&i) {
                continue;
            }
            let from = sequence.cache.len();
            ids.extend_from_slice(&sequence.tokens[from..from + counts[i]]);
            if from + counts[i] == sequence.tokens.len() {
                wanted.push(ids.len() - 1);
                asking.push(i);
            }
            rows.push(Rows { cache: &mut sequence.cache, count: counts[i] });
        }
        let mut graph = Eager::new(&self.pool, &mut self.workspace, rows);
        if wanted.is_empty() {
            drop(decoder.hidden(&mut graph, &ids));
            return graph.finish();
        }
        let logits = decoder.logits(&mut graph, &ids, &wanted);
        graph.finish();
        for (row, &i) in asking.iter().enumerate() {
            self.active[i].accept(logits.row(row), self.config.max_context);
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

impl Sequence {
    /// Chooses the next token from its logits and sends it.
    fn accept(&mut self, logits: &[f32], max_context: usize) {
        let id = self.request.sampling.choose(logits, self.usage.completion_tokens);
        if !logits[id as usize].is_finite() {
            // Nobody may be listening any more; the sequence ends either way.
            let _ = self.events.send(Event::Failed(Error::NotFinite));
            self.over = true;
            return;
        }
        self.usage.completion_tokens += 1;
        if self.request.stop_ids.contains(&id) {
            let rest = self.rest();
            return self.end(Finish::Stop, rest);
        }
        let piece = self.decoded.push(id);
        let (text, stopped) = self.stop.push(&piece);
        let (logprob, top) = match self.request.logprobs {
            None => (None, Vec::new()),
            Some(n) => (Some(hearth_kernels::loss::log_prob_of(logits, id)), top_logprobs(logits, n)),
        };
        self.tokens.push(id);
        if self.events.send(Event::Token(Token { id, text, logprob, top })).is_err() {
            self.over = true;
        } else if stopped {
            self.end(Finish::Stop, String::new());
        } else if self.usage.completion_tokens >= self.request.max_tokens || self.tokens.len() >= max_context
        {
            let rest = self.rest();
            self.end(Finish::Length, rest);
        }
    }

    /// What the stream decoder and the stop texts hold back.
    fn rest(&mut self) -> String {
        let tail = self.decoded.finish();
        let (mut text, stopped) = self.stop.push(&tail);
        if !stopped {
            text.push_str(&self.stop.finish());
        }
        text
    }

    fn end(&mut self, finish: Finish, text: String) {
        self.over = true;
        // A client that hung up needs no farewell.
        let _ = self.events.send(Event::Done { finish, usage: self.usage, text });
    }
}
