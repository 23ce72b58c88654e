//! Everything that decides a pretraining run: the same config, shards and weights give the same losses to the bit.

use hearth_model::trained::Sizes;
use hearth_tensor::optimizer::AdamWConfig;
use hearth_tensor::optimizer::muon::MuonConfig;
use serde::{Deserialize, Serialize};

use crate::schedule::Schedule;

/// What moves the matrices inside layers; embeddings, heads and vectors are `AdamW`'s in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    AdamW,
    #[default]
    Muon,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainConfig {
    /// Of a new model; of none where training goes on from one.
    pub sizes: Option<Sizes>,
    pub seed: u64,
    pub num_steps: usize,
    /// Tokens of a row: parts of documents side by side, none seeing the other.
    pub seq_len: u32,
    /// Rows of a step, and how many go through the model at a time.
    pub batch_rows: usize,
    pub micro_rows: usize,
    pub method: Method,
    pub schedule: Schedule,
    pub beta1: f32,
    pub beta2: f32,
    /// Of Muon.
    pub momentum: f32,
    pub weight_decay: f32,
    pub max_gradient_norm: f32,
    /// Projections are computed again in the backward: less memory, more time.
    pub recompute: bool,
    /// Steps between two looks at the validation split, rows of a look at most, and looks without a better loss after
    /// which the run ends.
    pub validate_every: usize,
    pub validation_rows: u64,
    pub patience: usize,
}

impl PretrainConfig {
    pub(crate) fn adamw(&self) -> AdamWConfig {
        AdamWConfig {
            beta1: self.beta1,
            beta2: self.beta2,
            eps: 1e-8,
            weight_decay: self.weight_decay,
            decay_vectors: false,
            // The norm is over the gradients of both optimisers.
            max_gradient_norm: None,
        }
    }

    pub(crate) fn muon(&self) -> MuonConfig {
        MuonConfig { momentum: self.momentum, weight_decay: self.weight_decay }
    }

    /// A decoder by one dial: `depth` layers of 64 channels each for every layer, heads of 64 channels, an MLP of
    /// 8/3 of the width, rounded up to whole lines of 64.
    pub fn sizes_of_depth(depth: usize, vocab_size: usize, max_seq_len: usize) -> Sizes {
        let hidden_size = 64 * depth;
        Sizes {
            vocab_size,
            hidden_size,
            num_layers: depth,
            num_heads: depth,
            num_kv_heads: depth,
            intermediate_size: (hidden_size * 8).div_ceil(3).next_multiple_of(64),
            max_seq_len,
            rope_theta: 10_000.0,
            rms_norm_eps: 1e-6,
            qk_norm: true,
            tied: true,
        }
    }
}
