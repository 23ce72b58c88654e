//! Everything that decides a run: the same config, data and weights give the same adapter to the bit.

use hearth_model::LoraConfig;
use serde::{Deserialize, Serialize};

use crate::schedule::{Decay, Schedule};

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
    pub schedule: Decay,
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

impl SftConfig {
    /// The learning rate of a step, counted from 0: a cosine ends at a tenth of the peak, lines end at zero, and
    /// [`Decay::Wsd`] falls in the last fifth of what follows the warmup.
    pub fn lr_at(&self, step: usize) -> f32 {
        let after_warmup = self.max_steps.saturating_sub(self.warmup_steps) as f32;
        let schedule = Schedule {
            lr: self.lr,
            warmup_steps: self.warmup_steps,
            decay: self.schedule,
            min_lr_share: if self.schedule == Decay::Cosine { 0.1 } else { 0.0 },
            decay_share: 0.2 * after_warmup / self.max_steps.max(1) as f32,
        };
        schedule.lr_at(step, self.max_steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lr_rises_peaks_and_falls_as_the_schedule_says() {
        for (schedule, middle, late, end) in [
            (Decay::Cosine, 0.55, 0.122, 0.1),
            (Decay::Linear, 0.5, 0.1, 0.0),
            (Decay::Constant, 1.0, 1.0, 1.0),
            (Decay::Wsd, 1.0, 0.5, 0.0),
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
