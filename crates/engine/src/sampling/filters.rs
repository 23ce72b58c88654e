//! From logits to the tokens that may be drawn.
//!
//! In: logits. Out: candidates with probabilities that needn't add up to 1, most probable first, ties by id.

use hearth_tokenizer::TokenId;

use super::{Sampling, above_zero, greedy};
use crate::request::Result;

/// A token e⁻³⁰ times as probable as the best can't be drawn with 53 random bits in practice.
const FLOOR: f32 = 30.0;

pub(super) type Candidates = Vec<(TokenId, f64)>;

/// Mirostat 2 (Basu et al. 2021): keeps the surprise of what is drawn near `tau` bits by a bound that learns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mirostat {
    /// The surprise aimed at, in bits.
    pub tau: f32,
    /// The learning rate of the bound.
    pub eta: f32,
}

/// Probabilities relative to the best token's.
pub(super) fn softmax(logits: &[f32], temperature: f32) -> Candidates {
    let best = logits[greedy(logits) as usize];
    // Below a thousandth, a difference of 0.03 decides: rounding, not the temperature.
    let floor = best - FLOOR * temperature.max(1e-3);
    let candidates = logits.iter().enumerate().filter(|&(_, &logit)| logit >= floor);
    let mut candidates: Candidates = candidates
        .map(|(id, &logit)| {
            (id as TokenId, ((f64::from(logit) - f64::from(best)) / f64::from(temperature)).exp())
        })
        .collect();
    sort(&mut candidates);
    candidates
}

fn sort(candidates: &mut Candidates) {
    candidates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
}

fn sum(candidates: &Candidates) -> f64 {
    candidates.iter().map(|&(_, p)| p).sum()
}

/// Top-k, typical, top-p, min-p, in this order; each looks at what the one before kept.
pub(super) fn keep(mut candidates: Candidates, sampling: &Sampling) -> Candidates {
    if sampling.top_k > 0 {
        candidates.truncate(sampling.top_k);
    }
    if sampling.typical_p < 1.0 {
        keep_typical(&mut candidates, f64::from(sampling.typical_p));
    }
    if sampling.top_p < 1.0 {
        keep_mass(&mut candidates, f64::from(sampling.top_p));
    }
    if sampling.min_p > 0.0 {
        let least = candidates.first().map_or(0.0, |&(_, best)| best * f64::from(sampling.min_p));
        candidates.retain(|&(_, p)| p >= least);
    }
    candidates
}

/// The first candidates that together have `mass` of all; at least one.
fn keep_mass(candidates: &mut Candidates, mass: f64) {
    let total = sum(candidates);
    let mut before = 0.0;
    let kept = candidates.iter().take_while(|&&(_, p)| {
        let is_kept = before < mass * total;
        before += p;
        is_kept
    });
    let kept = kept.count().max(1);
    candidates.truncate(kept);
}

fn keep_typical(candidates: &mut Candidates, mass: f64) {
    let total = sum(candidates);
    let surprise = |p: f64| -(p / total).ln();
    let entropy: f64 = candidates.iter().map(|&(_, p)| p / total * surprise(p)).sum();
    let distance = |p: f64| (surprise(p) - entropy).abs();
    // A stable sort: of two equally typical tokens the more probable stays first.
    candidates.sort_by(|a, b| distance(a.1).total_cmp(&distance(b.1)));
    keep_mass(candidates, mass);
    sort(candidates);
}

/// The candidate in whose share of the whole `uniform` falls.
pub(super) fn draw(candidates: &Candidates, uniform: f64) -> TokenId {
    let mut left = uniform * sum(candidates);
    let (last, others) = candidates.split_last().expect("every filter keeps the best token");
    for &(id, p) in others {
        left -= p;
        if left < 0.0 {
            return id;
        }
    }
    last.0
}

impl Mirostat {
    pub(super) fn check(self) -> Result<()> {
        above_zero("mirostat_tau", self.tau, 100.0, "above 0, at most 100")?;
        above_zero("mirostat_eta", self.eta, 1.0, "above 0, at most 1")
    }

    /// The bound before the first token.
    pub(super) fn start(self) -> f64 {
        2.0 * f64::from(self.tau)
    }

    /// Candidates whose surprise is within the bound; at least one.
    pub(super) fn keep(mut candidates: Candidates, max_surprise: f64) -> Candidates {
        let total = sum(&candidates);
        let kept = candidates.iter().take_while(|&&(_, p)| -(p / total).log2() <= max_surprise).count();
        candidates.truncate(kept.max(1));
        candidates
    }

    /// The bound after `id` was drawn from `kept`.
    pub(super) fn learn(self, kept: &Candidates, id: TokenId, max_surprise: f64) -> f64 {
        let p = kept.iter().find(|candidate| candidate.0 == id).map_or(1.0, |candidate| candidate.1);
        let surprise = -(p / sum(kept)).log2();
        max_surprise - f64::from(self.eta) * (surprise - f64::from(self.tau))
    }
}
