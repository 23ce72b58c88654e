//! Supervised fine-tuning of a low-rank adapter on a frozen, possibly quantised decoder (QLoRA, Dettmers et
//! al. 2023).
//!
//! In: examples whose mask says which tokens the assistant wrote. Out: the adapter with the lowest validation
//! loss, and the curve. The forward is the one generation uses, quantised products included; what a step computes is
//! in `step`. Full fine-tuning would stand beside: another kind of trained weights, the same loop.

mod step;

use std::path::Path;
use std::time::Duration;

use hearth_artifacts::progress::{Event, Progress};
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
use crate::metrics::Metrics;
use crate::sitting::{Done, Limits, Look, Sitting, Training};
use step::Trainer;

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
    let trainer = Trainer::new(config, input, pool);
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
    let limits = Limits {
        num_steps: plan.len(),
        validate_every: config.validate_every,
        patience: config.patience,
        time_budget: input.time_budget,
    };
    let training = Adapting { trainer, state, plan };
    let kept = (input.checkpoints, fingerprint);
    let mut sitting = Sitting::new(training, STAGE, limits, kept, (metrics, progress));
    if is_new {
        sitting.write_look(None)?;
    }
    let stopped_early = sitting.run()?;
    let Adapting { state, plan, .. } = sitting.training;
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

/// An adapter under training.
struct Adapting<'a> {
    trainer: Trainer<'a>,
    state: State,
    /// Examples of each step.
    plan: Vec<Vec<usize>>,
}

impl Training for Adapting<'_> {
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
        let batch = &self.plan[self.state.step];
        self.trainer.step(&mut self.state, batch)
    }

    fn look(&mut self) -> Result<Look> {
        let State { step, .. } = self.state;
        let loss = self.trainer.validation_loss(&self.state.adapter, step)?;
        let best = self.state.curve.best().map_or(f64::INFINITY, |best| best.loss);
        if loss < best {
            self.state.best = self.state.adapter.clone();
        }
        self.state.curve.validation.push(Loss { step, loss });
        Ok(Look::default())
    }

    fn write(&mut self, folder: &Path) -> Result<()> {
        self.state.write(folder)
    }
}
