//! Cross-entropy over logits, and log-probabilities for those who sample or score.
//!
//! Each row by itself: the largest logit, then the sum of exponentials in blocks of fixed size, block
//! sums added in f64 in order. So a token's log-probability is the same in training, evaluation and serving.

use crate::dispatch::{LANES, multiversion, sum_lanes};
use crate::elementwise::exp;
use crate::pool::Pool;

/// Exponentials added in f32 lanes before the sum goes on in f64: 128 a lane keep the error near 1e-6.
const BLOCK: usize = 2048;

/// `ln Σ e^x` of one row of logits. `-∞` logits count as impossible; a row of nothing else gives `-∞`.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = row_max(logits);
    if max == f32::NEG_INFINITY {
        return f64::NEG_INFINITY;
    }
    f64::from(max) + sum_exp(logits, max).ln()
}

/// The natural logarithm of the probability that a softmax over `logits` gives to `id`.
pub fn log_prob_of(logits: &[f32], id: u32) -> f32 {
    (f64::from(logits[id as usize]) - log_sum_exp(logits)) as f32
}

/// `out[i] = logits[i] - ln Σ e^x`, in place. Equal to the bit to [`log_prob_of`].
pub fn log_softmax_row(logits: &mut [f32]) {
    let log_sum = log_sum_exp(logits);
    for logit in logits {
        *logit = (f64::from(*logit) - log_sum) as f32;
    }
}

/// Per-row loss `-ln p(target)` of a softmax over each row, and each row's [`log_sum_exp`] for the backward.
///
/// # Shapes
/// logits `[R, V]`; targets, the result `[R]` as pairs `(loss, log_sum_exp)`.
pub fn cross_entropy(pool: &Pool, logits: &[f32], targets: &[u32]) -> Vec<(f64, f64)> {
    let vocab_size = vocab_size_of(logits, targets);
    let mut losses = vec![(0.0, 0.0); targets.len()];
    pool.for_each_chunk(&mut losses, 1, |row, loss| {
        let logits = &logits[row * vocab_size..(row + 1) * vocab_size];
        let log_sum = log_sum_exp(logits);
        loss[0] = (log_sum - f64::from(logits[targets[row] as usize]), log_sum);
    });
    losses
}

/// Backward of [`cross_entropy`], in place: row r of `logits` becomes `factors[r]·(softmax - onehot)`.
///
/// # Shapes
/// logits `[R, V]`; targets, `log_sums`, factors `[R]`.
pub fn cross_entropy_backward(
    pool: &Pool,
    logits: &mut [f32],
    targets: &[u32],
    log_sums: &[f64],
    factors: &[f32],
) {
    let vocab_size = vocab_size_of(logits, targets);
    assert_eq!((log_sums.len(), factors.len()), (targets.len(), targets.len()), "vs. targets");
    pool.for_each_chunk(logits, vocab_size.max(1), |row, logits| {
        softmax_scaled(logits, log_sums[row] as f32, factors[row]);
        logits[targets[row] as usize] -= factors[row];
    });
}

fn vocab_size_of(logits: &[f32], targets: &[u32]) -> usize {
    if targets.is_empty() {
        assert!(logits.is_empty(), "{} logits without targets", logits.len());
        return 0;
    }
    assert!(logits.len().is_multiple_of(targets.len()), "rows of logits vs. targets");
    let vocab_size = logits.len() / targets.len();
    for &target in targets {
        assert!((target as usize) < vocab_size, "target {target} vs. `vocab_size` {vocab_size}");
    }
    vocab_size
}

multiversion! {
    /// The largest number of a row; −∞ where there is none.
    pub fn row_max(row: &[f32]) -> f32 {
        let mut lanes = [f32::NEG_INFINITY; LANES];
        let (chunks, rest) = row.as_chunks::<LANES>();
        for chunk in chunks {
            for i in 0..LANES {
                lanes[i] = if chunk[i] > lanes[i] { chunk[i] } else { lanes[i] };
            }
        }
        let mut max = f32::NEG_INFINITY;
        for &x in lanes.iter().chain(rest) {
            max = if x > max { x } else { max };
        }
        max
    }

    fn sum_exp(row: &[f32], max: f32) -> f64 {
        let mut total = 0.0f64;
        for block in row.chunks(BLOCK) {
            let mut lanes = [0.0f32; LANES];
            let (chunks, rest) = block.as_chunks::<LANES>();
            for chunk in chunks {
                for i in 0..LANES {
                    lanes[i] += exp(chunk[i] - max);
                }
            }
            for (lane, &x) in lanes.iter_mut().zip(rest) {
                *lane += exp(x - max);
            }
            total += f64::from(sum_lanes(lanes));
        }
        total
    }

    fn softmax_scaled(row: &mut [f32], log_sum: f32, factor: f32) {
        for x in row {
            *x = exp(*x - log_sum) * factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::at_every_level;
    use crate::gradient_check::{Random, assert_close, numeric_gradient};

    fn exact_losses(logits: &[f64], targets: &[u32]) -> Vec<f64> {
        let vocab_size = logits.len() / targets.len();
        logits
            .chunks(vocab_size)
            .zip(targets)
            .map(|(row, &target)| row.iter().map(|x| x.exp()).sum::<f64>().ln() - row[target as usize])
            .collect()
    }

    #[test]
    fn losses_are_exact_and_gradients_pass_finite_differences() {
        for (rows, vocab_size) in [(1, 1), (1, 2), (3, 37), (2, 2500)] {
            let mut random = Random::new(4);
            let logits: Vec<f32> = random.values(rows * vocab_size).iter().map(|x| 6.0 * x).collect();
            let factors = random.values(rows);
            let targets: Vec<u32> = (0..rows).map(|r| ((r * 7) % vocab_size) as u32).collect();
            let mut results = Vec::new();
            for threads in [1, 2] {
                let pool = Pool::new(threads);
                let losses = cross_entropy(&pool, &logits, &targets);
                let log_sums: Vec<f64> = losses.iter().map(|&(_, log_sum)| log_sum).collect();
                let mut dlogits = logits.clone();
                cross_entropy_backward(&pool, &mut dlogits, &targets, &log_sums, &factors);
                results.push((losses, dlogits));
            }
            assert_eq!(results[0], results[1], "one thread and two");
            let (losses, dlogits) = &results[0];
            let wide: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
            let losses: Vec<f32> = losses.iter().map(|&(loss, _)| loss as f32).collect();
            assert_close("loss", &losses, &exact_losses(&wide, &targets), 1e-6);
            if vocab_size < 100 {
                let expected = numeric_gradient(&logits, &factors, |x| exact_losses(x, &targets));
                assert_close("dlogits", dlogits, &expected, 1e-5);
            }
        }
    }

    #[test]
    fn log_probabilities_agree_with_each_other_at_every_level() {
        let logits: Vec<f32> = Random::new(9).values(5001).iter().map(|x| 20.0 * x).collect();
        let all = at_every_level(|| {
            let mut row = logits.clone();
            log_softmax_row(&mut row);
            row
        });
        for id in [0u32, 1, 2047, 2048, 5000] {
            assert_eq!(all[id as usize].to_bits(), log_prob_of(&logits, id).to_bits());
        }
        let total: f64 = all.iter().map(|&x| f64::from(x).exp()).sum();
        assert!((total - 1.0).abs() < 1e-5, "probabilities add up to {total}");
    }

    #[test]
    fn impossible_and_extreme_logits_stay_finite_where_they_can() {
        assert_eq!(log_prob_of(&[f32::NEG_INFINITY, 3.0], 1).to_bits(), 0.0f32.to_bits());
        assert!(log_prob_of(&[f32::NEG_INFINITY, 3.0], 0) < f32::MIN);
        assert!(log_sum_exp(&[f32::NEG_INFINITY; 3]) < f64::MIN);
        assert_eq!(log_prob_of(&[3e38, -3e38], 0).to_bits(), 0.0f32.to_bits());
        assert!(log_sum_exp(&[1.0, f32::NAN]).is_nan());
    }
}
