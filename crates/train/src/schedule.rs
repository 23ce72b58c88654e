//! The learning rate over a run: up along a line, then down along a cosine or, at the end only, along a line.

use serde::{Deserialize, Serialize};

/// How the lr falls after the warmup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Half a cosine from the warmup's end to the last step (Loshchilov & Hutter 2017).
    #[default]
    Cosine,
    /// Along a line from the warmup's end to the last step.
    Linear,
    /// Stays up, and falls along a line over the last share of the steps: warmup, stable, decay (Hu et al. 2024).
    Wsd,
    /// Stays up.
    Constant,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The peak.
    pub lr: f32,
    /// Steps until the peak.
    pub warmup_steps: usize,
    pub decay: Decay,
    /// Of the peak, at the last step.
    pub min_lr_share: f32,
    /// Of all steps, with [`Decay::Wsd`].
    pub decay_share: f32,
}

impl Schedule {
    /// The lr of a step of `num_steps`, counted from 0.
    pub fn lr_at(&self, step: usize, num_steps: usize) -> f32 {
        let Self { lr, warmup_steps, decay, min_lr_share, decay_share } = *self;
        if step < warmup_steps {
            return lr * (step + 1) as f32 / warmup_steps as f32;
        }
        let span = num_steps.saturating_sub(warmup_steps).max(1);
        let progress = ((step - warmup_steps) as f32 / span as f32).min(1.0);
        let left = match decay {
            Decay::Constant => 1.0,
            Decay::Cosine => 0.5 * (1.0 + (std::f32::consts::PI * progress).cos()),
            Decay::Linear => 1.0 - progress,
            Decay::Wsd => {
                let span = (num_steps as f32 * decay_share).max(1.0);
                (num_steps.saturating_sub(step) as f32 / span).min(1.0)
            }
        };
        lr * (min_lr_share + (1.0 - min_lr_share) * left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lr_rises_stays_or_falls_as_it_is_told() {
        let schedule =
            |decay| Schedule { lr: 1.0, warmup_steps: 10, decay, min_lr_share: 0.1, decay_share: 0.2 };
        let check = |decay: Decay, expected: [(usize, f32); 5]| {
            for (step, lr) in expected {
                let actual = schedule(decay).lr_at(step, 100);
                assert!((actual - lr).abs() < 1e-6, "{decay:?} at {step}: {actual}, expected {lr}");
            }
        };
        check(Decay::Cosine, [(0, 0.1), (9, 1.0), (10, 1.0), (55, 0.55), (100, 0.1)]);
        check(Decay::Linear, [(0, 0.1), (9, 1.0), (10, 1.0), (55, 0.55), (100, 0.1)]);
        check(Decay::Wsd, [(0, 0.1), (10, 1.0), (80, 1.0), (90, 0.55), (100, 0.1)]);
        check(Decay::Constant, [(0, 0.1), (10, 1.0), (50, 1.0), (99, 1.0), (100, 1.0)]);
    }
}
