//! The proof of a conversion: both models are opened and their logits compared on a few texts.
//!
//! What is expected depends on what was done: the same bits where nothing was rounded and no row changed its place,
//! float rounding where sums run in another order, and a stated divergence where weights have fewer bits.

use std::path::Path;

use anyhow::{Result, bail};
use hearth_engine::score;
use hearth_kernels::quant::Format;
use hearth_model::convert::{Encoding, Mix, Summary};
use hearth_tokenizer::TokenId;
use serde_json::json;

use super::Context;
use crate::args::{KvArgs, KvTypeArg};

/// Prose, another script, code, figures: what a broken vocabulary or a swapped row would show on.
const TEXTS: [&str; 4] = [
    "The kiln needs nine hours to reach 1240 degrees, and it must cool overnight before the door is opened.",
    "锅炉启动之前，请先检查水压和阀门。水压不足时，不要点火。",
    "def mean(values):\n    total = 0\n    for value in values:\n        total += value\n    return total / len(values)\n",
    "Rendez-vous à 18h45 — naïve café, 3 × 4 = 12; #42 costs $9.99!\n\n\t[ok]",
];

/// Tokens of a text that are compared; more would cost time and say nothing new.
const TOKENS: usize = 32;

/// What the logits of a right conversion differ by at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Expectation {
    what: &'static str,
    /// Of any logit, or no bound.
    logit: f32,
    /// Mean Kullback–Leibler divergence in nats from the source's next-token distribution.
    divergence: f64,
}

impl Expectation {
    /// Bounds on the divergence are four to ten times what SmolLM2-135M shows, a small model that feels every bit
    /// (LOG.md): they catch a broken conversion, not a mediocre one.
    pub(super) fn of(summary: &Summary, encoding: Encoding) -> Self {
        let was_dense = summary.tensors.iter().all(|tensor| tensor.from.is_dense());
        let (what, logit, divergence) = match encoding {
            Encoding::Mix(Mix::Q8_0) => ("8 bits", f32::INFINITY, 0.01),
            Encoding::Mix(Mix::Q6K) => ("6 bits", f32::INFINITY, 0.05),
            Encoding::Mix(Mix::Q5_0 | Mix::Q5KM) => ("5 bits", f32::INFINITY, 0.2),
            Encoding::Mix(Mix::Q4KM) => ("4 to 6 bits", f32::INFINITY, 0.5),
            Encoding::Mix(Mix::Q4_0) => ("4 bits", f32::INFINITY, 1.5),
            _ if summary.is_lossless() && was_dense => ("sums in another order at most", 2e-3, 1e-6),
            Encoding::Dense(Format::BF16) => ("rounding to bf16", f32::INFINITY, 0.02),
            _ => ("rounding to 16 bits", f32::INFINITY, 1e-3),
        };
        Self { what, logit, divergence }
    }
}

/// What was found.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Proof {
    positions: usize,
    /// Largest difference of a logit.
    logit: f32,
    /// Mean divergence of the distributions.
    divergence: f64,
    /// Positions whose most likely token is the same.
    same_top: usize,
}

impl Proof {
    pub(super) fn describe(&self, expected: &Expectation) -> String {
        let Self { positions, logit, divergence, same_top } = self;
        if *logit == 0.0 {
            return format!("proved: logits at {positions} positions are equal to the bit");
        }
        format!(
            "proved: over {positions} positions logits differ by {logit:.2e} at most, distributions by {divergence:.2e} nats \
             on average (bound {:.0e}, {}), the likeliest token is the same at {same_top}",
            expected.divergence, expected.what
        )
    }

    pub(super) fn to_json(self, expected: &Expectation) -> serde_json::Value {
        json!({
            "positions": self.positions, "max_logit_difference": self.logit, "mean_divergence": self.divergence,
            "bound": expected.divergence, "same_top": self.same_top,
        })
    }
}

/// Ids and logits of one text.
struct Probe {
    ids: Vec<TokenId>,
    logits: Vec<f32>,
}

/// A proof sees what was written, not how keys are rounded: a family whose files hold the rows of q and k in another
/// order rounds the same numbers after other sums.
const EXACT_KEYS: KvArgs = KvArgs { kv_type: KvTypeArg::F32, sparse_pages: None };

/// Opens both models and compares them, the source with an adapter on it if one is given; an error says what is wrong.
pub(super) fn compare(
    context: &Context,
    (source, adapter): (&Path, Option<&str>),
    target: &Path,
    expected: &Expectation,
) -> Result<Proof> {
    let probes = probe(context, source, adapter)?;
    let model = context.machine.open_with(target, EXACT_KEYS)?;
    let vocab_size = model.config().vocab_size;
    let mut proof = Proof::default();
    let mut sum = 0.0;
    for (text, before) in TEXTS.iter().zip(&probes) {
        let ids = ids(&model, text);
        if ids != before.ids {
            bail!(
                "the tokenizers differ: {text:?} is {:?} in the source and {ids:?} in the target",
                before.ids
            );
        }
        score::each_row(&model.decoder, &context.machine.pool, &ids, 0, |row, logits| {
            let before = &before.logits[row * vocab_size..(row + 1) * vocab_size];
            proof.logit = before.iter().zip(logits).fold(proof.logit, |most, (a, b)| most.max((a - b).abs()));
            proof.same_top += usize::from(top(before) == top(logits));
            sum += divergence(before, logits);
            proof.positions += 1;
        })?;
    }
    proof.divergence = sum / proof.positions as f64;
    // Written so that a NaN fails.
    let holds = proof.divergence <= expected.divergence && proof.logit <= expected.logit;
    if !holds {
        bail!(
            "logits differ by {} at most and distributions by {:.3e} nats on average, expected {} and {:.0e} ({})",
            proof.logit,
            proof.divergence,
            expected.logit,
            expected.divergence,
            expected.what
        );
    }
    Ok(proof)
}

fn probe(context: &Context, path: &Path, adapter: Option<&str>) -> Result<Vec<Probe>> {
    let model = context.machine.open_with(path, EXACT_KEYS)?;
    let model = context.machine.adapted(model, adapter)?;
    let mut probes = Vec::new();
    for text in TEXTS {
        let ids = ids(&model, text);
        let mut all = Vec::new();
        score::each_row(&model.decoder, &context.machine.pool, &ids, 0, |_, logits| {
            all.extend_from_slice(logits);
        })?;
        probes.push(Probe { ids, logits: all });
    }
    Ok(probes)
}

fn ids(model: &hearth_model::Model, text: &str) -> Vec<TokenId> {
    let mut ids = model.tokenizer().encode(text);
    ids.truncate(TOKENS);
    ids
}

fn top(logits: &[f32]) -> usize {
    let better = |(best, most): (usize, f32), (id, &logit): (usize, &f32)| {
        if logit > most { (id, logit) } else { (best, most) }
    };
    logits.iter().enumerate().fold((0, f32::NEG_INFINITY), better).0
}

/// `Σ p (ln p − ln q)` in nats.
fn divergence(p: &[f32], q: &[f32]) -> f64 {
    let (p_total, q_total) = (log_sum_exp(p), log_sum_exp(q));
    let terms = p.iter().zip(q).map(|(&p, &q)| {
        let (p, q) = (f64::from(p) - p_total, f64::from(q) - q_total);
        p.exp() * (p - q)
    });
    terms.sum::<f64>().max(0.0)
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    most + logits.iter().map(|&logit| (f64::from(logit) - most).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_is_the_textbook_sum() {
        // p = (3/4, 1/4), q = (1/2, 1/2): 3/4 ln 3/2 + 1/4 ln 1/2.
        let p = [3.0f32.ln(), 0.0];
        let expected = 0.75 * 1.5f64.ln() + 0.25 * 0.5f64.ln();
        assert!((divergence(&p, &[7.0, 7.0]) - expected).abs() < 1e-7);
        assert_eq!(top(&p), 0);
    }
}
