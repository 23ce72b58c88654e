//! Logits to a token: greedy, or temperature with top-k, top-p and min-p.
//!
//! The random number of a step depends on the request's seed and the step alone, so a request gives the same
//! text in any batch. Top-p is nucleus sampling (Holtzman et al. 2020), min-p is Nguyen et al. 2024.

use hearth_tokenizer::TokenId;

use crate::request::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// Keep this many of the most probable tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the most probable tokens that together have this probability.
    pub top_p: f32,
    /// Keep tokens with at least this fraction of the best token's probability.
    pub min_p: f32,
    pub seed: u64,
}

impl Sampling {
    pub const fn greedy() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 0 }
    }

    /// Refuses values outside their ranges.
    pub fn check(&self) -> Result<()> {
        let wrong = |name, value, expected| Err(Error::Parameter { name, value, expected });
        if !(0.0..=10.0).contains(&self.temperature) {
            return wrong("temperature", self.temperature, "0 to 10");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return wrong("top_p", self.top_p, "above 0, at most 1");
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return wrong("min_p", self.min_p, "0 to 1");
        }
        Ok(())
    }

    /// Chooses a token; `step` counts the tokens generated before it.
    pub fn choose(&self, logits: &[f32], step: usize) -> TokenId {
        if self.temperature == 0.0 {
            return greedy(logits);
        }
        let mut candidates = self.candidates(logits);
        let total: f64 = candidates.iter().map(|&(_, p)| p).sum();
        let mut left = uniform(self.seed, step as u64) * total;
        let last = candidates.pop().expect("the best token is always kept");
        for (id, p) in candidates {
            left -= p;
            if left < 0.0 {
                return id;
            }
        }
        last.0
    }

    /// Kept tokens with unnormalised probabilities, most probable first, ties by id.
    fn candidates(&self, logits: &[f32]) -> Vec<(TokenId, f64)> {
        let best = logits[greedy(logits) as usize];
        let temperature = f64::from(self.temperature);
        // A token e⁻³⁰ times as probable as the best can't be drawn with 53 random bits in practice.
        let floor = best - 30.0 * self.temperature.max(1e-3);
        let mut candidates: Vec<(TokenId, f64)> = logits
            .iter()
            .enumerate()
            .filter(|&(_, &logit)| logit >= floor)
            .map(|(id, &logit)| (id as TokenId, (f64::from(logit - best) / temperature).exp()))
            .filter(|&(_, p)| p >= f64::from(self.min_p))
            .collect();
        candidates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if self.top_k > 0 {
            candidates.truncate(self.top_k);
        }
        let total: f64 = candidates.iter().map(|&(_, p)| p).sum();
        let mut sum = 0.0;
        let kept = candidates.iter().take_while(|&&(_, p)| {
            let before = sum;
            sum += p;
            before < f64::from(self.top_p) * total
        });
        let kept = kept.count().max(1);
        candidates.truncate(kept);
        candidates
    }
}

/// The first of the largest logits.
pub fn greedy(logits: &[f32]) -> TokenId {
    let mut best = 0;
    for (id, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = id;
        }
    }
    best as TokenId
}

/// The `n` most probable tokens with their log-probabilities, best first.
pub fn top_logprobs(logits: &[f32], n: usize) -> Vec<(TokenId, f32)> {
    let log_sum = hearth_kernels::loss::log_sum_exp(logits);
    let mut top: Vec<(TokenId, f32)> = Vec::with_capacity(n + 1);
    for (id, &logit) in logits.iter().enumerate() {
        if top.len() == n && top.last().is_none_or(|&(_, last)| logit <= last) {
            continue;
        }
        let at = top.partition_point(|&(_, other)| other >= logit);
        top.insert(at, (id as TokenId, logit));
        top.truncate(n);
    }
    for (_, value) in &mut top {
        *value = (f64::from(*value) - log_sum) as f32;
    }
    top
}

/// Uniform in 0..1, from the seed and the step (`SplitMix64`, Steele et al. 2014).
fn uniform(seed: u64, step: u64) -> f64 {
    let mut z = seed.wrapping_add((step + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_takes_the_first_of_equals() {
        assert_eq!(greedy(&[1.0, 3.0, 3.0, 2.0]), 1);
    }

    #[test]
    fn draws_follow_the_softmax() {
        let logits = [0.0f32, 1.0, 2.0, f32::NEG_INFINITY];
        let sampling = Sampling { temperature: 1.0, seed: 7, ..Sampling::greedy() };
        let mut counts = [0.0f64; 4];
        for step in 0..20_000 {
            counts[sampling.choose(&logits, step) as usize] += 1.0 / 20_000.0;
        }
        let total: f64 = (0..3).map(|i| f64::from(i).exp()).sum();
        for (i, count) in counts.iter().take(3).enumerate() {
            assert!((count - (i as f64).exp() / total).abs() < 0.012, "{i}: {count}");
        }
        assert_eq!(counts[3].to_bits(), 0.0f64.to_bits());
    }

    #[test]
    fn limits_keep_only_the_best() {
        let logits = [0.0f32, 5.0, 4.9, 1.0];
        let base = Sampling { temperature: 1.0, seed: 3, ..Sampling::greedy() };
        for limited in
            [Sampling { top_k: 2, ..base }, Sampling { top_p: 0.9, ..base }, Sampling { min_p: 0.5, ..base }]
        {
            assert!((0..500).all(|step| [1, 2].contains(&limited.choose(&logits, step))));
        }
    }

    #[test]
    fn top_logprobs_are_sorted_and_normalised() {
        let top = top_logprobs(&[0.0, 2.0, 1.0, 2.0], 3);
        assert_eq!(top.iter().map(|&(id, _)| id).collect::<Vec<_>>(), [1, 3, 2]);
        let total: f32 = top_logprobs(&[0.0, 2.0, 1.0, 2.0], 4).iter().map(|(_, lp)| lp.exp()).sum();
        assert!((total - 1.0).abs() < 1e-6);
    }
}
