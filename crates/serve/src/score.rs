//! Log-probabilities of a prompt's own tokens, and the token that would follow it greedily.

use std::sync::Arc;

use hearth_engine::sampling::{Sampling, top_logprobs};
use hearth_engine::{Engine, Error, Request, Result, Token};
use hearth_tokenizer::{StreamDecoder, TokenId};

pub(crate) struct Scored {
    /// The prompt's tokens; the first has no probability, since nothing stands before it.
    pub(crate) tokens: Vec<Token>,
    pub(crate) next: Token,
}

/// Whether the greedy token is what this request asks for.
pub(crate) fn is_plain(request: &Request) -> bool {
    let seed = request.sampling.seed;
    request.sampling == Sampling { seed, ..Sampling::greedy() }
        && request.constraint.is_none()
        && request.stop.is_empty()
}

pub(crate) fn prompt(
    engine: &Engine,
    adapter: Option<&str>,
    ids: &[TokenId],
    num_top: usize,
) -> Result<Scored> {
    let mut rows = Vec::with_capacity(ids.len());
    let mut is_finite = true;
    engine.score(adapter, ids, |i, logits| {
        // Top and chosen token by one measure: the best is the greedy choice.
        let best = top_logprobs(logits, num_top.max(1));
        let id = ids.get(i + 1).copied().unwrap_or(best[0].0);
        let logprob = hearth_engine::score::log_prob(logits, id);
        is_finite &= logprob.is_finite();
        rows.push((id, logprob, best));
    })?;
    if !is_finite {
        return Err(Error::NotFinite);
    }
    let mut decoder = StreamDecoder::new(Arc::clone(engine.model().tokenizer()));
    let mut tokens = vec![Token { id: ids[0], text: decoder.push(ids[0]), logprob: None, top: Vec::new() }];
    for (id, logprob, mut top) in rows {
        top.truncate(num_top);
        tokens.push(Token { id, text: decoder.push(id), logprob: Some(logprob), top });
    }
    let next = tokens.pop().ok_or(Error::EmptyPrompt)?;
    Ok(Scored { tokens, next })
}
