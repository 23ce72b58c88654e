//! Supervised fine-tuning of a low-rank adapter on a frozen, possibly quantised decoder (QLoRA, Dettmers et
//! al. 2023).
//!
//! In: examples whose mask says which tokens the assistant wrote. Out: the adapter with the lowest validation
//! loss, and the curve. The forward is the one generation uses, quantised products included; what a step computes is
//! in `step`. Full fine-tuning would stand beside: another kind of trained weights, the same loop.

mod step;

use std::path::Path;
use std::time::{Duration, Instant};

use hearth_artifacts::progress::{Event, Progress, Unit};
use hearth_kernels::pool::Pool;
use hearth_model::{Adapter, Decoder};
use hearth_tokenizer::Example;
use serde::{Deserialize, Serialize};

use crate::batches;
use crate::checkpoint::{self, Checkpoints, State};
use crate::config::SftConfig;
use crate::conversations::Place;
use crate::error::{Error, Result};
use crate::guard::OnSpike;
use crate::metrics::{Metric, Metrics, memory_mib};
use step::{Done, Trainer};

const STAGE: &str = "train";

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    pub step: usize,
    pub loss: f64,
}

/// Mean losses per token the assistant wrote: of each step's batch before its update, and of the validation split.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    pub train: Vec<Loss>,
    pub validation: Vec<Loss>,
}

#[derive(Debug)]
pub struct Output {
    /// The adapter with the lowest validation loss; the untrained one, which changes nothing, if none was lower.
    pub adapter: Adapter,
    pub curve: Curve,
    pub steps: usize,
    /// Tokens that went through forward and backward.
    pub tokens: usize,
    /// Time spent in this and earlier sittings of the run.
    pub seconds: f64,
    /// Why the run ended before its last step, if it did.
    pub stopped_early: Option<String>,
}

/// What a run works on.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    pub decoder: &'a Decoder,
    pub train: &'a [Example],
    pub validation: &'a [Example],
    /// Where the examples stand, those to train on first; examples without one are named by their number.
    pub places: &'a [Place],
    pub checkpoints: Checkpoints<'a>,
    /// Where figures go, a line a step.
    pub metrics: Option<&'a Path>,
    pub on_spike: OnSpike,
    /// Time the run may take in all; it then ends as if the last step were done.
    pub time_budget: Option<Duration>,
}

impl Input<'_> {
    /// What an example is called in messages; those to validate with are counted on behind those to train on.
    fn name(&self, index: usize) -> String {
        self.places.get(index).map_or_else(|| format!("example {index}"), ToString::to_string)
    }
}

/// Trains an adapter, or goes on with it.
pub fn run(config: &SftConfig, input: &Input<'_>, pool: &Pool, progress: &dyn Progress) -> Result<Output> {
    check(input)?;
    let fingerprint = checkpoint::fingerprint(config, input.decoder, [input.train, input.validation]);
    let mut trainer = Trainer::new(config, input, pool);
    let before = match input.checkpoints.load(&fingerprint)? {
        Some(folder) => Some(State::read(&folder, input.decoder, trainer.adamw())?),
        None => None,
    };
    let metrics = Metrics::open(input.metrics, before.as_ref().map(|state| state.step))?;
    let is_new = before.is_none();
    let state = match before {
        Some(state) => state,
        None => trainer.fresh()?,
    };
    let plan = batches::plan(input.train, config.batch_tokens, config.max_steps, config.seed);
    let (start, before) = (Instant::now(), state.seconds);
    let mut run = Run { trainer, state, metrics, start, before, fingerprint, progress };
    if is_new {
        run.metrics.write(&run.looked())?;
    }
    progress.event(Event::Start { stage: STAGE, total: Some(plan.len() as u64), unit: Unit::Steps });
    let stopped_early = run.steps(&plan)?;
    if run.state.curve.validation.last().is_none_or(|last| last.step != run.state.step) {
        run.validate()?;
    }
    run.save()?;
    let state = run.state;
    let tokens = tokens_of(input, plan[..state.step].iter().flatten());
    let summary = format!("{} steps, {tokens} tokens", state.step);
    progress.event(Event::Finish { stage: STAGE, summary: &summary });
    Ok(Output {
        adapter: state.best,
        curve: state.curve,
        steps: state.step,
        tokens,
        seconds: state.seconds,
        stopped_early,
    })
}

fn tokens_of<'i>(input: &Input<'_>, indices: impl Iterator<Item = &'i usize>) -> usize {
    indices.map(|&index| input.train[index].ids.len()).sum()
}

fn check(input: &Input<'_>) -> Result<()> {
    let (train, validation) = (input.train.len(), input.validation.len());
    if train == 0 || validation == 0 {
        return Err(Error::NoExamples { train, validation });
    }
    let max_seq_len = input.decoder.config.max_seq_len;
    for (index, example) in input.train.iter().chain(input.validation).enumerate() {
        let num_tokens = example.ids.len();
        if num_tokens > max_seq_len {
            return Err(Error::TooLong { example: input.name(index), num_tokens, max_seq_len });
        }
        // The first token is never predicted.
        let learned = learned_tokens(example);
        if learned == 0 || example.mask.iter().all(|&learn| learn) {
            return Err(Error::Mask { example: input.name(index), value: learned > 0 });
        }
    }
    Ok(())
}

/// Tokens of an example that count for the loss.
fn learned_tokens(example: &Example) -> usize {
    example.mask.iter().skip(1).filter(|&&learn| learn).count()
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
    fn steps(&mut self, plan: &[Vec<usize>]) -> Result<Option<String>> {
        let config = self.trainer.config;
        let mut saved = Instant::now();
        while self.state.step < plan.len() {
            self.state.seconds = self.seconds();
            if self.progress.cancelled() {
                self.save()?;
                return Err(Error::Cancelled { step: self.state.step });
            }
            if let Some(reason) = self.reason_to_stop() {
                return Ok(Some(reason));
            }
            self.step(&plan[self.state.step])?;
            if self.state.step.is_multiple_of(config.validate_every) || self.state.step == plan.len() {
                self.validate()?;
            }
            self.progress.event(Event::Advance { stage: STAGE, done: self.state.step as u64 });
            if saved.elapsed().as_secs() >= self.trainer.input.checkpoints.every_seconds {
                self.save()?;
                saved = Instant::now();
            }
        }
        Ok(None)
    }

    /// One update from one batch, and what is told of it.
    fn step(&mut self, batch: &[usize]) -> Result<()> {
        let began = Instant::now();
        let done = match self.trainer.step(&mut self.state, batch) {
            // The state before the bad step is worth keeping.
            Err(error @ (Error::Spike { .. } | Error::NotFinite { .. } | Error::Gradient { .. })) => {
                self.save()?;
                return Err(error);
            }
            done => done?,
        };
        let Done { loss, lr, gradient_norm, spike } = done;
        if let Some(text) = spike {
            self.progress.event(Event::Note { stage: STAGE, text: &text });
        }
        let input = self.trainer.input;
        let tokens = tokens_of(input, batch.iter());
        let tokens_per_s = tokens as f64 / began.elapsed().as_secs_f64();
        let memory = memory_mib();
        self.metrics.write(&Metric {
            step: self.state.step,
            loss: Some(loss),
            lr: Some(lr),
            gradient_norm: Some(gradient_norm),
            tokens: Some(tokens),
            learned_tokens: Some(batch.iter().map(|&index| learned_tokens(&input.train[index])).sum()),
            tokens_per_s: Some(tokens_per_s),
            seconds: self.seconds(),
            memory_mib: memory.map(|(now, _)| now),
            ..Metric::default()
        })?;
        let validation = self.state.curve.validation.last().map_or(f64::NAN, |last| last.loss);
        let memory = memory.map_or_else(String::new, |(now, _)| format!(", {now} MiB"));
        let text = format!("loss {loss:.3}, validation {validation:.3}, {tokens_per_s:.0} tok/s{memory}");
        self.progress.event(Event::Status { stage: STAGE, text: &text });
        Ok(())
    }

    fn save(&mut self) -> Result<()> {
        self.state.seconds = self.seconds();
        let Self { state, fingerprint, .. } = self;
        self.trainer.input.checkpoints.save(fingerprint, state.step, |folder| state.write(folder))
    }

    fn validate(&mut self) -> Result<()> {
        let loss = self.trainer.validation_loss(&self.state.adapter, self.state.step)?;
        let best = self.state.curve.best().map_or(f64::INFINITY, |best| best.loss);
        if loss < best {
            self.state.best = self.state.adapter.clone();
        }
        self.state.curve.validation.push(Loss { step: self.state.step, loss });
        self.metrics.write(&self.looked())?;
        let train = self.state.curve.train.last().map_or(f64::NAN, |last| last.loss);
        let text = format!("step {}: loss {train:.3}, validation {loss:.3}", self.state.step);
        self.progress.event(Event::Note { stage: STAGE, text: &text });
        Ok(())
    }

    /// The last look at the validation split as a line.
    fn looked(&self) -> Metric {
        let last = self.state.curve.validation.last();
        Metric {
            step: self.state.step,
            validation_loss: last.map(|last| last.loss),
            seconds: self.seconds(),
            memory_mib: memory_mib().map(|(now, _)| now),
            ..Metric::default()
        }
    }

    /// Overfitting or the end of the time budget.
    fn reason_to_stop(&self) -> Option<String> {
        let (config, losses) = (self.trainer.config, &self.state.curve.validation);
        let best = self.state.curve.best()?;
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
                self.state.step, config.max_steps
            )
        })
    }
}
