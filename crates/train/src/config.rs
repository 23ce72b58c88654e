//! Everything that decides a run: the same config, data and weights give the same adapter to the bit.

use hearth_model::LoraConfig;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SftConfig {
    pub lora: LoraConfig,
    pub seed: u64,
    /// Optimiser steps at most.
    pub max_steps: usize,
    /// Tokens of a step at most, all examples together; one example alone may be longer.
    pub batch_tokens: usize,
    /// Tokens that go through the model together: fewer need less memory. Gradients of a step's parts are added.
    pub micro_batch_tokens: usize,
    /// Keep little of the forward pass and compute the rest again in the backward: less memory, more time.
    pub recompute: bool,
    /// Peak learning rate, reached after `warmup_steps`.
    pub lr: f32,
    pub schedule: Schedule,
    pub warmup_steps: usize,
    pub weight_decay: f32,
    /// Gradients are scaled down to this norm.
    pub max_gradient_norm: f32,
    /// Size of the noise on embeddings (`NEFTune`); none without it.
    pub neftune_alpha: Option<f32>,
    /// Steps between two looks at the validation split.
    pub validate_every: usize,
    /// Looks without a better validation loss after which the run ends.
    pub patience: usize,
}

/// What becomes of the learning rate after the warmup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Along a cosine to a tenth.
    Cosine,
    /// Along a line to zero.
    Linear,
    Constant,
    /// Warmup, stable, decay (Hu et al. 2024): constant, and along a line to zero in the last fifth.
    Wsd,
}

/// The part of a run in which [`Schedule::Wsd`] decays.
const DECAY_SHARE: f32 = 0.2;

impl SftConfig {
    /// The learning rate of a step, counted from 0.
    pub fn lr_at(&self, step: usize) -> f32 {
        if step < self.warmup_steps {
            return self.lr * (step + 1) as f32 / self.warmup_steps as f32;
        }
        let span = self.max_steps.saturating_sub(self.warmup_steps).max(1);
        let progress = ((step - self.warmup_steps) as f32 / span as f32).min(1.0);
        let factor = match self.schedule {
            Schedule::Cosine => 0.1 + 0.9 * 0.5 * (1.0 + (std::f32::consts::PI * progress).cos()),
            Schedule::Linear => 1.0 - progress,
            Schedule::Constant => 1.0,
            Schedule::Wsd => ((1.0 - progress) / DECAY_SHARE).min(1.0),
        };
        self.lr * factor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lr_rises_peaks_and_falls_as_the_schedule_says() {
        for (schedule, middle, late, end) in [
            (Schedule::Cosine, 0.55, 0.122, 0.1),
            (Schedule::Linear, 0.5, 0.1, 0.0),
            (Schedule::Constant, 1.0, 1.0, 1.0),
            (Schedule::Wsd, 1.0, 0.5, 0.0),
        ] {
            let config = SftConfig {
                lora: LoraConfig::default(),
                seed: 0,
                max_steps: 100,
                batch_tokens: 64,
                micro_batch_tokens: 64,
                recompute: false,
                lr: 1.0,
                schedule,
                warmup_steps: 10,
                weight_decay: 0.0,
                max_gradient_norm: 1.0,
                neftune_alpha: None,
                validate_every: 10,
                patience: 2,
            };
            for (step, expected) in [(0, 0.1), (10, 1.0), (55, middle), (91, late), (100, end)] {
                assert!((config.lr_at(step) - expected).abs() < 2e-3, "{schedule:?} at {step}");
            }
        }
    }
}
