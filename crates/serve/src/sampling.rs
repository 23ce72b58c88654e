//! The parameters that chat and plain completions share.
//!
//! Names are the OpenAI API's; what it doesn't have is named as vLLM does (`top_k`, `min_p`, `repetition_penalty`,
//! `guided_json` …) or llama.cpp's server (`typical_p`, `dry_…`, `mirostat…`).

use std::collections::BTreeMap;

use hearth_engine::{Constraint, Dry, Mirostat, Request, Sampling};
use hearth_tokenizer::TokenId;
use serde::Deserialize;
use serde_json::json;

use crate::constraint;
use crate::error::{Error, Result};
use crate::fields::Fields;

/// More stop texts than anybody needs would only slow every token down.
const MAX_STOPS: usize = 16;

/// The most alternatives the OpenAI API reports for a token.
pub(crate) const MAX_TOP_LOGPROBS: usize = 20;

/// How an answer is generated and sent.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "the API has them so")]
pub(crate) struct Asked {
    pub(crate) sampling: Sampling,
    pub(crate) stop: Vec<String>,
    pub(crate) constraint: Option<Constraint>,
    /// Answers to the one prompt.
    pub(crate) n: usize,
    pub(crate) is_stream: bool,
    pub(crate) include_usage: bool,
    /// Stop tokens don't end an answer: benchmarks ask for answers of one length.
    pub(crate) ignores_eos: bool,
    /// llama.cpp's `cache_prompt`.
    reuses_prefix: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
    /// Padding against traffic analysis has no use on one's own machine; both values are the same here.
    #[serde(default)]
    #[serde(rename = "include_obfuscation")]
    _include_obfuscation: bool,
}

impl Asked {
    /// Takes the shared parameters; `defaults` hold where nothing is said, `seed` where none is given.
    pub(crate) fn take(fields: &mut Fields, defaults: Sampling, seed: u64) -> Result<Self> {
        let sampling = sampling(fields, defaults, seed)?;
        let stop = match fields.take("stop")? {
            None => Vec::new(),
            Some(OneOrMany::One(stop)) => vec![stop],
            Some(OneOrMany::Many(stops)) => stops,
        };
        if stop.iter().any(String::is_empty) {
            return Err(Error::parameter("stop", "an empty text would end every answer at once"));
        }
        if stop.len() > MAX_STOPS {
            return Err(Error::parameter("stop", format!("{} texts, at most {MAX_STOPS}", stop.len())));
        }
        let is_stream = fields.take("stream")?.unwrap_or(false);
        let options = fields.take::<StreamOptions>("stream_options")?;
        if options.is_some() && !is_stream {
            return Err(Error::parameter("stream_options", "only allowed with `stream`"));
        }
        let include_usage = options.unwrap_or_default().include_usage;
        let n = fields.take("n")?.unwrap_or(1);
        let constraint = constraint::take(fields)?;
        let ignores_eos = fields.take("ignore_eos")?.unwrap_or(false);
        let reuses_prefix = fields.take("cache_prompt")?.unwrap_or(true);
        fields.accept_only("store", &[json!(false)])?;
        fields.accept_only("service_tier", &[json!("auto"), json!("default")])?;
        fields.ignore_labels();
        Ok(Self { sampling, stop, constraint, n, is_stream, include_usage, ignores_eos, reuses_prefix })
    }

    /// The engine's request for a prompt.
    pub(crate) fn request(&self, prompt: Vec<TokenId>, max_tokens: usize, stop_ids: &[TokenId]) -> Request {
        Request {
            sampling: self.sampling.clone(),
            stop: self.stop.clone(),
            constraint: self.constraint.clone(),
            reuses_prefix: self.reuses_prefix,
            ..Request::greedy(
                prompt,
                max_tokens,
                if self.ignores_eos { Vec::new() } else { stop_ids.to_vec() },
            )
        }
    }
}

fn sampling(fields: &mut Fields, defaults: Sampling, seed: u64) -> Result<Sampling> {
    Ok(Sampling {
        temperature: fields.take("temperature")?.unwrap_or(defaults.temperature),
        // Some clients say -1 for all.
        top_k: match fields.take::<i64>("top_k")? {
            None => defaults.top_k,
            Some(-1) => 0,
            Some(top_k) => usize::try_from(top_k)
                .map_err(|_| Error::parameter("top_k", format!("must be 0 or more, not {top_k}")))?,
        },
        typical_p: fields.take("typical_p")?.unwrap_or(defaults.typical_p),
        top_p: fields.take("top_p")?.unwrap_or(defaults.top_p),
        min_p: fields.take("min_p")?.unwrap_or(defaults.min_p),
        repetition_penalty: fields.take("repetition_penalty")?.unwrap_or(defaults.repetition_penalty),
        frequency_penalty: fields.take("frequency_penalty")?.unwrap_or(defaults.frequency_penalty),
        presence_penalty: fields.take("presence_penalty")?.unwrap_or(defaults.presence_penalty),
        dry: dry(fields)?.or(defaults.dry),
        mirostat: mirostat(fields)?.or(defaults.mirostat),
        logit_bias: match fields.take::<BTreeMap<TokenId, f32>>("logit_bias")? {
            None => defaults.logit_bias,
            Some(biases) => biases.into_iter().collect(),
        },
        seed: fields.take::<i64>("seed")?.map_or(seed, |seed| seed as u64),
    })
}

/// DRY where `dry_multiplier` is above 0.
fn dry(fields: &mut Fields) -> Result<Option<Dry>> {
    let multiplier: f32 = fields.take("dry_multiplier")?.unwrap_or(0.0);
    let usual = Dry::with_multiplier(multiplier);
    let dry = Dry {
        multiplier,
        base: fields.take("dry_base")?.unwrap_or(usual.base),
        allowed_length: fields.take("dry_allowed_length")?.unwrap_or(usual.allowed_length),
        sequence_breakers: fields.take("dry_sequence_breakers")?.unwrap_or(usual.sequence_breakers),
    };
    // The whole context counts here.
    fields.accept_only("dry_penalty_last_n", &[json!(-1)])?;
    Ok((multiplier != 0.0).then_some(dry))
}

/// The second version; the first needs the size of the vocabulary's tail and was given up by its authors' followers.
fn mirostat(fields: &mut Fields) -> Result<Option<Mirostat>> {
    let version: u8 = fields.take("mirostat")?.unwrap_or(0);
    let tau = fields.take("mirostat_tau")?.unwrap_or(5.0);
    let eta = fields.take("mirostat_eta")?.unwrap_or(0.1);
    match version {
        0 => Ok(None),
        2 => Ok(Some(Mirostat { tau, eta })),
        _ => Err(Error::Unsupported {
            param: "mirostat".into(),
            value: format!("`{version}`"),
            accepted: "`0` or `2`".into(),
        }),
    }
}
