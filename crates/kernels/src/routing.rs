//! Which experts a token goes to, and with which weights (Shazeer et al. 2017): forward and backward.
//!
//! A softmax over all experts; the `top_k` largest count, of equal ones the first. Each row by itself, sums over
//! experts in ascending order. The choice has no gradient, the weights have.

use crate::dispatch::{dot, multiversion};
use crate::elementwise::exp;

/// How many experts a token goes to, and whether their weights are made to add up to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routing {
    pub top_k: usize,
    pub normalised: bool,
}

/// The weight of each chosen expert, 0 for the others.
///
/// # Shapes
/// logits, weights: rows of `num_experts`
pub fn route(logits: &[f32], num_experts: usize, routing: Routing, weights: &mut [f32]) {
    assert_eq!(logits.len(), weights.len(), "logits vs. weights");
    let top_k = routing.top_k;
    assert!(top_k > 0 && top_k <= num_experts, "`top_k` {top_k} of {num_experts} experts");
    let rows = logits.chunks_exact(num_experts).zip(weights.chunks_exact_mut(num_experts));
    for (logits, weights) in rows {
        softmax(logits, weights);
        let mut ranked: Vec<usize> = (0..num_experts).collect();
        ranked.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
        for &expert in &ranked[top_k..] {
            weights[expert] = 0.0;
        }
        if routing.normalised {
            let inverse = 1.0 / weights.iter().sum::<f32>();
            for weight in weights.iter_mut() {
                *weight *= inverse;
            }
        }
    }
}

/// Backward of [`route`] from its input and output. With the sum over chosen experts `Σ = Σ dweight·weight`:
/// normalised weights w are a softmax over the chosen, `dlogit = w·(dweight - Σ)`; else, with the
/// probabilities p of all, `dlogit = w·dweight - p·Σ`.
///
/// # Shapes
/// All: rows of `num_experts`
pub fn route_backward(
    (logits, weights): (&[f32], &[f32]),
    num_experts: usize,
    routing: Routing,
    dweights: &[f32],
    dlogits: &mut [f32],
) {
    let len = dlogits.len();
    assert_eq!((logits.len(), weights.len(), dweights.len()), (len, len, len), "inputs vs. dlogits");
    for (row, dlogits) in dlogits.chunks_exact_mut(num_experts).enumerate() {
        let at = row * num_experts..(row + 1) * num_experts;
        let (weights, dweights) = (&weights[at.clone()], &dweights[at.clone()]);
        let along: f32 = weights.iter().zip(dweights).map(|(weight, dweight)| weight * dweight).sum();
        if routing.normalised {
            dlogits.copy_from_slice(weights);
        } else {
            softmax(&logits[at], dlogits);
        }
        for ((dlogit, weight), dweight) in dlogits.iter_mut().zip(weights).zip(dweights) {
            *dlogit = weight.mul_add(*dweight, -(*dlogit * along));
        }
    }
}

multiversion! {
    /// The gradient of the weight that an expert's row was multiplied with: `Σ dout·value`.
    ///
    /// # Shapes
    /// Both of one length.
    pub fn weight_gradient(dout: &[f32], value: &[f32]) -> f32 {
        assert_eq!(dout.len(), value.len(), "dout vs. value");
        dot(dout, value)
    }
}

fn softmax(logits: &[f32], out: &mut [f32]) {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    for (out, logit) in out.iter_mut().zip(logits) {
        *out = exp(logit - largest);
    }
    let inverse = 1.0 / out.iter().sum::<f32>();
    for probability in out {
        *probability *= inverse;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient_check::{Random, assert_close, numeric_gradient};

    /// The definition in f64, for one row.
    fn exact(logits: &[f64], routing: Routing) -> Vec<f64> {
        let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
        let mut sorted = logits.to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let least = sorted[routing.top_k - 1];
        let chosen = logits.iter().map(|&logit| if logit >= least { logit.exp() / sum } else { 0.0 });
        let chosen: Vec<f64> = chosen.collect();
        let total: f64 = if routing.normalised { chosen.iter().sum() } else { 1.0 };
        chosen.iter().map(|weight| weight / total).collect()
    }

    #[test]
    fn equals_the_definition_and_passes_finite_differences() {
        for (num_experts, top_k) in [(1, 1), (4, 2), (8, 3), (8, 8)] {
            for normalised in [false, true] {
                let routing = Routing { top_k, normalised };
                let mut random = Random::new(31);
                let logits: Vec<f32> = random.values(5 * num_experts).iter().map(|x| 3.0 * x).collect();
                let dout = random.values(logits.len());
                let f = |x: &[f64]| -> Vec<f64> {
                    x.chunks(num_experts).flat_map(|row| exact(row, routing)).collect()
                };
                let wide: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
                let (mut weights, mut dlogits) = (vec![9.0; logits.len()], vec![9.0; logits.len()]);
                route(&logits, num_experts, routing, &mut weights);
                assert_close("weights", &weights, &f(&wide), 1e-6);
                route_backward((&logits, &weights), num_experts, routing, &dout, &mut dlogits);
                assert_close("dlogits", &dlogits, &numeric_gradient(&logits, &dout, f), 1e-5);
            }
        }
    }

    #[test]
    fn of_equal_experts_the_first_is_chosen() {
        let mut weights = [0.0; 4];
        route(&[1.0, 2.0, 2.0, 2.0], 4, Routing { top_k: 2, normalised: true }, &mut weights);
        assert_eq!(weights.map(f32::to_bits), [0.0f32, 0.5, 0.5, 0.0].map(f32::to_bits));
    }
}
