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
    /// Peak learning rate, reached after `warmup_steps` and lowered along a cosine to a tenth.
    pub lr: f32,
    pub warmup_steps: usize,
    pub weight_decay: f32,
    /// Gradients are scaled down to this norm.
    pub max_gradient_norm: f32,
    /// Steps between two looks at the validation split.
    pub validate_every: usize,
    /// Looks without a better validation loss after which the run ends.
    pub patience: usize,
}

impl SftConfig {
    /// The learning rate of a step, counted from 0.
    pub fn lr_at(&self, step: usize) -> f32 {
        if step < self.warmup_steps {
            return self.lr * (step + 1) as f32 / self.warmup_steps as f32;
        }
        let span = self.max_steps.saturating_sub(self.warmup_steps).max(1);
        let progress = ((step - self.warmup_steps) as f32 / span as f32).min(1.0);
        let cosine = 0.5 * (1.0 + (std::f32::consts::PI * progress).cos());
        self.lr * (0.1 + 0.9 * cosine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lr_rises_peaks_and_falls_to_a_tenth() {
        let config = SftConfig {
            lora: LoraConfig { r: 4, lora_alpha: 8.0, target_modules: vec![] },
            seed: 0,
            max_steps: 100,
            batch_tokens: 64,
            lr: 1.0,
            warmup_steps: 10,
            weight_decay: 0.0,
            max_gradient_norm: 1.0,
            validate_every: 10,
            patience: 2,
        };
        assert!((config.lr_at(0) - 0.1).abs() < 1e-6);
        assert!((config.lr_at(10) - 1.0).abs() < 1e-6);
        assert!((config.lr_at(55) - 0.55).abs() < 1e-6);
        assert!((config.lr_at(100) - 0.1).abs() < 1e-6);
    }
}
