//! DRY ("don't repeat yourself", as text-generation-webui and llama.cpp have it): a token that would make a
//! sequence of the context stand there once more is made less probable, the more so the longer the sequence.

use std::collections::BTreeMap;
use std::sync::Arc;

use hearth_tokenizer::{TokenId, Tokenizer};

use super::{above_zero, within};
use crate::request::Result;

#[derive(Debug, Clone, PartialEq)]
pub struct Dry {
    /// The penalty of a repetition of `allowed_length` tokens.
    pub multiplier: f32,
    /// By how much each further token multiplies the penalty.
    pub base: f32,
    /// Shorter repetitions cost nothing.
    pub allowed_length: usize,
    /// A token that contains one of these texts ends a sequence: names and markup may come again.
    pub sequence_breakers: Vec<String>,
}

impl Dry {
    /// The values its author recommends, with a multiplier of one's own.
    pub fn with_multiplier(multiplier: f32) -> Self {
        let sequence_breakers = ["\n", ":", "\"", "*"].map(str::to_owned).to_vec();
        Self { multiplier, base: 1.75, allowed_length: 2, sequence_breakers }
    }

    pub(super) fn check(&self) -> Result<()> {
        within("dry_multiplier", self.multiplier, 0.0..=100.0, "0 to 100")?;
        above_zero("dry_base", self.base, 10.0, "above 0, at most 10")
    }
}

/// The context as DRY sees it.
#[derive(Debug, Clone)]
pub(super) struct DryState {
    dry: Dry,
    tokenizer: Arc<Tokenizer>,
    tokens: Vec<TokenId>,
    /// Tokens since the last breaker.
    since_breaker: usize,
}

impl DryState {
    pub(super) fn new(dry: Dry, tokenizer: Arc<Tokenizer>, prompt: &[TokenId]) -> Self {
        let mut state = Self { dry, tokenizer, tokens: Vec::new(), since_breaker: 0 };
        for &id in prompt {
            state.push(id);
        }
        state
    }

    pub(super) fn push(&mut self, id: TokenId) {
        self.tokens.push(id);
        self.since_breaker = if self.is_breaker(id) { 0 } else { self.since_breaker + 1 };
    }

    fn is_breaker(&self, id: TokenId) -> bool {
        if self.tokenizer.is_special(id) {
            return true;
        }
        let text = self.tokenizer.token_bytes(id);
        let holds = |breaker: &String| {
            !breaker.is_empty() && text.windows(breaker.len()).any(|window| window == breaker.as_bytes())
        };
        self.dry.sequence_breakers.iter().any(holds)
    }

    /// Tokens that would go on with a repetition, and what each costs.
    pub(super) fn penalties(&self) -> Vec<(TokenId, f32)> {
        let mut longest = BTreeMap::<TokenId, usize>::new();
        for (next, length) in self.matches() {
            let known = longest.entry(next).or_default();
            *known = length.max(*known);
        }
        longest
            .into_iter()
            .filter(|&(id, length)| length > 0 && length >= self.dry.allowed_length && !self.is_breaker(id))
            .map(|(id, length)| {
                // Beyond e³⁸ everything is as good as forbidden, and finite.
                let exponent = (length - self.dry.allowed_length) as f32;
                (id, (self.dry.multiplier * self.dry.base.powf(exponent)).min(f32::MAX.sqrt()))
            })
            .collect()
    }

    /// For each earlier place: the token that follows it, and how many tokens before it equal the context's last.
    ///
    /// The lengths are the Z function of the reversed context (Gusfield 1997): linear in its length.
    fn matches(&self) -> Vec<(TokenId, usize)> {
        let len = self.tokens.len();
        let at = |i: usize| self.tokens[len - 1 - i];
        let mut z = vec![0_usize; len];
        let (mut left, mut right) = (0, 0);
        for i in 1..len {
            let mut length = if i < right { z[i - left].min(right - i) } else { 0 };
            while i + length < len && at(length) == at(i + length) {
                length += 1;
            }
            z[i] = length;
            if i + length > right {
                (left, right) = (i, i + length);
            }
        }
        (1..len).map(|i| (at(i - 1), z[i].min(self.since_breaker))).collect()
    }
}
