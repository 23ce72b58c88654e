//! Counts one request: into the accounts and into the metrics, once, however it ends.
//!
//! A request that ends well counts what the engine says it cost. One that is given up counts its prompt once a token
//! of the answer has come, and the tokens that came. (Beginnings of prompts that were computed for nobody are in
//! the engine's own counters only.)

use std::sync::Arc;
use std::time::Instant;

use hearth_engine::Usage;

use crate::caller::Caller;
use crate::error::Result;
use crate::ledger::Entry;
use crate::state::State;

#[derive(Debug)]
pub(crate) struct Meter {
    state: Arc<State>,
    caller: Caller,
    model: String,
    prompt_tokens: usize,
    cached_tokens: usize,
    num_tokens: usize,
    started: Instant,
    last_token: Option<Instant>,
    is_over: bool,
}

impl Meter {
    pub(crate) fn start(state: &Arc<State>, caller: &Caller, model: &str, prompt_tokens: usize) -> Self {
        state.metrics().started();
        Self {
            state: Arc::clone(state),
            caller: caller.clone(),
            model: model.into(),
            prompt_tokens,
            cached_tokens: 0,
            num_tokens: 0,
            started: Instant::now(),
            last_token: None,
            is_over: false,
        }
    }

    /// A token of an answer came.
    pub(crate) fn token(&mut self) {
        let now = Instant::now();
        let metrics = self.state.metrics();
        match self.last_token.replace(now) {
            None => metrics.first_token.observe((now - self.started).as_secs_f64()),
            Some(before) => metrics.inter_token.observe((now - before).as_secs_f64()),
        }
        self.num_tokens += 1;
    }

    /// So much more of its prompts was known.
    pub(crate) fn cached(&mut self, tokens: usize) {
        self.cached_tokens += tokens;
    }

    /// The request ended well. Written before the client sees the end.
    pub(crate) fn finish(&mut self, usage: Usage) -> Result<()> {
        self.is_over = true;
        self.record(usage)
    }

    fn record(&self, usage: Usage) -> Result<()> {
        self.state.metrics().finished(self.started.elapsed().as_secs_f64(), &usage);
        let Some(ledger) = self.state.ledger() else {
            return Ok(());
        };
        ledger.record(&Entry {
            key: self.caller.key_id(),
            app: &self.caller.app,
            model: &self.model,
            prompt_tokens: usage.prompt_tokens as u64,
            cached_tokens: usage.cached_tokens as u64,
            completion_tokens: usage.completion_tokens as u64,
        })
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.state.metrics().aborted();
        if self.num_tokens > 0 {
            let usage = Usage {
                prompt_tokens: self.prompt_tokens,
                cached_tokens: self.cached_tokens,
                completion_tokens: self.num_tokens,
            };
            // Nobody is left to tell; the next request meets the same ledger.
            let _ = self.record(usage);
        }
    }
}
