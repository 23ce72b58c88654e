//! `AdamW` (Loshchilov & Hutter 2019): Adam with weight decay apart from the gradient.

use crate::dispatch::multiversion;

/// What one update needs besides the tensors. Defaults live with the trainer's configuration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    pub lr: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
    pub weight_decay: f32,
    /// Factor on the gradient before it is used: clipping, averaging.
    pub gradient_scale: f32,
    /// Counts updates from 1: corrects the moments' start at zero.
    pub step: u32,
}

/// A parameter with its moments.
#[derive(Debug)]
pub struct AdamWSlices<'a> {
    pub weight: &'a mut [f32],
    /// Running mean of the gradient.
    pub first_moment: &'a mut [f32],
    /// Running mean of the gradient's square.
    pub second_moment: &'a mut [f32],
}

/// One update: `m ← β₁m + (1-β₁)g`, `v ← β₂v + (1-β₂)g²`,
/// `w ← w - lr·weight_decay·w - lr·m̂ / (sqrt(v̂) + eps)` with `m̂ = m/(1-β₁ᵗ)` and `v̂ = v/(1-β₂ᵗ)`.
///
/// # Shapes
/// All of one length.
pub fn adamw(slices: &mut AdamWSlices<'_>, gradient: &[f32], settings: &AdamWStep) {
    let len = gradient.len();
    assert_eq!(
        (slices.weight.len(), slices.first_moment.len(), slices.second_moment.len()),
        (len, len, len),
        "weight and moments vs. gradient"
    );
    assert!(settings.step >= 1, "updates are counted from 1");
    let correction = |beta: f32| 1.0 - f64::from(beta).powi(settings.step.cast_signed());
    let factors = Factors {
        step_size: (f64::from(settings.lr) / correction(settings.beta1)) as f32,
        second_correction: correction(settings.beta2).sqrt().recip() as f32,
        keep: 1.0 - settings.lr * settings.weight_decay,
    };
    update(slices, gradient, settings, &factors);
}

/// What is the same for all elements of an update.
struct Factors {
    /// lr / (1 - β₁ᵗ)
    step_size: f32,
    /// 1 / sqrt(1 - β₂ᵗ)
    second_correction: f32,
    /// `1 - lr·weight_decay`
    keep: f32,
}

multiversion! {
    fn update(
        slices: &mut AdamWSlices<'_>,
        gradient: &[f32],
        settings: &AdamWStep,
        factors: &Factors,
    ) {
        let AdamWStep { beta1, beta2, eps, gradient_scale, .. } = *settings;
        let Factors { step_size, second_correction, keep } = *factors;
        let moments = slices.first_moment.iter_mut().zip(slices.second_moment.iter_mut());
        for ((weight, (m, v)), &gradient) in slices.weight.iter_mut().zip(moments).zip(gradient) {
            let gradient = gradient * gradient_scale;
            *m = (gradient - *m).mul_add(1.0 - beta1, *m);
            *v = (gradient * gradient - *v).mul_add(1.0 - beta2, *v);
            let denominator = v.sqrt().mul_add(second_correction, eps);
            *weight = weight.mul_add(keep, -(step_size * *m / denominator));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::at_every_level;
    use crate::gradient_check::{Random, assert_close};

    fn settings(step: u32) -> AdamWStep {
        AdamWStep {
            lr: 0.01,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            gradient_scale: 0.5,
            step,
        }
    }

    #[test]
    fn updates_follow_the_paper_for_some_steps() {
        let mut random = Random::new(1);
        let start = random.values(37);
        let gradients: Vec<Vec<f32>> = (0..5).map(|_| random.values(37)).collect();
        let actual = at_every_level(|| {
            let (mut w, mut m, mut v) = (start.clone(), vec![0.0; 37], vec![0.0; 37]);
            for (step, gradient) in (1..).zip(&gradients) {
                let mut slices = AdamWSlices { weight: &mut w, first_moment: &mut m, second_moment: &mut v };
                adamw(&mut slices, gradient, &settings(step));
            }
            w
        });
        let expected: Vec<f64> = (0..37)
            .map(|i| {
                let (mut w, mut m, mut v) = (f64::from(start[i]), 0.0, 0.0);
                for (step, gradient) in (1..).zip(&gradients) {
                    let g = f64::from(gradient[i]) * 0.5;
                    m = 0.9 * m + 0.1 * g;
                    v = 0.95 * v + 0.05 * g * g;
                    let m_hat = m / (1.0 - 0.9f64.powi(step));
                    let v_hat: f64 = v / (1.0 - 0.95f64.powi(step));
                    w -= 0.01 * 0.1 * w + 0.01 * m_hat / (v_hat.sqrt() + 1e-8);
                }
                w
            })
            .collect();
        assert_close("weight", &actual, &expected, 1e-5);
    }

    #[test]
    fn a_first_step_has_the_size_of_the_lr_whatever_the_gradient() {
        for gradient in [1e-3, 1.0, -500.0f32] {
            let (mut w, mut m, mut v) = ([0.0], [0.0], [0.0]);
            let mut slices = AdamWSlices { weight: &mut w, first_moment: &mut m, second_moment: &mut v };
            adamw(&mut slices, &[gradient], &settings(1));
            assert!((w[0] + 0.01 * gradient.signum()).abs() < 1e-6, "{} for {gradient}", w[0]);
        }
    }
}
