//! A stand-in for the scheduler that computes nothing: each answer is the prompt's own tokens, from its beginning.
//!
//! It is for one purpose: what a request costs beside the model (connection, rights, template, tokenizer, events,
//! accounts) can be measured, since nothing else is left. Everything else about a request is as in a real engine:
//! it is checked, queued, counted, cancelled. Left out: stop ids, stop texts, sampling and log-probabilities.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use hearth_tokenizer::{StreamDecoder, Tokenizer};

use crate::counters::Counters;
use crate::request::{Error, Event, Finish, Request, Token, Usage};
use crate::sequence::{Job, Output};

/// Answers until every handle is gone or the engine is stopped.
pub(crate) fn run(tokenizer: &Arc<Tokenizer>, counters: &Counters, max_context: usize, jobs: &Receiver<Job>) {
    for Job { request, outputs, .. } in jobs {
        counters.dequeue(&request);
        if counters.is_stopping() {
            for output in &outputs {
                output.send(Event::Failed(Error::Stopped));
            }
            continue;
        }
        counters.prompt.add(request.prompt.len());
        for output in outputs {
            answer(tokenizer, counters, max_context, &request, &output);
        }
    }
}

fn answer(
    tokenizer: &Arc<Tokenizer>,
    counters: &Counters,
    max_context: usize,
    request: &Request,
    output: &Output,
) {
    let mut decoded = StreamDecoder::new(Arc::clone(tokenizer));
    let prompt_tokens = request.prompt.len();
    let completion_tokens = request.max_tokens.min(max_context - prompt_tokens);
    for &id in request.prompt.iter().cycle().take(completion_tokens) {
        if output.canceller.is_cancelled() {
            output.send(Event::Failed(Error::Cancelled));
            return;
        }
        counters.generated.add(1);
        output.send(Event::Token(Token { id, text: decoded.push(id), logprob: None, top: Vec::new() }));
    }
    let usage = Usage { prompt_tokens, cached_tokens: 0, completion_tokens };
    output.send(Event::Done { finish: Finish::Length, usage, text: decoded.finish() });
}
