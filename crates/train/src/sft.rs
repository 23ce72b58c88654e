//! Supervised fine-tuning of a low-rank adapter on a frozen, possibly quantised decoder (QLoRA, Dettmers et
//! al. 2023).
//!
//! In: examples whose mask says which tokens the assistant wrote. Out: the adapter with the lowest validation
//! loss, and the curve. Logits are computed only where the next token counts; frozen weights get no gradient.
//! The forward is the one generation uses, quantised products included.

use std::path::Path;
use std::time::{Duration, Instant};

use hearth_artifacts::progress::{Event, Progress, Unit};
use hearth_kernels::pool::Pool;
use hearth_model::{Adapter, Decoder};
use hearth_tensor::optimizer::{AdamW, AdamWConfig};
use hearth_tensor::tape::{Gradients, Keep, Tape};
use hearth_tensor::tensor::Arena;
use hearth_tokenizer::Example;
use serde::{Deserialize, Serialize};

use crate::batches;
use crate::checkpoint::{self, State};
use crate::config::SftConfig;
use crate::error::{Error, Result};

const STAGE: &str = "train";

/// Seconds between two checkpoints: writing one takes well below one.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(30);

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
    /// Where checkpoints go; a run that was stopped goes on from there.
    pub checkpoint: &'a Path,
    /// Time the run may take in all; it then ends as if the last step were done.
    pub time_budget: Option<Duration>,
}

/// Trains an adapter, or goes on with it.
pub fn run(config: &SftConfig, input: &Input<'_>, pool: &Pool, progress: &dyn Progress) -> Result<Output> {
    check(input)?;
    let fingerprint = checkpoint::fingerprint(config, input.decoder, [input.train, input.validation]);
    let mut trainer = Trainer { config, input, pool, arena: Arena::default() };
    let mut state = match checkpoint::load(input.checkpoint, &fingerprint, input.decoder, trainer.adamw())? {
        Some(state) => state,
        None => trainer.fresh()?,
    };
    let plan = batches::plan(input.train, config.batch_tokens, config.max_steps, config.seed);
    progress.event(Event::Start { stage: STAGE, total: Some(plan.len() as u64), unit: Unit::Steps });
    let (start, before) = (Instant::now(), state.seconds);
    let mut saved = Instant::now();
    let mut stopped_early = None;
    while state.step < plan.len() {
        state.seconds = before + start.elapsed().as_secs_f64();
        if progress.cancelled() {
            checkpoint::save(input.checkpoint, &fingerprint, &state)?;
            return Err(Error::Cancelled { step: state.step });
        }
        stopped_early = trainer.reason_to_stop(&state);
        if stopped_early.is_some() {
            break;
        }
        trainer.step(&mut state, &plan)?;
        if state.step.is_multiple_of(config.validate_every) || state.step == plan.len() {
            trainer.validate(&mut state, progress)?;
        }
        progress.event(Event::Advance { stage: STAGE, done: state.step as u64 });
        if saved.elapsed() > CHECKPOINT_EVERY {
            checkpoint::save(input.checkpoint, &fingerprint, &state)?;
            saved = Instant::now();
        }
    }
    if state.curve.validation.last().is_none_or(|last| last.step != state.step) {
        trainer.validate(&mut state, progress)?;
    }
    state.seconds = before + start.elapsed().as_secs_f64();
    checkpoint::save(input.checkpoint, &fingerprint, &state)?;
    let tokens = plan[..state.step].iter().flatten().map(|&i| input.train[i].ids.len()).sum();
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

fn check(input: &Input<'_>) -> Result<()> {
    let (train, validation) = (input.train.len(), input.validation.len());
    if train == 0 || validation == 0 {
        return Err(Error::NoExamples { train, validation });
    }
    let max_seq_len = input.decoder.config.max_seq_len;
    for (index, example) in input.train.iter().chain(input.validation).enumerate() {
        let num_tokens = example.ids.len();
        if num_tokens > max_seq_len {
            return Err(Error::TooLong { example: format!("example {index}"), num_tokens, max_seq_len });
        }
        // The first token is never predicted.
        let learned = example.mask.iter().skip(1).filter(|&&learn| learn).count();
        if learned == 0 || example.mask.iter().all(|&learn| learn) {
            return Err(Error::Mask { example: format!("example {index}"), value: learned > 0 });
        }
    }
    Ok(())
}

struct Trainer<'a> {
    config: &'a SftConfig,
    input: &'a Input<'a>,
    pool: &'a Pool,
    arena: Arena,
}

impl Trainer<'_> {
    fn adamw(&self) -> AdamWConfig {
        AdamWConfig {
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: self.config.weight_decay,
            decay_vectors: true,
            max_gradient_norm: Some(self.config.max_gradient_norm),
        }
    }

    fn fresh(&mut self) -> Result<State> {
        let adapter = Adapter::new(self.input.decoder, self.config.lora.clone(), self.config.seed)?;
        let mut state = State {
            step: 0,
            best: adapter.clone(),
            adapter,
            optimizer: AdamW::new(self.adamw()),
            curve: Curve::default(),
            seconds: 0.0,
        };
        let loss = self.validation_loss(&state.adapter, 0)?;
        state.curve.validation.push(Loss { step: 0, loss });
        Ok(state)
    }

    /// One update from one batch.
    fn step(&mut self, state: &mut State, plan: &[Vec<usize>]) -> Result<()> {
        let batch = &plan[state.step];
        let decoder = state.adapter.apply(self.input.decoder);
        let (loss, gradients) = self.gradients(&decoder, batch);
        drop(decoder);
        if !loss.is_finite() {
            return Err(Error::NotFinite {
                step: state.step,
                loss,
                suspects: batch
                    .iter()
                    .map(|i| crate::guard::Suspect { name: format!("example {i}"), loss })
                    .collect(),
            });
        }
        let lr = self.config.lr_at(state.step);
        state.optimizer.step(self.pool, state.adapter.params_mut(), &gradients, lr)?;
        state.curve.train.push(Loss { step: state.step, loss });
        state.step += 1;
        Ok(())
    }

    fn gradients(&mut self, decoder: &Decoder, batch: &[usize]) -> (f64, Gradients) {
        let examples: Vec<&Example> = batch.iter().map(|&index| &self.input.train[index]).collect();
        let (tape, loss) = self.forward(decoder, &examples, Keep::Projections);
        let mut gradients = Gradients::new();
        if loss.is_finite() {
            tape.backward_into(1.0, &mut gradients);
        }
        (loss, gradients)
    }

    /// The mean loss over the tokens the assistant wrote, examples laid one after the other.
    fn forward(&self, decoder: &Decoder, examples: &[&Example], keep: Keep) -> (Tape<'_>, f64) {
        let lens: Vec<usize> = examples.iter().map(|example| example.ids.len()).collect();
        let ids: Vec<u32> = examples.iter().flat_map(|example| example.ids.iter().copied()).collect();
        let (mut wanted, mut targets) = (Vec::new(), Vec::new());
        let mut first = 0;
        for example in examples {
            for i in 1..example.ids.len() {
                if example.mask[i] {
                    wanted.push(first + i - 1);
                    targets.push(example.ids[i]);
                }
            }
            first += example.ids.len();
        }
        let mut tape = Tape::new(self.pool, &self.arena, &lens, keep);
        let logits = decoder.logits(&mut tape, &ids, &wanted);
        let loss = tape.cross_entropy(logits, &targets, &vec![1.0; targets.len()]);
        (tape, loss)
    }

    fn validation_loss(&self, adapter: &Adapter, step: usize) -> Result<f64> {
        let decoder = adapter.apply(self.input.decoder);
        let examples = self.input.validation;
        let order: Vec<usize> = (0..examples.len()).collect();
        let (mut sum, mut count) = (0.0, 0.0);
        for batch in batches::fill(examples, &order, self.config.batch_tokens) {
            let chosen: Vec<&Example> = batch.iter().map(|&index| &examples[index]).collect();
            let tokens: usize =
                chosen.iter().map(|e| e.mask[1..].iter().filter(|&&learn| learn).count()).sum();
            let (_, loss) = self.forward(&decoder, &chosen, Keep::Little);
            if !loss.is_finite() {
                // Counted on behind those to train on, as everywhere in errors.
                let suspects = batch
                    .iter()
                    .map(|i| crate::guard::Suspect {
                        name: format!("example {}", i + self.input.train.len()),
                        loss,
                    })
                    .collect();
                return Err(Error::NotFinite { step, loss, suspects });
            }
            sum += loss * tokens as f64;
            count += tokens as f64;
        }
        Ok(sum / count)
    }

    fn validate(&mut self, state: &mut State, progress: &dyn Progress) -> Result<()> {
        let loss = self.validation_loss(&state.adapter, state.step)?;
        let best = state.curve.validation.iter().map(|entry| entry.loss).fold(f64::INFINITY, f64::min);
        if loss < best {
            state.best = state.adapter.clone();
        }
        state.curve.validation.push(Loss { step: state.step, loss });
        let train = state.curve.train.last().map_or(f64::NAN, |last| last.loss);
        let text = format!("step {}: loss {train:.3}, validation {loss:.3}", state.step);
        progress.event(Event::Note { stage: STAGE, text: &text });
        Ok(())
    }

    /// Overfitting or the end of the time budget.
    fn reason_to_stop(&self, state: &State) -> Option<String> {
        let losses = &state.curve.validation;
        let best = losses.iter().min_by(|a, b| a.loss.total_cmp(&b.loss))?;
        let since = losses.iter().filter(|entry| entry.step > best.step).count();
        if since >= self.config.patience {
            let (step, loss) = (best.step, best.loss);
            return Some(format!(
                "validation loss was lowest at step {step} ({loss:.3}) and rose in {since} later looks: overfitting"
            ));
        }
        let budget = self.input.time_budget?.as_secs_f64();
        (state.seconds > budget).then(|| {
            format!(
                "the time budget of {budget:.0} s ended at step {} of {}",
                state.step, self.config.max_steps
            )
        })
    }
}
