//! What is minimised: cross-entropy, from logits or from what a frozen head multiplies.
//!
//! The logits of a long answer are the largest values of a training step: with 150,000 tokens in the
//! vocabulary, 0.6 MB a row. [`Tape::cross_entropy_of_head`] holds a bounded number of rows at a time.

use std::sync::Arc;

use hearth_kernels::elementwise;
use hearth_kernels::gemm::{Accumulate, gemm_tn};
use hearth_kernels::loss;

use super::{Gradients, Keep, Tape, Var};
use crate::ops;
use crate::tensor::Tensor;
use crate::weight::{Linear, Param};

/// Logits held at a time, in values: 16 MiB, half of a third-level cache. Tests cross this border with a few rows.
const LOGITS_AT_A_TIME: usize = if cfg!(test) { 64 } else { 1 << 22 };

/// What a loss left for the backward.
#[derive(Debug)]
pub(super) enum Loss {
    /// The gradient is a function of the logits.
    Logits { index: usize, value: Arc<Tensor>, targets: Vec<u32>, log_sums: Vec<f64>, factors: Vec<f32> },
    /// The gradients of the head's input, and of the head where it is trained.
    Input { index: usize, gradient: Tensor, head: Option<(Param, Tensor)> },
}

impl Loss {
    /// The tensor it holds on to.
    pub(super) fn held(&self) -> &Tensor {
        match self {
            Self::Logits { value, .. } => value,
            Self::Input { gradient, .. } => gradient,
        }
    }
}

impl Tape<'_> {
    /// The mean of `-ln p(target)` over the rows, each with its weight: `Σ weight·loss / Σ weight`. The
    /// gradients of several losses on one tape are added.
    ///
    /// # Shapes
    /// logits `[R, V]`; targets, weights `[R]`
    pub fn cross_entropy(&mut self, logits: Var, targets: &[u32], weights: &[f32]) -> f64 {
        let Var { index, value } = logits;
        let factors = factors(value.rows(), targets, weights);
        let losses = loss::cross_entropy(self.pool, value.data(), targets);
        let mean = weighted_sum(&losses, &factors);
        if self.nodes[index].needs_grad {
            self.losses.push(Loss::Logits {
                index,
                value,
                targets: targets.to_vec(),
                log_sums: losses.iter().map(|&(_, log_sum)| log_sum).collect(),
                factors: narrow(&factors),
            });
        }
        mean
    }

    /// [`Self::cross_entropy`] of `head(x)`, equal to the bit, without holding all logits: rows are
    /// taken through the head, the loss and back to x's gradient some at a time.
    ///
    /// # Panics
    /// If the head has an adapter or a bias to train: their gradients would need the logits'.
    ///
    /// # Shapes
    /// x `[R, C]`; targets, weights `[R]`
    pub fn cross_entropy_of_head(&mut self, x: &Var, head: &Linear, targets: &[u32], weights: &[f32]) -> f64 {
        assert!(
            head.lora.is_none() && head.bias.as_ref().is_none_or(|bias| bias.id.is_none()),
            "the head has an adapter or a trained bias"
        );
        let factors = factors(x.value.rows(), targets, weights);
        let x_needs_grad = self.nodes[x.index].needs_grad;
        let trained = head.weight.trained().filter(|_| self.keep != Keep::Nothing);
        let (cols, vocab_size) = (x.value.cols(), head.out_features());
        let mut dhead = trained.map(|_| self.arena.zeros(vocab_size, cols));
        let mut gradient = self.arena.take(if x_needs_grad { x.value.rows() } else { 0 }, cols);
        let chunk = (LOGITS_AT_A_TIME / vocab_size).max(1);
        let mut all_losses = Vec::with_capacity(targets.len());
        for start in (0..targets.len()).step_by(chunk) {
            let rows: Vec<usize> = (start..targets.len().min(start + chunk)).collect();
            let (targets, factors) = (&targets[start..][..rows.len()], &factors[start..][..rows.len()]);
            let of_rows = ops::take_rows(self.compute(), &x.value, &rows);
            let mut logits = ops::linear(self.compute(), &of_rows, head);
            let losses = loss::cross_entropy(self.pool, logits.data(), targets);
            if x_needs_grad || dhead.is_some() {
                let log_sums: Vec<f64> = losses.iter().map(|&(_, log_sum)| log_sum).collect();
                let (factors, dlogits) = (narrow(factors), logits.data_mut());
                loss::cross_entropy_backward(self.pool, dlogits, targets, &log_sums, &factors);
            }
            if let Some(dhead) = &mut dhead {
                let (dlogits, dhead) = (logits.data(), dhead.data_mut());
                gemm_tn(self.pool, dlogits, of_rows.data(), dhead, rows.len(), Accumulate::Add);
            }
            if x_needs_grad {
                let dx = &mut gradient.data_mut()[start * cols..(start + rows.len()) * cols];
                head.weight.transposed(self.pool, logits.data(), dx);
            }
            all_losses.extend(losses);
        }
        let head = trained.cloned().zip(dhead);
        if x_needs_grad || head.is_some() {
            self.losses.push(Loss::Input { index: x.index, gradient, head });
        }
        weighted_sum(&all_losses, &factors)
    }

    /// Where the gradient of `scale` times the loss goes, and the gradient. A head's own is added to `gradients`.
    pub(super) fn loss_backward(&self, loss: Loss, scale: f32, gradients: &mut Gradients) -> (usize, Tensor) {
        match loss {
            Loss::Logits { index, value, targets, log_sums, mut factors } => {
                elementwise::scale(&mut factors, scale);
                // In the place of the logits, unless the caller still holds them.
                let mut dlogits = Arc::try_unwrap(value).unwrap_or_else(|value| self.copy(&value));
                let rows = dlogits.data_mut();
                loss::cross_entropy_backward(self.pool, rows, &targets, &log_sums, &factors);
                (index, dlogits)
            }
            Loss::Input { index, mut gradient, head } => {
                elementwise::scale(gradient.data_mut(), scale);
                if let Some((param, dhead)) = head
                    && let Some(sum) = gradients.of(&param)
                {
                    elementwise::add_scaled(sum, scale, dhead.data());
                }
                (index, gradient)
            }
        }
    }
}

/// Each row's share of the mean: `weight / Σ weight`.
fn factors(num_rows: usize, targets: &[u32], weights: &[f32]) -> Vec<f64> {
    assert_eq!((targets.len(), weights.len()), (num_rows, num_rows), "vs. rows");
    let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
    assert!(total > 0.0, "weights add up to {total}: there is nothing to learn from");
    weights.iter().map(|&weight| f64::from(weight) / total).collect()
}

fn weighted_sum(losses: &[(f64, f64)], factors: &[f64]) -> f64 {
    losses.iter().zip(factors).map(|((loss, _), factor)| factor * loss).sum()
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}
