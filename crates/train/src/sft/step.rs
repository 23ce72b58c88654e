//! One step: a batch in parts through the tape, gradients added, the guard, the update; and the validation loss.
//!
//! Logits are computed only where the next token counts, some rows at a time; frozen weights get no gradient. A part's
//! share of the batch's mean is its share of the tokens that count, so parts change sums in their last bits only.

use hearth_kernels::pool::Pool;
use hearth_model::{Adapter, Decoder};
use hearth_tensor::optimizer::{AdamW, AdamWConfig};
use hearth_tensor::tape::{Gradients, Keep, Noise, Tape};
use hearth_tensor::tensor::Arena;
use hearth_tokenizer::Example;

use super::{Curve, Input, Loss, learned_tokens, tokens_of};
use crate::batches;
use crate::checkpoint::State;
use crate::config::SftConfig;
use crate::error::{Error, Result};
use crate::guard::{OnSpike, Suspect, spike, worst_first};
use crate::sitting::Done;

pub(super) struct Trainer<'a> {
    pub(super) config: &'a SftConfig,
    pub(super) input: &'a Input<'a>,
    pool: &'a Pool,
    arena: Arena,
}

impl<'a> Trainer<'a> {
    pub(super) fn new(config: &'a SftConfig, input: &'a Input<'a>, pool: &'a Pool) -> Self {
        Self { config, input, pool, arena: Arena::default() }
    }

    pub(super) fn adamw(&self) -> AdamWConfig {
        AdamWConfig {
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: self.config.weight_decay,
            decay_vectors: true,
            max_gradient_norm: Some(self.config.max_gradient_norm),
        }
    }

    pub(super) fn fresh(&self) -> Result<State> {
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

    /// One update from one batch; nothing has changed where it is refused.
    pub(super) fn step(&mut self, state: &mut State, batch: &[usize]) -> Result<Done> {
        let decoder = state.adapter.apply_on(self.pool, self.input.decoder);
        let (loss, gradients) = self.gradients(&decoder, batch, state.step);
        let step = state.step;
        if !loss.is_finite() {
            return Err(Error::NotFinite { step, loss, suspects: self.suspects(&decoder, batch) });
        }
        let mut note = None;
        if let Some(median) = spike(&state.curve.train, loss) {
            let error = Error::Spike { step, loss, median, suspects: self.suspects(&decoder, batch) };
            match self.input.on_spike {
                OnSpike::Stop => return Err(error),
                OnSpike::Note => note = Some(error.to_string()),
            }
        }
        let lr = self.config.lr_at(step);
        // The adapter's values are updated in their place once nobody else holds them.
        drop(decoder);
        let report = state.optimizer.step(self.pool, state.adapter.params_mut(), &gradients, lr).map_err(
            |source| {
                let decoder = state.adapter.apply_on(self.pool, self.input.decoder);
                Error::Gradient { step, lr, suspects: self.suspects(&decoder, batch), source }
            },
        )?;
        state.curve.train.push(Loss { step, loss });
        state.step += 1;
        Ok(Done {
            loss,
            lr,
            gradient_norm: report.gradient_norm,
            tokens: tokens_of(self.input, batch.iter()),
            learned_tokens: self.learned(batch),
            spike: note,
        })
    }

    /// The examples of a bad step, those with the highest loss first.
    fn suspects(&self, decoder: &Decoder, batch: &[usize]) -> Vec<Suspect> {
        let loss = |index: usize| self.forward(decoder, &[&self.input.train[index]], Keep::Nothing, None).1;
        let suspects =
            batch.iter().map(|&index| Suspect { name: self.input.name(index), loss: loss(index) }).collect();
        worst_first(suspects)
    }

    fn gradients(&mut self, decoder: &Decoder, batch: &[usize], step: usize) -> (f64, Gradients) {
        let keep = if self.config.recompute { Keep::Little } else { Keep::Projections };
        let parts = batches::fill(self.input.train, batch, self.config.micro_batch_tokens);
        let total = self.learned(batch) as f64;
        let (mut mean, mut gradients) = (0.0, Gradients::new());
        for (number, part) in parts.iter().enumerate() {
            let examples: Vec<&Example> = part.iter().map(|&index| &self.input.train[index]).collect();
            let noise = self.noise(step, number);
            let (tape, loss) = self.forward(decoder, &examples, keep, noise);
            let share = self.learned(part) as f64 / total;
            mean += loss * share;
            if !mean.is_finite() {
                break;
            }
            tape.backward_into(share as f32, &mut gradients);
        }
        (mean, gradients)
    }

    /// Tokens of some examples that count for the loss.
    fn learned(&self, indices: &[usize]) -> usize {
        indices.iter().map(|&index| learned_tokens(&self.input.train[index])).sum()
    }

    /// A seed for each part of each step, so that a resumed run draws what an uninterrupted one does.
    fn noise(&self, step: usize, part: usize) -> Option<Noise> {
        let alpha = self.config.neftune_alpha?;
        // Gemma multiplies embeddings by a factor; the noise goes on what comes of it.
        let alpha = alpha / self.input.decoder.config.embedding_scale.unwrap_or(1.0);
        let place = (step as u64) << 20 | part as u64;
        Some(Noise { alpha, seed: self.config.seed ^ place.wrapping_mul(0xD6E8_FEB8_6659_FD93) })
    }

    /// The mean loss over the tokens the assistant wrote, examples laid one after the other.
    fn forward(
        &self,
        decoder: &Decoder,
        examples: &[&Example],
        keep: Keep,
        noise: Option<Noise>,
    ) -> (Tape<'_>, f64) {
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
        let mut tape = Tape::new(self.pool, &self.arena, &lens, keep).with_noise(noise);
        let weights = vec![1.0; targets.len()];
        let loss = decoder.cross_entropy(&mut tape, &ids, &wanted, (&targets, &weights));
        (tape, loss)
    }

    pub(super) fn validation_loss(&self, adapter: &Adapter, step: usize) -> Result<f64> {
        let decoder = adapter.apply_on(self.pool, self.input.decoder);
        let examples = self.input.validation;
        let order: Vec<usize> = (0..examples.len()).collect();
        let (mut sum, mut count) = (0.0, 0.0);
        for batch in batches::fill(examples, &order, self.config.micro_batch_tokens) {
            let chosen: Vec<&Example> = batch.iter().map(|&index| &examples[index]).collect();
            let tokens: usize = chosen.iter().map(|example| learned_tokens(example)).sum();
            let (_, loss) = self.forward(&decoder, &chosen, Keep::Nothing, None);
            if !loss.is_finite() {
                let name = |&index: &usize| self.input.name(index + self.input.train.len());
                let suspects = batch.iter().map(|index| Suspect { name: name(index), loss }).collect();
                return Err(Error::NotFinite { step, loss, suspects });
            }
            sum += loss * tokens as f64;
            count += tokens as f64;
        }
        Ok(sum / count)
    }
}
