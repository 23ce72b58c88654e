//! AdamW over the trained parameters: clipping by the global norm, moments, one update a step.
//!
//! Sums run in the order of parameter ids, in pieces of fixed size, so a run and its resumption agree to the bit with
//! any number of threads. A gradient that isn't finite stops the step before anything has changed. Schedules live
//! with the trainer: it hands in the lr.
//!
//! * [`muon`] — updates of hidden matrices by their direction alone

pub mod muon;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use hearth_kernels::adamw::{AdamWSlices, AdamWStep, adamw};
use hearth_kernels::elementwise::sum_of_squares;
use hearth_kernels::pool::Pool;

use crate::tape::Gradients;
use crate::weight::{Param, ParamId};

/// Values of a parameter that one task updates: 256 KiB.
const PIECE: usize = 1 << 16;

/// What stays the same from step to step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConfig {
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
    /// Applied to every trained matrix, apart from the gradient.
    pub weight_decay: f32,
    /// Applied to vectors too: norms and biases.
    pub decay_vectors: bool,
    /// Gradients whose norm over all parameters is larger are scaled down to it (Pascanu et al. 2013).
    pub max_gradient_norm: Option<f32>,
}

/// Running means of one parameter's gradient and of its square.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Moments {
    pub first: Vec<f32>,
    pub second: Vec<f32>,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Before clipping.
    pub gradient_norm: f64,
    /// What the gradients were multiplied by: 1 without clipping.
    pub gradient_scale: f32,
    /// Parameters that were updated.
    pub num_updated: usize,
}

/// Why a step was not taken. Parameters and moments are as they were.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OptimizerError {
    #[error("the gradient of parameter `{}` is `{value}` at `{index}`, expected a finite number", param.0)]
    NotFinite { param: ParamId, index: usize, value: f32 },
    #[error("there is a gradient for parameter `{}`, which is not among the parameters given", param.0)]
    UnknownParam { param: ParamId },
    #[error("parameter `{}` is given twice, expected each one once", param.0)]
    GivenTwice { param: ParamId },
    #[error("parameter `{}` has `{len}` values, its gradient or moments have `{found}`", param.0)]
    WrongLen { param: ParamId, len: usize, found: usize },
}

/// AdamW (Loshchilov & Hutter 2019) with its moments.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamW {
    config: AdamWConfig,
    num_steps: u32,
    moments: BTreeMap<ParamId, Moments>,
}

impl AdamW {
    pub fn new(config: AdamWConfig) -> Self {
        Self { config, num_steps: 0, moments: BTreeMap::new() }
    }

    /// Goes on from a checkpoint: what [`Self::num_steps`] and [`Self::moments`] said.
    pub fn resume(
        config: AdamWConfig,
        num_steps: u32,
        moments: impl IntoIterator<Item = (ParamId, Moments)>,
    ) -> Self {
        Self { config, num_steps, moments: moments.into_iter().collect() }
    }

    /// Steps taken so far.
    pub fn num_steps(&self) -> u32 {
        self.num_steps
    }

    /// In ascending order of ids.
    pub fn moments(&self) -> impl Iterator<Item = (ParamId, &Moments)> {
        self.moments.iter().map(|(&id, moments)| (id, moments))
    }

    /// Updates each of `params` that has a gradient; frozen ones among them are passed over. Copies
    /// a parameter's data first if somebody else holds it too.
    pub fn step<'a>(
        &mut self,
        pool: &Pool,
        params: impl IntoIterator<Item = &'a mut Param>,
        gradients: &Gradients,
        lr: f32,
    ) -> Result<StepReport, OptimizerError> {
        let gradient_norm = gradient_norm(pool, gradients)?;
        let gradient_scale = clip(gradient_norm, self.config.max_gradient_norm);
        let num_updated = self.update(pool, params, gradients, (lr, gradient_scale))?;
        Ok(StepReport { gradient_norm, gradient_scale, num_updated })
    }

    /// [`Self::step`] without looking at the norm: gradients, known to be finite, count `gradient_scale` times.
    pub fn update<'a>(
        &mut self,
        pool: &Pool,
        params: impl IntoIterator<Item = &'a mut Param>,
        gradients: &Gradients,
        (lr, gradient_scale): (f32, f32),
    ) -> Result<usize, OptimizerError> {
        let mut by_id = by_id(params)?;
        self.check(&by_id, gradients)?;
        self.num_steps += 1;
        let AdamWConfig { beta1, beta2, eps, weight_decay, decay_vectors, .. } = self.config;
        let step = self.num_steps;
        for (id, gradient) in gradients.iter() {
            let param = by_id.get_mut(&id).expect("`check` has found every gradient's parameter");
            let decays = decay_vectors || param.rows > 1;
            let weight_decay = if decays { weight_decay } else { 0.0 };
            let settings = AdamWStep { lr, beta1, beta2, eps, weight_decay, gradient_scale, step };
            let moments = self.moments.entry(id).or_insert_with(|| Moments {
                first: vec![0.0; gradient.len()],
                second: vec![0.0; gradient.len()],
            });
            let weight = Arc::make_mut(&mut param.data).as_mut_slice();
            let pieces = pieces(weight).zip(pieces(&mut moments.first)).zip(pieces(&mut moments.second));
            let pieces: Vec<_> = pieces
                .zip(gradient.chunks(PIECE))
                .map(|(((weight, first_moment), second_moment), gradient)| {
                    Mutex::new((AdamWSlices { weight, first_moment, second_moment }, gradient))
                })
                .collect();
            pool.run(pieces.len(), &|index| {
                let mut piece = pieces[index].lock().unwrap_or_else(PoisonError::into_inner);
                let (slices, gradient) = &mut *piece;
                adamw(slices, gradient, &settings);
            });
        }
        Ok(gradients.len())
    }

    fn check(
        &self,
        by_id: &BTreeMap<ParamId, &mut Param>,
        gradients: &Gradients,
    ) -> Result<(), OptimizerError> {
        for (id, gradient) in gradients.iter() {
            let param = by_id.get(&id).ok_or(OptimizerError::UnknownParam { param: id })?;
            let len = param.data.len();
            let moments = self.moments.get(&id);
            let lens = moments.map_or([len; 2], |m| [m.first.len(), m.second.len()]);
            for found in [gradient.len(), lens[0], lens[1]] {
                if found != len {
                    return Err(OptimizerError::WrongLen { param: id, len, found });
                }
            }
        }
        Ok(())
    }
}

fn pieces(values: &mut [f32]) -> std::slice::ChunksMut<'_, f32> {
    values.chunks_mut(PIECE)
}

/// Trained parameters by their ids.
pub(crate) fn by_id<'a>(
    params: impl IntoIterator<Item = &'a mut Param>,
) -> Result<BTreeMap<ParamId, &'a mut Param>, OptimizerError> {
    let mut by_id = BTreeMap::new();
    for param in params {
        let Some(id) = param.id else { continue };
        if by_id.insert(id, param).is_some() {
            return Err(OptimizerError::GivenTwice { param: id });
        }
    }
    Ok(by_id)
}

/// What gradients of this norm are multiplied by so that the norm is at most `max`.
pub fn clip(gradient_norm: f64, max: Option<f32>) -> f32 {
    match max {
        Some(max) if gradient_norm > f64::from(max) => (f64::from(max) / gradient_norm) as f32,
        _ => 1.0,
    }
}

/// The root of the sum of all squares: pieces in parallel, their sums in f64 in the order of ids. A gradient that
/// isn't finite is an error that names it.
pub fn gradient_norm(pool: &Pool, gradients: &Gradients) -> Result<f64, OptimizerError> {
    let mut total = 0.0;
    for (param, gradient) in gradients.iter() {
        let mut sums = vec![0.0; gradient.len().div_ceil(PIECE)];
        pool.for_each_chunk(&mut sums, 1, |index, sum| {
            let start = index * PIECE;
            sum[0] = sum_of_squares(&gradient[start..(start + PIECE).min(gradient.len())]);
        });
        let of_param: f64 = sums.iter().sum();
        // Squares of finite f32 values never overflow f64, so this finds every NaN and infinity.
        if !of_param.is_finite() {
            let index = gradient.iter().position(|value| !value.is_finite()).unwrap_or(0);
            return Err(OptimizerError::NotFinite { param, index, value: gradient[index] });
        }
        total += of_param;
    }
    Ok(total.sqrt())
}

#[cfg(test)]
mod tests;
