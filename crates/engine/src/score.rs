//! Log-probabilities of given tokens: evaluation and teacher forcing.

use hearth_kernels::loss::log_prob_of;
use hearth_kernels::pool::Pool;
use hearth_model::Decoder;
use hearth_tensor::eager::{Eager, Rows, Workspace};
use hearth_tensor::kv::KvCache;
use hearth_tokenizer::{TokenId, Tokenizer};

use crate::request::{Error, Result};

/// Rows whose logits are held at once: 128 rows of 150 000 logits are 77 MB.
const ROWS: usize = 128;

/// Calls `visit(i, logits)` for each i in `from..ids.len()`, logits predicting the token after `ids[i]`.
pub fn each_row(
    decoder: &Decoder,
    pool: &Pool,
    ids: &[TokenId],
    from: usize,
    mut visit: impl FnMut(usize, &[f32]),
) -> Result<()> {
    let vocab_size = decoder.config.vocab_size;
    if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocab_size) {
        return Err(Error::TokenId { id, vocab_size });
    }
    if ids.is_empty() {
        return Err(Error::EmptyPrompt);
    }
    let mut cache = KvCache::new(decoder.page_layout());
    let mut workspace = Workspace::default();
    for start in (0..ids.len()).step_by(ROWS) {
        let end = (start + ROWS).min(ids.len());
        let wanted: Vec<usize> = (start.max(from)..end).map(|i| i - start).collect();
        let rows = vec![Rows { cache: &mut cache, count: end - start }];
        let mut graph = Eager::new(pool, &mut workspace, rows);
        let logits = decoder.logits(&mut graph, &ids[start..end], &wanted);
        graph.finish();
        for (row, &i) in wanted.iter().enumerate() {
            visit(start + i, logits.row(row));
        }
    }
    Ok(())
}

/// `ln p(id)` by these logits.
pub fn log_prob(logits: &[f32], id: TokenId) -> f32 {
    log_prob_of(logits, id)
}

/// `ln p(ids[i + 1] | ids[..=i])` for each i in `from..ids.len() - 1`.
pub fn log_probs(decoder: &Decoder, pool: &Pool, ids: &[TokenId], from: usize) -> Result<Vec<f32>> {
    let mut out = Vec::new();
    let context = &ids[..ids.len().saturating_sub(1)];
    each_row(decoder, pool, context, from, |i, logits| out.push(log_prob_of(logits, ids[i + 1])))?;
    if out.iter().any(|value| value.is_nan()) {
        return Err(Error::NotFinite);
    }
    Ok(out)
}

/// Perplexity and the number of tokens it is over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Perplexity {
    pub perplexity: f64,
    pub tokens: usize,
}

/// Perplexity as llama-perplexity counts it: windows of `window` tokens without overlap, the second half of
/// each scored, a beginning-of-sequence token in place of the first where the model adds one.
pub fn perplexity(
    decoder: &Decoder,
    tokenizer: &Tokenizer,
    pool: &Pool,
    text: &str,
    window: usize,
    mut progress: impl FnMut(usize, usize),
) -> Result<Option<Perplexity>> {
    let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    let mut ids: Vec<TokenId> = bos.into_iter().collect();
    ids.extend(tokenizer.encode(text));
    let windows = ids.len() / window;
    let (mut sum, mut tokens) = (0.0, 0);
    for (done, chunk) in ids.chunks_exact_mut(window).enumerate() {
        if let Some(bos) = bos {
            chunk[0] = bos;
        }
        let scored = log_probs(decoder, pool, chunk, window / 2)?;
        sum += scored.iter().map(|&value| f64::from(value)).sum::<f64>();
        tokens += scored.len();
        progress(done + 1, windows);
    }
    Ok((tokens > 0).then(|| Perplexity { perplexity: (-sum / tokens as f64).exp(), tokens }))
}
