//! Pretraining, and training of all weights in general: token shards in, a model and its curves out.
//!
//! In: shards packed into rows, for training and for validation; a new decoder's sizes, or a decoder to go on from.
//! Shards with a mask make it fine-tuning of all weights: only tokens of the mask count. Out: a folder with the model of
//! the lowest validation loss. The forward is the one generation uses. Left out: several machines.
//!
//! * [`config`] — everything that decides a run
//! * `rows` — rows of a packing to inputs and targets
//! * `step` — one update, and the validation loss
//! * `state` — what lets a killed run go on as if nothing had happened

pub mod config;
mod rows;
mod state;
mod step;

use std::path::Path;
use std::time::Duration;

use hearth_artifacts::progress::{Event, Progress};
use hearth_artifacts::shards::TokenShards;
use hearth_artifacts::shards::packing::Packing;
use hearth_kernels::pool::Pool;
use hearth_model::Decoder;

use crate::checkpoints::Checkpoints;
use crate::error::Result;
use crate::guard::OnSpike;
use crate::metrics::Metrics;
use crate::sft::{Curve, Loss};
use crate::sitting::{Done, Limits, Look, Sitting, Training};
pub use config::{Method, PretrainConfig};
use state::State;
use step::Trainer;
pub use step::Validation;

/// What a run works on.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// What progress calls the run.
    pub stage: &'static str,
    pub train: (&'a TokenShards, &'a Packing),
    pub validation: (&'a TokenShards, &'a Packing),
    /// Where training goes on from; a new decoder without it.
    pub initial: Option<&'a Decoder>,
    /// `config.json` of what is written.
    pub config_json: &'a serde_json::Value,
    /// Bytes of text that each token stands for.
    pub token_bytes: Option<&'a [u32]>,
    pub checkpoints: Checkpoints<'a>,
    /// Where figures go, a line a step.
    pub metrics: Option<&'a Path>,
    pub on_spike: OnSpike,
    /// Time the run may take in all; it then ends as if the last step were done.
    pub time_budget: Option<Duration>,
    /// Says something with the model as it is, at each look at the validation split.
    pub sample: Option<&'a dyn Fn(&Decoder) -> String>,
}

impl std::fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input").field("train", &self.train.0.folder()).finish_non_exhaustive()
    }
}

/// Shards, dealt into rows, with the length of each document.
struct Set<'a> {
    shards: &'a TokenShards,
    packing: &'a Packing,
    lengths: Vec<u32>,
}

#[derive(Debug)]
pub struct Output {
    /// The one with the lowest validation loss.
    pub decoder: Decoder,
    pub curve: Curve,
    /// Of the best step.
    pub best: Validation,
    pub steps: usize,
    /// Tokens that went through forward and backward.
    pub tokens: u64,
    /// Time spent in this and earlier sittings of the run.
    pub seconds: f64,
    /// Why the run ended before its last step, if it did.
    pub stopped_early: Option<String>,
}

/// Trains all weights, or goes on with it.
pub fn run(
    config: &PretrainConfig,
    input: &Input<'_>,
    pool: &Pool,
    progress: &dyn Progress,
) -> Result<Output> {
    let trainer = Trainer::new(config, input, pool)?;
    let fingerprint = state::fingerprint(config, input);
    let before = match input.checkpoints.load(&fingerprint)? {
        Some(folder) => Some(State::read(&folder, config, pool)?),
        None => None,
    };
    let metrics = Metrics::open(input.metrics, before.as_ref().map(|state| state.step))?;
    let state = match before {
        Some(state) => state,
        None => State::fresh(config, input)?,
    };
    let limits = Limits {
        num_steps: config.num_steps,
        validate_every: config.validate_every,
        patience: config.patience,
        time_budget: input.time_budget,
    };
    let kept = (input.checkpoints, fingerprint);
    let training = Whole { trainer, state };
    let mut sitting = Sitting::new(training, input.stage, limits, kept, (metrics, progress));
    let stopped_early = sitting.run()?;
    let State { step, curve, best, best_decoder, decoder, tokens, seconds, .. } = sitting.training.state;
    let summary = format!("{step} steps, {tokens} tokens, validation {:.4}", best.loss);
    progress.event(Event::Finish { stage: input.stage, summary: &summary });
    let decoder = best_decoder.unwrap_or(decoder);
    Ok(Output { decoder, curve, best, steps: step, tokens, seconds, stopped_early })
}

/// All weights of a decoder under training.
struct Whole<'a> {
    trainer: Trainer<'a>,
    state: State,
}

impl Training for Whole<'_> {
    fn step(&self) -> usize {
        self.state.step
    }

    fn curve(&self) -> &Curve {
        &self.state.curve
    }

    fn seconds(&mut self) -> &mut f64 {
        &mut self.state.seconds
    }

    fn update(&mut self) -> Result<Done> {
        let done = self.trainer.step(&mut self.state)?;
        self.state.tokens += done.tokens as u64;
        Ok(done)
    }

    fn look(&mut self) -> Result<Look> {
        let step = self.state.step;
        let validation = self.trainer.validate(&self.state.decoder, step)?;
        let Validation { loss, bits_per_byte } = validation;
        if self.state.curve.validation.is_empty() || loss < self.state.best.loss {
            self.state.best = validation;
            self.state.best_decoder = Some(self.state.decoder.clone());
        }
        self.state.curve.validation.push(Loss { step, loss });
        let sample = self.trainer.input.sample.map(|sample| sample(&self.state.decoder));
        Ok(Look { bits_per_byte, sample })
    }

    fn write(&mut self, folder: &Path) -> Result<()> {
        self.state.write(folder, self.trainer.input.config_json)
    }
}
