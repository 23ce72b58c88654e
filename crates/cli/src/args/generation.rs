//! How text is generated: what `hearth generate` and `hearth chat` share.

use clap::{Args as ClapArgs, ValueEnum};
use hearth_engine::{Dry, Mirostat, Sampling};
use hearth_tensor::graph::{KvOptions, KvType};
use hearth_tokenizer::TokenId;

#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Sampling, in this order")]
pub(crate) struct SamplingArgs {
    /// Added to the logit of a token, as ID=VALUE; may be given several times
    #[arg(long, value_name = "ID=VALUE", value_parser = bias, allow_hyphen_values = true)]
    pub(crate) logit_bias: Vec<(TokenId, f32)>,
    /// Logits of tokens seen before are divided by it (CTRL); 1 is off
    #[arg(long, default_value_t = 1.0)]
    pub(crate) repetition_penalty: f32,
    /// Subtracted for each time a token was generated
    #[arg(long, default_value_t = 0.0, allow_hyphen_values = true)]
    pub(crate) frequency_penalty: f32,
    /// Subtracted once from tokens that were generated
    #[arg(long, default_value_t = 0.0, allow_hyphen_values = true)]
    pub(crate) presence_penalty: f32,
    /// DRY: penalty of a repeated sequence; 0 is off
    #[arg(long, default_value_t = 0.0)]
    pub(crate) dry_multiplier: f32,
    /// DRY: each further token multiplies the penalty by this
    #[arg(long, default_value_t = 1.75)]
    pub(crate) dry_base: f32,
    /// DRY: shorter repetitions cost nothing
    #[arg(long, default_value_t = 2)]
    pub(crate) dry_allowed_length: usize,
    /// 0 takes the most probable token, and ends the list here
    #[arg(long, default_value_t = 0.0)]
    pub(crate) temperature: f32,
    /// Mirostat 2 in place of the four below: surprise aimed at, in bits; 0 is off
    #[arg(long, default_value_t = 0.0)]
    pub(crate) mirostat_tau: f32,
    /// Mirostat's learning rate
    #[arg(long, default_value_t = 0.1)]
    pub(crate) mirostat_eta: f32,
    /// Keep this many of the most probable tokens; 0 keeps all
    #[arg(long, default_value_t = 0)]
    pub(crate) top_k: usize,
    /// Keep the most typical tokens that together have this probability
    #[arg(long, default_value_t = 1.0)]
    pub(crate) typical_p: f32,
    /// Keep the most probable tokens that together have this probability
    #[arg(long, default_value_t = 1.0)]
    pub(crate) top_p: f32,
    /// Keep tokens with this fraction of the best one's probability
    #[arg(long, default_value_t = 0.0)]
    pub(crate) min_p: f32,
    /// The same seed gives the same text
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// How keys and values are kept, and how many of them are looked at.
#[derive(Debug, Clone, Copy, ClapArgs)]
#[command(next_help_heading = "Keys and values")]
pub(crate) struct KvArgs {
    /// Type of cached keys and values: f16 takes half of f32's memory, `q8_0` a little more than a quarter
    #[arg(long, value_enum, default_value_t = KvTypeArg::F16)]
    pub(crate) kv_type: KvTypeArg,
    /// Look at this many pages of 64 positions at most, those that fit the query best: faster in long contexts, and
    /// an approximation
    #[arg(long, value_name = "PAGES", value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) sparse_pages: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KvTypeArg {
    F32,
    F16,
    #[value(name = "q8_0")]
    Q8,
}

impl KvArgs {
    pub(crate) fn options(self) -> KvOptions {
        let kv_type = match self.kv_type {
            KvTypeArg::F32 => KvType::F32,
            KvTypeArg::F16 => KvType::F16,
            KvTypeArg::Q8 => KvType::Q8_0,
        };
        KvOptions { kv_type, sparse_pages: self.sparse_pages.map(|pages| pages as usize) }
    }
}

/// Guesses at the next tokens: they change the speed, never the text.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Speculation (changes the speed, never the text)")]
pub(crate) struct SpeculationArgs {
    /// Guess what followed the last words where they stood before: for answers that repeat their prompt
    #[arg(long)]
    pub(crate) prompt_lookup: bool,
    /// Guess by a smaller model with the same vocabulary
    #[arg(long, value_name = "MODEL", conflicts_with = "prompt_lookup")]
    pub(crate) draft: Option<String>,
    /// Tokens to guess at most
    #[arg(long, default_value_t = 8, value_name = "N")]
    pub(crate) max_draft: usize,
}

impl SamplingArgs {
    pub(crate) fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            typical_p: self.typical_p,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            dry: (self.dry_multiplier != 0.0).then(|| Dry {
                base: self.dry_base,
                allowed_length: self.dry_allowed_length,
                ..Dry::with_multiplier(self.dry_multiplier)
            }),
            mirostat: (self.mirostat_tau != 0.0)
                .then_some(Mirostat { tau: self.mirostat_tau, eta: self.mirostat_eta }),
            logit_bias: self.logit_bias.clone(),
            seed: self.seed,
        }
    }

    /// `/set NAME VALUE` of a conversation.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let name = name.trim_start_matches("--").replace('-', "_");
        match name.as_str() {
            "repetition_penalty" => parse(value, &mut self.repetition_penalty),
            "frequency_penalty" => parse(value, &mut self.frequency_penalty),
            "presence_penalty" => parse(value, &mut self.presence_penalty),
            "dry_multiplier" => parse(value, &mut self.dry_multiplier),
            "dry_base" => parse(value, &mut self.dry_base),
            "dry_allowed_length" => parse(value, &mut self.dry_allowed_length),
            "temperature" => parse(value, &mut self.temperature),
            "mirostat_tau" => parse(value, &mut self.mirostat_tau),
            "mirostat_eta" => parse(value, &mut self.mirostat_eta),
            "top_k" => parse(value, &mut self.top_k),
            "typical_p" => parse(value, &mut self.typical_p),
            "top_p" => parse(value, &mut self.top_p),
            "min_p" => parse(value, &mut self.min_p),
            "seed" => parse(value, &mut self.seed),
            _ => Err(format!(
                "`{name}` can't be set; there is temperature, top_k, typical_p, top_p, min_p, repetition_penalty, \
                 frequency_penalty, presence_penalty, dry_multiplier, dry_base, dry_allowed_length, mirostat_tau, \
                 mirostat_eta, seed, max_tokens"
            )),
        }
    }
}

fn parse<T: std::str::FromStr>(text: &str, into: &mut T) -> Result<(), String> {
    *into = text.parse().map_err(|_| format!("`{text}` isn't a number that can stand there"))?;
    Ok(())
}

fn bias(text: &str) -> Result<(TokenId, f32), String> {
    let wrong = || format!("`{text}` isn't ID=VALUE, 198=-100 say");
    let (id, value) = text.split_once('=').ok_or_else(wrong)?;
    Ok((id.parse().map_err(|_| wrong())?, value.parse().map_err(|_| wrong())?))
}
