//! Llama 3's stretched RoPE: four numbers in `config.json`, a divisor for each pair of channels in a GGUF file.
//!
//! Pairs that turn often keep their speed, pairs that turn seldom are slowed by `factor`, those between by something
//! between (Llama 3.1's published code). Back from the divisors the published settings are recognised, with any power of
//! two as the original length.

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// What the divisors are called in a GGUF file.
pub(super) const TENSOR: &str = "rope_freqs.weight";

/// What Llama 3.1 and 3.2 were published with, `factor` aside.
const PUBLISHED: Llama3 = Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 8192.0 };

/// Original lengths that are tried, as powers of two, where the published one isn't the one.
const ORIGINALS: std::ops::Range<u32> = 5..21;

/// Divisors that differ by less are those of the same settings: some rounding of f32.
const SAME: f64 = 1e-5;

/// The settings, as in `rope_scaling`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Llama3 {
    factor: f64,
    /// `low_freq_factor`.
    low: f64,
    /// `high_freq_factor`.
    high: f64,
    /// `original_max_position_embeddings`.
    original: f64,
}

impl Llama3 {
    /// Reads `rope_scaling` or `rope_parameters` of type `llama3`.
    pub(super) fn of_config(rope: &Value) -> Result<Self> {
        let number = |key: &str| {
            rope[key].as_f64().filter(|number| *number > 0.0).ok_or_else(|| {
                let what =
                    format!("`config.json`: RoPE scaling's `{key}` is {}, expected a number", rope[key]);
                Error::Config { what }
            })
        };
        let settings = Self {
            factor: number("factor")?,
            low: number("low_freq_factor")?,
            high: number("high_freq_factor")?,
            original: number("original_max_position_embeddings")?,
        };
        if settings.high <= settings.low {
            let what = "`config.json`: RoPE scaling's `high_freq_factor` isn't above its `low_freq_factor`";
            return Err(Error::Config { what: what.into() });
        }
        Ok(settings)
    }

    /// Finds the settings behind a file's divisors.
    pub(super) fn of_divisors(divisors: &[f32], theta: f32) -> Result<Self> {
        let factor = divisors.iter().copied().fold(0.0, f32::max);
        let is_same = |(a, b): (&f32, &f32)| f64::from((a - b).abs()) <= SAME * f64::from(b.abs());
        let originals = [PUBLISHED.original].into_iter().chain(ORIGINALS.map(|power| f64::from(1 << power)));
        for original in originals {
            let settings = Self { factor: f64::from(factor), original, ..PUBLISHED };
            let again = settings.divisors(theta, divisors.len() * 2);
            if again.iter().zip(divisors).all(is_same) {
                return Ok(settings);
            }
        }
        let what = format!(
            "tensor `{TENSOR}` doesn't hold Llama 3's published settings, which config.json could name"
        );
        Err(Error::Unconvertible { what })
    }

    /// What each pair's frequency is divided by.
    pub(super) fn divisors(&self, theta: f32, head_dim: usize) -> Vec<f32> {
        let divisor = |pair: usize| {
            let frequency = f64::from(theta).powf(-2.0 * pair as f64 / head_dim as f64);
            let turns = self.original * frequency / std::f64::consts::TAU;
            let share = ((turns - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
            1.0 / ((1.0 - share) / self.factor + share)
        };
        (0..head_dim / 2).map(|pair| divisor(pair) as f32).collect()
    }

    pub(super) fn to_json(self) -> Value {
        json!({
            "rope_type": "llama3", "factor": self.factor, "low_freq_factor": self.low,
            "high_freq_factor": self.high, "original_max_position_embeddings": self.original as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divisors_go_from_one_to_the_factor_and_back_to_their_settings() {
        let settings = Llama3 { factor: 32.0, ..PUBLISHED };
        let divisors = settings.divisors(500_000.0, 64);
        assert_eq!((divisors[0], divisors[31]), (1.0, 32.0));
        assert!(divisors.windows(2).all(|pair| pair[0] <= pair[1]));
        // Pair 15 turns 8192 / (2π · 500000^(30/64)) = 2.779 times: 0.593 of the way from 1 to 4.
        let share = (8192.0 / std::f64::consts::TAU / 500_000.0_f64.powf(30.0 / 64.0) - 1.0) / 3.0;
        assert!((f64::from(divisors[15]) - 1.0 / ((1.0 - share) / 32.0 + share)).abs() < 1e-6);
        assert_eq!(Llama3::of_divisors(&divisors, 500_000.0).unwrap(), settings);
        assert_eq!(Llama3::of_config(&settings.to_json()).unwrap(), settings);
        let message = Llama3::of_divisors(&[1.0, 3.0, 2.0, 8.0], 500_000.0).unwrap_err().to_string();
        assert!(message.contains("published settings"), "{message}");
    }
}
