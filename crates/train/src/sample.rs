//! What a model says, for a look during training: the likeliest token after token, by the forward of generation.

use hearth_kernels::pool::Pool;
use hearth_model::Decoder;
use hearth_tensor::eager::{Eager, Rows, Workspace};
use hearth_tensor::kv::KvCache;

/// At most `max_tokens` ids behind `prompt`, up to one of `stops` or the end of the context. Of equally likely ids the
/// smallest is taken.
///
/// # Panics
/// If `prompt` is empty.
pub fn greedy(pool: &Pool, decoder: &Decoder, prompt: &[u32], max_tokens: usize, stops: &[u32]) -> Vec<u32> {
    assert!(!prompt.is_empty(), "a prompt has a token");
    let mut cache = KvCache::new(decoder.page_layout());
    let mut workspace = Workspace::default();
    let mut ids = prompt.to_vec();
    let mut new = prompt.to_vec();
    let room = decoder.config.max_seq_len.saturating_sub(prompt.len());
    while ids.len() - prompt.len() < max_tokens.min(room) {
        let rows = vec![Rows { cache: &mut cache, count: new.len() }];
        let mut eager = Eager::new(pool, &mut workspace, rows);
        let logits = decoder.logits(&mut eager, &new, &[new.len() - 1]);
        eager.finish();
        let best = logits.data().iter().enumerate().rev().max_by(|a, b| a.1.total_cmp(b.1));
        let next = best.map_or(0, |(id, _)| id as u32);
        if stops.contains(&next) {
            break;
        }
        ids.push(next);
        new = vec![next];
    }
    ids.split_off(prompt.len())
}
