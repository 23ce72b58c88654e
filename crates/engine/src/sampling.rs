//! Logits to a token, by a chain whose order is fixed.
//!
//! 1. what a constraint forbids goes ([`crate::Constraint`])
//! 2. `logit_bias`
//! 3. `repetition_penalty`, prompt and answer (CTRL, Keskar et al. 2019)
//! 4. `frequency_penalty` and `presence_penalty`, the answer alone (as the OpenAI API defines them)
//! 5. [`Dry`], sequences that would be repeated
//! 6. `temperature`; at 0 the best token is taken and the chain ends
//! 7. `top_k`, 8. `typical_p` (Meister et al. 2022), 9. `top_p` (Holtzman et al. 2020), 10. `min_p` (Nguyen et al.
//!    2024); or [`Mirostat`] instead of these four
//! 11. a draw, whose random number depends on the request's seed and the token's place in the answer alone

mod dry;
mod filters;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use hearth_tokenizer::{TokenId, Tokenizer};

use crate::request::{Error, Result};

pub use dry::Dry;
use dry::DryState;
pub use filters::Mirostat;

#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// Keep this many of the most probable tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the tokens whose surprise is nearest to the entropy and that together have this probability.
    pub typical_p: f32,
    /// Keep the most probable tokens that together have this probability.
    pub top_p: f32,
    /// Keep tokens with at least this fraction of the best token's probability.
    pub min_p: f32,
    /// Logits of tokens seen before are divided by it where positive and multiplied where negative; 1 is off.
    pub repetition_penalty: f32,
    /// Subtracted from a logit for each time its token was generated.
    pub frequency_penalty: f32,
    /// Subtracted from the logit of every token that was generated.
    pub presence_penalty: f32,
    pub dry: Option<Dry>,
    pub mirostat: Option<Mirostat>,
    /// Added to the logits of these tokens.
    pub logit_bias: Vec<(TokenId, f32)>,
    pub seed: u64,
}

impl Sampling {
    pub const fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            typical_p: 1.0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            dry: None,
            mirostat: None,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }

    /// Refuses values outside their ranges.
    pub fn check(&self) -> Result<()> {
        within("temperature", self.temperature, 0.0..=10.0, "0 to 10")?;
        above_zero("typical_p", self.typical_p, 1.0, "above 0, at most 1")?;
        above_zero("top_p", self.top_p, 1.0, "above 0, at most 1")?;
        within("min_p", self.min_p, 0.0..=1.0, "0 to 1")?;
        above_zero("repetition_penalty", self.repetition_penalty, 10.0, "above 0, at most 10")?;
        within("frequency_penalty", self.frequency_penalty, -2.0..=2.0, "-2 to 2")?;
        within("presence_penalty", self.presence_penalty, -2.0..=2.0, "-2 to 2")?;
        for &(_, bias) in &self.logit_bias {
            within("logit_bias", bias, -100.0..=100.0, "-100 to 100 for each token")?;
        }
        if let Some(dry) = &self.dry {
            dry.check()?;
        }
        if let Some(mirostat) = self.mirostat {
            mirostat.check()?;
        }
        Ok(())
    }
}

fn within(
    name: &'static str,
    value: f32,
    range: std::ops::RangeInclusive<f32>,
    expected: &'static str,
) -> Result<()> {
    if range.contains(&value) { Ok(()) } else { Err(Error::Parameter { name, value, expected }) }
}

fn above_zero(name: &'static str, value: f32, most: f32, expected: &'static str) -> Result<()> {
    if value > 0.0 && value <= most { Ok(()) } else { Err(Error::Parameter { name, value, expected }) }
}

/// How often a token stands in the context.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    in_prompt: bool,
    in_answer: u32,
}

/// The state of one sequence's chain.
#[derive(Debug, Clone)]
pub(crate) struct Sampler {
    sampling: Sampling,
    /// Filled only where a penalty asks for it.
    seen: BTreeMap<TokenId, Seen>,
    dry: Option<DryState>,
    /// Mirostat's bound on surprise, in bits.
    max_surprise: f64,
    step: u64,
    changed: Vec<f32>,
}

impl Sampler {
    pub(crate) fn new(sampling: Sampling, prompt: &[TokenId], tokenizer: &Arc<Tokenizer>) -> Self {
        let mut sampler = Self {
            dry: sampling.dry.clone().map(|dry| DryState::new(dry, Arc::clone(tokenizer), prompt)),
            max_surprise: sampling.mirostat.map_or(0.0, Mirostat::start),
            sampling,
            seen: BTreeMap::new(),
            step: 0,
            changed: Vec::new(),
        };
        if sampler.counts_tokens() {
            for &id in prompt {
                sampler.seen.entry(id).or_default().in_prompt = true;
            }
        }
        sampler
    }

    /// The same context with another seed: a further choice of one prompt.
    pub(crate) fn set_seed(&mut self, seed: u64) {
        self.sampling.seed = seed;
    }

    fn counts_tokens(&self) -> bool {
        let Sampling { repetition_penalty, frequency_penalty, presence_penalty, .. } = self.sampling;
        let is_off = |value: f32, off: f32| value.total_cmp(&off).is_eq();
        !(is_off(repetition_penalty, 1.0) && is_off(frequency_penalty, 0.0) && is_off(presence_penalty, 0.0))
    }

    /// Chooses the next token of the answer and counts it.
    pub(crate) fn choose(&mut self, logits: &[f32]) -> TokenId {
        let is_changed = self.counts_tokens() || self.dry.is_some() || !self.sampling.logit_bias.is_empty();
        let mut changed = std::mem::take(&mut self.changed);
        let id = if is_changed {
            changed.clear();
            changed.extend_from_slice(logits);
            self.change(&mut changed);
            self.pick(&changed)
        } else {
            self.pick(logits)
        };
        self.changed = changed;
        self.step += 1;
        if self.counts_tokens() {
            self.seen.entry(id).or_default().in_answer += 1;
        }
        if let Some(dry) = &mut self.dry {
            dry.push(id);
        }
        id
    }

    /// Bias and penalties.
    fn change(&self, logits: &mut [f32]) {
        for &(id, bias) in &self.sampling.logit_bias {
            logits[id as usize] += bias;
        }
        let Sampling { repetition_penalty, frequency_penalty, presence_penalty, .. } = self.sampling;
        for (&id, &Seen { in_prompt, in_answer }) in &self.seen {
            let logit = &mut logits[id as usize];
            if in_prompt || in_answer > 0 {
                *logit = if *logit > 0.0 { *logit / repetition_penalty } else { *logit * repetition_penalty };
            }
            if in_answer > 0 {
                *logit -= frequency_penalty * in_answer as f32 + presence_penalty;
            }
        }
        if let Some(dry) = &self.dry {
            for (id, penalty) in dry.penalties() {
                logits[id as usize] -= penalty;
            }
        }
    }

    fn pick(&mut self, logits: &[f32]) -> TokenId {
        if self.sampling.temperature == 0.0 {
            return greedy(logits);
        }
        let uniform = uniform(self.sampling.seed, self.step);
        let candidates = filters::softmax(logits, self.sampling.temperature);
        let Some(mirostat) = self.sampling.mirostat else {
            return filters::draw(&filters::keep(candidates, &self.sampling), uniform);
        };
        let kept = Mirostat::keep(candidates, self.max_surprise);
        let id = filters::draw(&kept, uniform);
        self.max_surprise = mirostat.learn(&kept, id, self.max_surprise);
        id
    }
}

/// The seed of the `index`th choice of one request; the first has the request's own.
pub fn choice_seed(seed: u64, index: usize) -> u64 {
    if index == 0 { seed } else { mix(seed ^ (index as u64).wrapping_mul(0xD134_2543_DE82_EF95)) }
}

/// The first of the largest logits; the first of all where none is a number.
pub fn greedy(logits: &[f32]) -> TokenId {
    let max = hearth_kernels::loss::row_max(logits);
    logits.iter().position(|&logit| logit >= max).unwrap_or(0) as TokenId
}

/// The `n` most probable tokens with their log-probabilities, best first.
pub fn top_logprobs(logits: &[f32], n: usize) -> Vec<(TokenId, f32)> {
    if n == 0 {
        return Vec::new();
    }
    let log_sum = hearth_kernels::loss::log_sum_exp(logits);
    let mut top: Vec<(TokenId, f32)> = Vec::with_capacity(n + 1);
    for (id, &logit) in logits.iter().enumerate() {
        if top.len() == n && top.last().is_none_or(|&(_, last)| logit <= last) {
            continue;
        }
        let at = top.partition_point(|&(_, other)| other >= logit);
        top.insert(at, (id as TokenId, logit));
        top.truncate(n);
    }
    for (_, value) in &mut top {
        *value = (f64::from(*value) - log_sum) as f32;
    }
    top
}

/// Uniform in 0..1, from the seed and the step (`SplitMix64`, Steele et al. 2014).
fn uniform(seed: u64, step: u64) -> f64 {
    let z = mix(seed.wrapping_add((step + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    (z >> 11) as f64 / (1u64 << 53) as f64
}

/// The finaliser of `SplitMix64`.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
