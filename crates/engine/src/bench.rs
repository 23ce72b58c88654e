//! How fast a model runs: prompt tokens and generated tokens a second, as llama-bench counts them.

use std::time::Instant;

use hearth_kernels::pool::Pool;
use hearth_model::Decoder;
use hearth_tensor::eager::{Eager, Rows, Workspace};
use hearth_tensor::kv::KvCache;

/// One measurement of a decoder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    pub tokens: usize,
    pub seconds: f64,
}

impl Speed {
    pub fn tokens_per_s(&self) -> f64 {
        self.tokens as f64 / self.seconds
    }
}

/// A decoder with sequences at some depth, ready to be measured again and again.
#[derive(Debug)]
pub struct Bench<'a> {
    decoder: &'a Decoder,
    pool: &'a Pool,
    workspace: Workspace,
    sequences: Vec<KvCache>,
}

impl<'a> Bench<'a> {
    /// `batch` sequences that hold `depth` positions each.
    pub fn new(decoder: &'a Decoder, pool: &'a Pool, batch: usize, depth: usize) -> Self {
        let mut bench = Self { decoder, pool, workspace: Workspace::default(), sequences: Vec::new() };
        let mut first = KvCache::new(decoder.page_layout());
        for start in (0..depth).step_by(256) {
            bench.forward(&mut [&mut first], &ids(start, 256.min(depth - start), decoder), false);
        }
        bench.sequences = vec![first; batch];
        bench
    }

    /// Computes a prompt of `tokens` for each sequence, logits for its last token, then forgets it.
    pub fn prefill(&mut self, tokens: usize) -> Speed {
        let batch = self.sequences.len();
        let one = ids(7, tokens, self.decoder);
        let ids: Vec<u32> = (0..batch).flat_map(|_| one.iter().copied()).collect();
        let mut sequences = self.sequences.clone();
        let start = Instant::now();
        self.forward(&mut sequences.iter_mut().collect::<Vec<_>>(), &ids, true);
        Speed { tokens: tokens * batch, seconds: start.elapsed().as_secs_f64() }
    }

    /// Decodes `tokens` steps of every sequence, then forgets them.
    pub fn decode(&mut self, tokens: usize) -> Speed {
        let batch = self.sequences.len();
        let mut sequences = self.sequences.clone();
        let start = Instant::now();
        for step in 0..tokens {
            let ids: Vec<u32> = (0..batch).flat_map(|i| ids(step + i, 1, self.decoder)).collect();
            self.forward(&mut sequences.iter_mut().collect::<Vec<_>>(), &ids, true);
        }
        Speed { tokens: tokens * batch, seconds: start.elapsed().as_secs_f64() }
    }

    fn forward(&mut self, sequences: &mut [&mut KvCache], ids: &[u32], logits: bool) {
        let count = ids.len() / sequences.len();
        let wanted: Vec<usize> = (1..=sequences.len()).map(|i| i * count - 1).collect();
        let rows = sequences.iter_mut().map(|cache| Rows { cache, count }).collect();
        let mut graph = Eager::new(self.pool, &mut self.workspace, rows);
        if logits {
            std::hint::black_box(self.decoder.logits(&mut graph, ids, &wanted));
        } else {
            std::hint::black_box(self.decoder.hidden(&mut graph, ids));
        }
        graph.finish();
    }
}

/// Arbitrary tokens: speed doesn't depend on which.
fn ids(start: usize, count: usize, decoder: &Decoder) -> Vec<u32> {
    (start..start + count).map(|i| (i * 7919 % decoder.config.vocab_size) as u32).collect()
}
