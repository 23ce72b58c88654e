//! Ways of stretching a context, as frequencies: linear (Chen et al. 2023), `YaRN` (Peng et al. 2023), that of
//! Llama 3 (Grattafiori et al. 2024), and factors that a file lists.
//!
//! `LongRoPE` (Ding et al. 2024) lists factors for prompts up to the original length and others for longer ones. Keys
//! that are cached can't change, so such a model runs with the first, and its context ends at the original length.

use std::f64::consts::PI;

use hearth_kernels::rope::frequencies;
use hearth_tensor::graph::Rope;

use super::config_error;
use crate::error::Result;

/// What a file says about rotation.
#[derive(Debug, Clone)]
pub(super) struct Rotation {
    pub(super) theta: f32,
    /// Channels of a head that rotate.
    pub(super) rotary_dim: usize,
    pub(super) scaling: Scaling,
    /// What each frequency is divided by.
    pub(super) factors: Option<Vec<f32>>,
    /// Factor on the rotated channels.
    pub(super) magnitude: f32,
    /// Where the frequencies end to be right.
    pub(super) max_seq_len: usize,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Scaling {
    None,
    /// Positions are divided by the factor.
    Linear {
        factor: f32,
    },
    /// Slow pairs are stretched by the factor, quick ones aren't, those between partly.
    Yarn {
        factor: f32,
        original_max_seq_len: usize,
        /// Turns over the original length above which a pair isn't stretched.
        beta_fast: f32,
        /// Turns below which it is stretched whole.
        beta_slow: f32,
        /// The two borders are rounded outwards to whole pairs.
        truncated: bool,
    },
    /// As `YaRN`, with the part in between measured in wavelengths.
    Llama3 {
        factor: f32,
        low_freq_factor: f32,
        high_freq_factor: f32,
        original_max_seq_len: usize,
    },
}

impl Scaling {
    /// `YaRN`'s factor on attention for a stretch by `factor`.
    pub(crate) fn yarn_magnitude(factor: f32) -> f32 {
        if factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 }
    }

    /// `LongRoPE`'s factor on attention for a stretch by `factor`.
    pub(crate) fn longrope_magnitude(factor: f32, original_max_seq_len: usize) -> f32 {
        if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original_max_seq_len as f32).ln()).sqrt() }
    }

    fn apply(self, plain: &[f64], theta: f32) -> Vec<f64> {
        match self {
            Self::None => plain.to_vec(),
            Self::Linear { factor } => plain.iter().map(|f| f / f64::from(factor)).collect(),
            Self::Yarn { factor, original_max_seq_len, beta_fast, beta_slow, truncated, .. } => {
                let dim = 2.0 * plain.len() as f64;
                let turns = |beta: f32| original_max_seq_len as f64 / (f64::from(beta) * 2.0 * PI);
                let pair = |beta: f32| dim * turns(beta).ln() / (2.0 * f64::from(theta).ln());
                let (low, high) = (pair(beta_fast), pair(beta_slow));
                let (low, high) = if truncated { (low.floor(), high.ceil()) } else { (low, high) };
                let (low, high) = (low.max(0.0), high.min(dim - 1.0));
                let width = if (high - low).abs() < 1e-9 { 0.001 } else { high - low };
                let stretched = plain.iter().enumerate().map(|(index, f)| {
                    let ramp = ((index as f64 - low) / width).clamp(0.0, 1.0);
                    f / f64::from(factor) * ramp + f * (1.0 - ramp)
                });
                stretched.collect()
            }
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_seq_len } => {
                let (low, high) = (f64::from(low_freq_factor), f64::from(high_freq_factor));
                let stretched = plain.iter().map(|f| {
                    let turns = original_max_seq_len as f64 * f / (2.0 * PI);
                    let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    (1.0 - smooth) * f / f64::from(factor) + smooth * f
                });
                stretched.collect()
            }
        }
    }

    /// What must be a positive number, by its name.
    fn numbers(self) -> Vec<(&'static str, f64)> {
        match self {
            Self::None => vec![],
            Self::Linear { factor } => vec![("factor", f64::from(factor))],
            Self::Yarn { factor, original_max_seq_len, beta_fast, beta_slow, .. } => vec![
                ("factor", f64::from(factor)),
                ("original_max_position_embeddings", original_max_seq_len as f64),
                ("beta_fast", f64::from(beta_fast)),
                ("beta_slow", f64::from(beta_slow)),
            ],
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_seq_len } => vec![
                ("factor", f64::from(factor)),
                ("low_freq_factor", f64::from(low_freq_factor)),
                ("high_freq_factor - low_freq_factor", f64::from(high_freq_factor - low_freq_factor)),
                ("original_max_position_embeddings", original_max_seq_len as f64),
            ],
        }
    }
}

impl Rotation {
    /// The frequencies of heads of `head_dim`.
    pub(super) fn rope(&self, head_dim: usize, interleaved: bool) -> Result<Rope> {
        let rotary_dim = self.rotary_dim;
        if rotary_dim == 0 || !rotary_dim.is_multiple_of(2) || rotary_dim > head_dim {
            let what = format!("`rotary_dim` {rotary_dim} isn't an even part of `head_dim` {head_dim}");
            return Err(config_error(what));
        }
        let own = [("rope_theta", self.theta), ("attention_factor", self.magnitude)];
        let own = own.map(|(name, value)| (name, f64::from(value)));
        let numbers = own.into_iter().chain(self.scaling.numbers());
        for (name, value) in numbers {
            if !(value.is_finite() && value > 0.0) {
                return Err(config_error(format!("`{name}` of the rotation is {value}, expected above 0")));
            }
        }
        let mut frequencies = self.scaling.apply(&frequencies(self.theta, rotary_dim), self.theta);
        if let Some(factors) = &self.factors {
            if factors.len() != frequencies.len() || !factors.iter().all(|f| f.is_finite() && *f > 0.0) {
                let (found, expected) = (factors.len(), frequencies.len());
                let what = format!("{found} factors of frequencies, expected {expected} positive numbers");
                return Err(config_error(what));
            }
            frequencies.iter_mut().zip(factors).for_each(|(f, factor)| *f /= f64::from(*factor));
        }
        if let Some(frequency) = frequencies.iter().find(|frequency| !frequency.is_finite()) {
            let theta = self.theta;
            let what = format!("the rotation by `rope_theta` {theta} has a frequency of {frequency}");
            return Err(config_error(what));
        }
        Ok(Rope { frequencies: frequencies.into(), magnitude: self.magnitude, interleaved })
    }
}
