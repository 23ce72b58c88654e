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
use std::time::{Duration, Instant};

use hearth_artifacts::progress::{Event, Progress, Unit};
use hearth_artifacts::shards::TokenShards;
use hearth_artifacts::shards::packing::Packing;
use hearth_kernels::pool::Pool;
use hearth_model::Decoder;

use crate::checkpoints::Checkpoints;
use crate::error::{Error, Result};
use crate::guard::OnSpike;
use crate::metrics::{Metric, Metrics, memory_mib};
use crate::sft::{Curve, Loss};
pub use config::{Method, PretrainConfig};
use state::State;
pub use step::Validation;
use step::{Done, Trainer};

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
    let (start, before) = (Instant::now(), state.seconds);
    let mut run = Run { trainer, state, metrics, start, before, fingerprint, progress };
    progress.event(Event::Start {
        stage: input.stage,
        total: Some(config.num_steps as u64),
        unit: Unit::Steps,
    });
    if run.state.curve.validation.is_empty() {
        run.validate()?;
    }
    let stopped_early = run.steps()?;
    if run.state.curve.validation.last().is_none_or(|last| last.step != run.state.step) {
        run.validate()?;
    }
    run.save()?;
    let State { step, curve, best, best_decoder, decoder, tokens, seconds, .. } = run.state;
    let summary = format!("{step} steps, {tokens} tokens, validation {:.4}", best.loss);
    progress.event(Event::Finish { stage: input.stage, summary: &summary });
    let decoder = best_decoder.unwrap_or(decoder);
    Ok(Output { decoder, curve, best, steps: step, tokens, seconds, stopped_early })
}

/// A run under way.
struct Run<'a> {
    trainer: Trainer<'a>,
    state: State,
    metrics: Metrics,
    /// Of this sitting, and the seconds of those before.
    start: Instant,
    before: f64,
    fingerprint: String,
    progress: &'a dyn Progress,
}

impl Run<'_> {
    fn seconds(&self) -> f64 {
        self.before + self.start.elapsed().as_secs_f64()
    }

    /// Steps until the plan, the budget or the patience ends; why, if it isn't the plan.
    fn steps(&mut self) -> Result<Option<String>> {
        let (num_steps, validate_every) =
            (self.trainer.config.num_steps, self.trainer.config.validate_every.max(1));
        let mut saved = Instant::now();
        while self.state.step < num_steps {
            self.state.seconds = self.seconds();
            if self.progress.cancelled() {
                self.save()?;
                return Err(Error::Cancelled { step: self.state.step });
            }
            if let Some(reason) = self.reason_to_stop() {
                return Ok(Some(reason));
            }
            self.step()?;
            if self.state.step.is_multiple_of(validate_every) || self.state.step == num_steps {
                self.validate()?;
            }
            self.progress
                .event(Event::Advance { stage: self.trainer.input.stage, done: self.state.step as u64 });
            if saved.elapsed().as_secs() >= self.trainer.input.checkpoints.every_seconds {
                self.save()?;
                saved = Instant::now();
            }
        }
        Ok(None)
    }

    fn step(&mut self) -> Result<()> {
        let began = Instant::now();
        let done = match self.trainer.step(&mut self.state) {
            // The state before the bad step is worth keeping.
            Err(error @ (Error::Spike { .. } | Error::NotFinite { .. } | Error::Gradient { .. })) => {
                self.save()?;
                return Err(error);
            }
            done => done?,
        };
        let Done { loss, lr, gradient_norm, tokens, learned_tokens, spike } = done;
        if let Some(text) = spike {
            self.progress.event(Event::Note { stage: self.trainer.input.stage, text: &text });
        }
        self.state.tokens += tokens as u64;
        let tokens_per_s = tokens as f64 / began.elapsed().as_secs_f64();
        let memory = memory_mib();
        self.metrics.write(&Metric {
            step: self.state.step,
            loss: Some(loss),
            lr: Some(lr),
            gradient_norm: Some(gradient_norm),
            tokens: Some(tokens),
            learned_tokens: Some(learned_tokens),
            tokens_per_s: Some(tokens_per_s),
            seconds: self.seconds(),
            memory_mib: memory.map(|(now, _)| now),
            ..Metric::default()
        })?;
        let validation = self.state.curve.validation.last().map_or(f64::NAN, |last| last.loss);
        let memory = memory.map_or_else(String::new, |(now, _)| format!(", {now} MiB"));
        let text = format!("loss {loss:.3}, validation {validation:.3}, {tokens_per_s:.0} tok/s{memory}");
        self.progress.event(Event::Status { stage: self.trainer.input.stage, text: &text });
        Ok(())
    }

    fn save(&mut self) -> Result<()> {
        self.state.seconds = self.seconds();
        let State { step, .. } = self.state;
        let input = self.trainer.input;
        input.checkpoints.save(&self.fingerprint, step, |folder| self.state.write(folder, input.config_json))
    }

    fn validate(&mut self) -> Result<()> {
        let step = self.state.step;
        let validation = self.trainer.validate(&self.state.decoder, step)?;
        let Validation { loss, bits_per_byte } = validation;
        if self.state.curve.validation.is_empty() || loss < self.state.best.loss {
            self.state.best = validation;
            self.state.best_decoder = Some(self.state.decoder.clone());
        }
        self.state.curve.validation.push(Loss { step, loss });
        self.metrics.write(&Metric {
            step,
            validation_loss: Some(loss),
            bits_per_byte,
            seconds: self.seconds(),
            memory_mib: memory_mib().map(|(now, _)| now),
            ..Metric::default()
        })?;
        let train = self.state.curve.train.last();
        let train = train.map_or_else(String::new, |last| format!("loss {:.3}, ", last.loss));
        let bits = bits_per_byte.map_or_else(String::new, |bits| format!(", {bits:.3} bits a byte"));
        let mut text = format!("step {step}: {train}validation {loss:.3}{bits}");
        if let Some(sample) = self.trainer.input.sample {
            text = format!("{text}\n  {}", sample(&self.state.decoder));
        }
        self.progress.event(Event::Note { stage: self.trainer.input.stage, text: &text });
        Ok(())
    }

    /// Overfitting or the end of the time budget.
    fn reason_to_stop(&self) -> Option<String> {
        let (config, losses) = (self.trainer.config, &self.state.curve.validation);
        let best = losses.iter().min_by(|a, b| a.loss.total_cmp(&b.loss))?;
        let since = losses.iter().filter(|entry| entry.step > best.step).count();
        if since >= config.patience {
            let (step, loss) = (best.step, best.loss);
            return Some(format!(
                "validation loss was lowest at step {step} ({loss:.3}) and rose in {since} later looks: overfitting"
            ));
        }
        let budget = self.trainer.input.time_budget?.as_secs_f64();
        (self.state.seconds > budget).then(|| {
            format!(
                "the time budget of {budget:.0} s ended at step {} of {}",
                self.state.step, config.num_steps
            )
        })
    }
}
