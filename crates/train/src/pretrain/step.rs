//! One step: rows in parts through the tape, gradients added, the guard, the update; and the validation loss.
//!
//! A part's share of the step's mean is its share of the tokens that count, so parts change sums in their last bits
//! only.

use hearth_artifacts::shards::TokenShards;
use hearth_artifacts::shards::packing::{Packing, Piece, Position};
use hearth_kernels::pool::Pool;
use hearth_model::Decoder;
use hearth_tensor::optimizer::{clip, gradient_norm};
use hearth_tensor::tape::{Gradients, Keep, Tape};
use hearth_tensor::tensor::Arena;
use hearth_tensor::weight::ParamId;

use super::config::{Method, PretrainConfig};
use super::rows::Batch;
use super::{Input, Set, State};
use crate::error::{Error, Result};
use crate::guard::{OnSpike, SUSPECTS, Suspect, spike, worst_first};
use crate::sft::Loss;
use crate::sitting::Done;

pub(super) struct Trainer<'a> {
    pub(super) config: &'a PretrainConfig,
    pub(super) input: &'a Input<'a>,
    pub(super) train: Set<'a>,
    pub(super) validation: Set<'a>,
    pool: &'a Pool,
    arena: Arena,
    gradients: Gradients,
}

/// The mean loss over validation rows, in nats a token and in bits a byte of text where bytes are known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Validation {
    pub loss: f64,
    pub bits_per_byte: Option<f64>,
}

impl<'a> Trainer<'a> {
    pub(super) fn new(config: &'a PretrainConfig, input: &'a Input<'a>, pool: &'a Pool) -> Result<Self> {
        let train = Set::new(input.train, config)?;
        let validation = Set::new(input.validation, config)?;
        let (arena, gradients) = (Arena::default(), Gradients::new());
        Ok(Self { config, input, train, validation, pool, arena, gradients })
    }

    /// The rows of a step: as many as a batch has, on from where the step before ended.
    fn rows(&self, step: usize) -> Vec<&'a [Piece]> {
        let packing = self.train.packing;
        let start = packing.advance(Position::default(), (step * self.config.batch_rows) as u64);
        packing.deal(start, 0, 1).take(self.config.batch_rows).map(|(_, row)| row).collect()
    }

    /// Rows of a step as parts that go through the model one after the other.
    fn parts(&self, step: usize) -> Result<Vec<Batch>> {
        let rows = self.rows(step);
        rows.chunks(self.config.micro_rows)
            .map(|rows| Batch::read(self.train.shards, rows.iter().copied()))
            .collect()
    }

    /// One update; nothing has changed where it is refused.
    pub(super) fn step(&mut self, state: &mut State) -> Result<Done> {
        let step = state.step;
        let parts = self.parts(step)?;
        let learned_tokens: usize = parts.iter().map(|part| part.targets.len()).sum();
        if learned_tokens == 0 {
            return Err(Error::NothingToLearn { step });
        }
        let loss = self.gradients(&state.decoder, &parts, learned_tokens);
        if !loss.is_finite() {
            return Err(Error::NotFinite { step, loss, suspects: self.suspects(&state.decoder, &parts)? });
        }
        let mut note = None;
        if let Some(median) = spike(&state.curve.train, loss) {
            let suspects = self.suspects(&state.decoder, &parts)?;
            let error = Error::Spike { step, loss, median, suspects };
            match self.input.on_spike {
                OnSpike::Stop => return Err(error),
                OnSpike::Note => note = Some(error.to_string()),
            }
        }
        let lr = self.config.schedule.lr_at(step, self.config.num_steps);
        let norm = match gradient_norm(self.pool, &self.gradients) {
            Ok(norm) => norm,
            Err(source) => {
                let suspects = self.suspects(&state.decoder, &parts)?;
                return Err(Error::Gradient { step, lr, suspects, source });
            }
        };
        self.update(state, lr, clip(norm, Some(self.config.max_gradient_norm)));
        state.curve.train.push(Loss { step, loss });
        state.step += 1;
        let tokens = parts.iter().map(|part| part.ids.len()).sum();
        Ok(Done { loss, lr, gradient_norm: norm, tokens, learned_tokens, spike: note })
    }

    /// Adds up the gradients of all parts; the mean loss over all tokens that count.
    fn gradients(&mut self, decoder: &Decoder, parts: &[Batch], learned_tokens: usize) -> f64 {
        self.gradients.clear();
        let keep = if self.config.recompute { Keep::Little } else { Keep::Projections };
        let mut mean = 0.0;
        for part in parts.iter().filter(|part| !part.targets.is_empty()) {
            let share = part.targets.len() as f64 / learned_tokens as f64;
            let (tape, loss) = forward(self.pool, &self.arena, decoder, part, keep);
            mean += loss * share;
            if !mean.is_finite() {
                break;
            }
            tape.backward_into(share as f32, &mut self.gradients);
        }
        mean
    }

    fn update(&mut self, state: &mut State, lr: f32, scale: f32) {
        let State { decoder, adamw, muon, .. } = state;
        let by_muon = self.config.method == Method::Muon;
        let (pool, gradients) = (self.pool, &mut self.gradients);
        decoder.update(|params| {
            let (hidden, others): (Vec<_>, Vec<_>) =
                params.into_iter().partition(|named| by_muon && named.hidden);
            let ids: Vec<ParamId> = hidden.iter().filter_map(|named| named.param.id).collect();
            let of_hidden = gradients.take(|id| ids.contains(&id));
            let others = others.into_iter().map(|named| named.param);
            let hidden = hidden.into_iter().map(|named| named.param);
            adamw.update(pool, others, gradients, (lr, scale)).expect("gradients are those of the decoder");
            muon.update(pool, hidden, &of_hidden, lr).expect("gradients are those of the decoder");
            gradients.put_back(of_hidden);
        });
    }

    /// The documents of a bad step, those with the highest loss first.
    fn suspects(&self, decoder: &Decoder, parts: &[Batch]) -> Result<Vec<Suspect>> {
        let mut suspects = Vec::new();
        for &document in parts.iter().flat_map(|part| &part.documents) {
            let len = self.train.lengths[document as usize].min(self.config.seq_len);
            let piece = [Piece { document, start: 0, len }];
            let batch = Batch::read(self.train.shards, [&piece[..]])?;
            if batch.targets.is_empty() {
                continue;
            }
            let (_, loss) = forward(self.pool, &self.arena, decoder, &batch, Keep::Nothing);
            let name = self.train.shards.origin(document.into())?.to_owned();
            suspects.push(Suspect { name, loss });
        }
        Ok(worst_first(suspects))
    }

    pub(super) fn validate(&self, decoder: &Decoder, step: usize) -> Result<Validation> {
        let packing = self.validation.packing;
        let num_rows = packing.num_rows().min(self.config.validation_rows);
        let rows: Vec<&[Piece]> = (0..num_rows).map(|row| packing.row(0, row)).collect();
        let (mut sum, mut count, mut bytes) = (0.0, 0_usize, 0_u64);
        for rows in rows.chunks(self.config.micro_rows) {
            let batch = Batch::read(self.validation.shards, rows.iter().copied())?;
            if batch.targets.is_empty() {
                continue;
            }
            let (_, loss) = forward(self.pool, &self.arena, decoder, &batch, Keep::Nothing);
            if !loss.is_finite() {
                let name = |&document: &u32| self.validation.shards.origin(document.into());
                let names = batch.documents.iter().take(SUSPECTS).map(name);
                let suspects = names
                    .map(|name| Ok(Suspect { name: name?.to_owned(), loss }))
                    .collect::<Result<Vec<Suspect>>>()?;
                return Err(Error::NotFinite { step, loss, suspects });
            }
            sum += loss * batch.targets.len() as f64;
            count += batch.targets.len();
            if let Some(token_bytes) = self.input.token_bytes {
                bytes += batch.targets.iter().map(|&id| u64::from(token_bytes[id as usize])).sum::<u64>();
            }
        }
        if count == 0 {
            return Err(Error::NothingToLearn { step });
        }
        let bits_per_byte = (bytes > 0).then(|| sum / std::f64::consts::LN_2 / bytes as f64);
        Ok(Validation { loss: sum / count as f64, bits_per_byte })
    }
}

fn forward<'p>(
    pool: &'p Pool,
    arena: &Arena,
    decoder: &Decoder,
    batch: &Batch,
    keep: Keep,
) -> (Tape<'p>, f64) {
    let mut tape = Tape::new(pool, arena, &batch.lens, keep);
    let weights = vec![1.0; batch.targets.len()];
    let loss = decoder.cross_entropy(&mut tape, &batch.ids, &batch.wanted, (&batch.targets, &weights));
    (tape, loss)
}

impl<'a> Set<'a> {
    fn new((shards, packing): (&'a TokenShards, &'a Packing), config: &PretrainConfig) -> Result<Self> {
        if packing.seq_len() != config.seq_len || packing.num_rows() == 0 {
            let (found, seq_len, rows) = (packing.seq_len(), config.seq_len, packing.num_rows());
            return Err(Error::Packing { folder: shards.folder().into(), found, seq_len, rows });
        }
        Ok(Self { shards, packing, lengths: shards.lengths()? })
    }
}
