//! AdamW over the trained parameters: clipping by the global norm, moments, one update a step.
//!
//! Sums run in the order of parameter ids, so a run and its resumption agree to the bit. A gradient that isn't
//! finite stops the step before anything has changed. Schedules live with the trainer: it hands in the lr.

use std::collections::BTreeMap;
use std::sync::Arc;

use hearth_kernels::adamw::{AdamWSlices, AdamWStep, adamw};

use crate::tape::Gradients;
use crate::weight::{Param, ParamId};

/// What stays the same from step to step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConfig {
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
    /// Applied to every trained parameter, apart from the gradient.
    pub weight_decay: f32,
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
        params: impl IntoIterator<Item = &'a mut Param>,
        gradients: &Gradients,
        lr: f32,
    ) -> Result<StepReport, OptimizerError> {
        let mut by_id = BTreeMap::new();
        for param in params {
            let Some(id) = param.id else { continue };
            if by_id.insert(id, param).is_some() {
                return Err(OptimizerError::GivenTwice { param: id });
            }
        }
        self.check(&by_id, gradients)?;
        let gradient_norm = global_norm(gradients)?;
        let gradient_scale = match self.config.max_gradient_norm {
            Some(max) if gradient_norm > f64::from(max) => (f64::from(max) / gradient_norm) as f32,
            _ => 1.0,
        };
        self.num_steps += 1;
        let AdamWConfig { beta1, beta2, eps, weight_decay, .. } = self.config;
        let step = self.num_steps;
        let settings = AdamWStep { lr, beta1, beta2, eps, weight_decay, gradient_scale, step };
        for (id, gradient) in gradients.iter() {
            let param = by_id.get_mut(&id).expect("`check` has found every gradient's parameter");
            let moments = self.moments.entry(id).or_insert_with(|| Moments {
                first: vec![0.0; gradient.len()],
                second: vec![0.0; gradient.len()],
            });
            let mut slices = AdamWSlices {
                weight: Arc::make_mut(&mut param.data).as_mut_slice(),
                first_moment: &mut moments.first,
                second_moment: &mut moments.second,
            };
            adamw(&mut slices, gradient, &settings);
        }
        Ok(StepReport { gradient_norm, gradient_scale, num_updated: gradients.len() })
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

/// The root of the sum of all squares, added in f64 in the order of ids.
fn global_norm(gradients: &Gradients) -> Result<f64, OptimizerError> {
    let mut total = 0.0;
    for (param, gradient) in gradients.iter() {
        let mut of_param = 0.0;
        for &value in gradient {
            of_param += f64::from(value) * f64::from(value);
        }
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
