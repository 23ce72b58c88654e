//! What an engine has computed and what it holds right now: for metrics, and for a queue with an end.
//!
//! The scheduler's thread writes, any thread reads; who submits takes a place in the queue here. The speed behind
//! "try again in" is measured: what ran through the engine lately, in tokens a second.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::engine::EngineConfig;
use crate::request::{Error, Request, Result};

/// What an engine has computed since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Computed {
    /// Tokens that went through the model: of prompts, of answers, and guesses.
    pub tokens: u64,
    /// Guesses of speculation, and those that were right.
    pub drafted_tokens: u64,
    pub accepted_tokens: u64,
    /// Prompt tokens of admitted requests whose keys and values were there already.
    pub cached_tokens: u64,
    /// Prompt tokens of admitted requests that weren't.
    pub prompt_tokens: u64,
    /// Tokens chosen for answers.
    pub generated_tokens: u64,
    /// Sequences that gave their memory to older ones, and the tokens computed again for them.
    pub pauses: u64,
    pub recomputed_tokens: u64,
    /// Pages of keys and values read from disk, and files there that were damaged or foreign.
    pub loaded_pages: u64,
    pub refused_pages: u64,
}

/// What an engine holds right now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    pub waiting_requests: usize,
    pub waiting_tokens: usize,
    /// Sequences that are computed together.
    pub running: usize,
    /// Bytes of all keys and values, and of those only kept for later.
    pub kv_bytes: usize,
    pub idle_kv_bytes: usize,
    /// The most bytes of keys and values at any time.
    pub peak_kv_bytes: usize,
}

// Nothing else is published through these counters, so the weakest ordering will do.
const ORDER: Ordering = Ordering::Relaxed;

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) tokens: Count,
    pub(crate) drafted: Count,
    pub(crate) accepted: Count,
    pub(crate) cached: Count,
    pub(crate) prompt: Count,
    pub(crate) generated: Count,
    pub(crate) pauses: Count,
    pub(crate) recomputed: Count,
    pub(crate) loaded_pages: Count,
    pub(crate) refused_pages: Count,
    waiting_requests: AtomicUsize,
    waiting_tokens: AtomicUsize,
    /// Tokens that the waiting requests may cost, prompt and answer.
    waiting_cost: AtomicUsize,
    running: AtomicUsize,
    kv_bytes: AtomicUsize,
    idle_kv_bytes: AtomicUsize,
    peak_kv_bytes: AtomicUsize,
    /// Thousandths of a token a second.
    speed: AtomicU64,
    is_stopping: AtomicBool,
}

#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, amount: usize) {
        self.0.fetch_add(amount as u64, ORDER);
    }

    fn value(&self) -> u64 {
        self.0.load(ORDER)
    }
}

/// Tokens that a request may cost: answers are rarely as long as they may be, but nobody knows how long.
fn cost(request: &Request) -> usize {
    request.prompt.len().saturating_add(request.max_tokens.min(1024))
}

impl Counters {
    pub(crate) fn computed(&self) -> Computed {
        Computed {
            tokens: self.tokens.value(),
            drafted_tokens: self.drafted.value(),
            accepted_tokens: self.accepted.value(),
            cached_tokens: self.cached.value(),
            prompt_tokens: self.prompt.value(),
            generated_tokens: self.generated.value(),
            pauses: self.pauses.value(),
            recomputed_tokens: self.recomputed.value(),
            loaded_pages: self.loaded_pages.value(),
            refused_pages: self.refused_pages.value(),
        }
    }

    pub(crate) fn load(&self) -> Load {
        Load {
            waiting_requests: self.waiting_requests.load(ORDER),
            waiting_tokens: self.waiting_tokens.load(ORDER),
            running: self.running.load(ORDER),
            kv_bytes: self.kv_bytes.load(ORDER),
            idle_kv_bytes: self.idle_kv_bytes.load(ORDER),
            peak_kv_bytes: self.peak_kv_bytes.load(ORDER),
        }
    }

    /// Takes a place in the queue, or says when there may be one.
    pub(crate) fn enqueue(&self, request: &Request, config: &EngineConfig) -> Result<()> {
        let (requests, tokens) = (self.waiting_requests.load(ORDER), self.waiting_tokens.load(ORDER));
        let has_places = requests < config.max_queue_requests.max(1);
        // A prompt longer than the whole queue is taken when nothing else waits.
        let has_room =
            requests == 0 || tokens.saturating_add(request.prompt.len()) <= config.max_queue_tokens;
        if !(has_places && has_room) {
            let mean_cost = self.waiting_cost.load(ORDER) / requests.max(1);
            let excess = tokens.saturating_add(request.prompt.len()).saturating_sub(config.max_queue_tokens);
            let in_the_way = if has_room { mean_cost } else { excess.max(mean_cost) };
            return Err(Error::QueueFull {
                waiting_requests: requests,
                waiting_tokens: tokens,
                retry_after_s: self.seconds_for(in_the_way),
            });
        }
        self.waiting_requests.fetch_add(1, ORDER);
        self.waiting_tokens.fetch_add(request.prompt.len(), ORDER);
        self.waiting_cost.fetch_add(cost(request), ORDER);
        Ok(())
    }

    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, ORDER);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(ORDER)
    }

    pub(crate) fn dequeue(&self, request: &Request) {
        self.waiting_requests.fetch_sub(1, ORDER);
        self.waiting_tokens.fetch_sub(request.prompt.len(), ORDER);
        self.waiting_cost.fetch_sub(cost(request), ORDER);
    }

    /// Whole seconds in which so many tokens were computed lately: 1 to 600, and 1 when nothing was measured.
    fn seconds_for(&self, tokens: usize) -> u64 {
        let speed = self.speed.load(ORDER) as f64 / 1e3;
        let seconds = if speed > 0.0 { (tokens as f64 / speed).ceil() } else { 1.0 };
        seconds.clamp(1.0, 600.0) as u64
    }

    /// A step of so many tokens took so long.
    pub(crate) fn measure(&self, tokens: usize, seconds: f64) {
        let now = tokens as f64 / seconds.max(1e-6) * 1e3;
        let before = self.speed.load(ORDER) as f64;
        let mean = if before == 0.0 { now } else { 0.95 * before + 0.05 * now };
        self.speed.store(mean as u64, ORDER);
    }

    pub(crate) fn hold(&self, running: usize, kv_bytes: usize) {
        self.running.store(running, ORDER);
        self.kv_bytes.store(kv_bytes, ORDER);
        self.peak_kv_bytes.fetch_max(kv_bytes, ORDER);
    }

    pub(crate) fn hold_idle(&self, bytes: usize) {
        self.idle_kv_bytes.store(bytes, ORDER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_says_when_to_come_back() {
        let config = EngineConfig { max_queue_requests: 3, max_queue_tokens: 100, ..EngineConfig::new(1000) };
        let request = |prompt: usize| Request::greedy(vec![1; prompt], 40, Vec::new());
        let counters = Counters::default();
        assert_eq!(
            counters.enqueue(&request(500), &config),
            Ok(()),
            "longer than the queue, but it is empty"
        );
        let full = |waiting_requests, waiting_tokens, retry_after_s| {
            Err(Error::QueueFull { waiting_requests, waiting_tokens, retry_after_s })
        };
        assert_eq!(counters.enqueue(&request(1), &config), full(1, 500, 1), "nothing is measured yet");
        counters.measure(50, 1.0);
        // 540 tokens of prompt and answer at 50 a second.
        assert_eq!(counters.enqueue(&request(1), &config), full(1, 500, 11));
        counters.dequeue(&request(500));
        for _ in 0..3 {
            assert_eq!(counters.enqueue(&request(10), &config), Ok(()));
        }
        assert_eq!(counters.enqueue(&request(10), &config), full(3, 30, 1), "one of 50 tokens goes first");
        assert_eq!(counters.load().waiting_tokens, 30);
    }
}
