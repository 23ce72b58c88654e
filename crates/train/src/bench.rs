//! How fast a training step of a small decoder is: forward, backward and update on one fixed batch.
//!
//! The shapes are those of common comparisons with `PyTorch`: tied embedding, as many key heads as heads, no biases,
//! `AdamW` with decay on every tensor, no clipping.

use std::time::Instant;

use hearth_kernels::pool::Pool;
use hearth_model::Decoder;
use hearth_model::trained::Sizes;
use hearth_tensor::optimizer::{AdamW, AdamWConfig};
use hearth_tensor::tape::{Gradients, Keep, Tape};
use hearth_tensor::tensor::Arena;

use crate::error::Result;

const VOCAB_SIZE: usize = 8192;
const SEQUENCE: usize = 256;
/// Steps before the first that counts.
const WARM: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// 7 M parameters, 8 sequences a step.
    Small,
    /// 30 M parameters, 4 sequences a step.
    Large,
}

impl Shape {
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
        }
    }

    fn sizes(self) -> (Sizes, usize) {
        let (hidden_size, num_layers, intermediate_size, batch) = match self {
            Self::Small => (256, 6, 704, 8),
            Self::Large => (512, 8, 1408, 4),
        };
        let sizes = Sizes {
            vocab_size: VOCAB_SIZE,
            hidden_size,
            num_layers,
            num_heads: 8,
            num_kv_heads: 8,
            intermediate_size,
            max_seq_len: SEQUENCE,
            rope_theta: 10_000.0,
            rms_norm_eps: 1e-5,
            qk_norm: false,
            tied: true,
        };
        (sizes, batch)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Speed {
    /// Of the median step.
    pub tokens_per_s: f64,
    pub step_ms: f64,
    pub first_loss: f64,
    pub last_loss: f64,
}

/// Times `steps` steps after a few warm ones.
///
/// # Panics
/// If `steps` is 0.
pub fn run(shape: Shape, steps: usize, pool: &Pool) -> Result<Speed> {
    let (sizes, batch) = shape.sizes();
    let mut decoder = Decoder::fresh(&sizes, 0)?;
    let mut optimizer = AdamW::new(AdamWConfig {
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        decay_vectors: true,
        max_gradient_norm: None,
    });
    let tokens = batch * SEQUENCE;
    let ids = |seed: usize| -> Vec<u32> {
        (0..tokens).map(|i| ((i + seed) * 7919 % 1_000_003 % VOCAB_SIZE) as u32).collect()
    };
    let (x, y) = (ids(0), ids(500_009));
    let (rows, weights, lens) = ((0..tokens).collect::<Vec<_>>(), vec![1.0; tokens], vec![SEQUENCE; batch]);
    let (arena, mut gradients) = (Arena::default(), Gradients::new());
    let (mut times, mut losses) = (Vec::new(), Vec::new());
    for _ in 0..WARM + steps {
        let start = Instant::now();
        let mut tape = Tape::new(pool, &arena, &lens, Keep::Projections);
        losses.push(decoder.cross_entropy(&mut tape, &x, &rows, (&y, &weights)));
        gradients.clear();
        tape.backward_into(1.0, &mut gradients);
        decoder.update(|params| {
            optimizer.step(pool, params.into_iter().map(|named| named.param), &gradients, 1e-3)
        })?;
        times.push(start.elapsed().as_secs_f64());
    }
    let times = &mut times[WARM..];
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    Ok(Speed {
        tokens_per_s: tokens as f64 / median,
        step_ms: median * 1e3,
        first_loss: losses[0],
        last_loss: losses[losses.len() - 1],
    })
}
