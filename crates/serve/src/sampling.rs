//! The parameters that chat and plain completions share.

use hearth_engine::{Request, Sampling};
use hearth_tokenizer::TokenId;
use serde::Deserialize;
use serde_json::json;

use crate::error::{Error, Result};
use crate::fields::Fields;

/// More stop texts than anybody needs would only slow every token down.
const MAX_STOPS: usize = 16;

/// The most alternatives the OpenAI API reports for a token.
pub(crate) const MAX_TOP_LOGPROBS: usize = 20;

/// How an answer is generated and sent.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) sampling: Sampling,
    pub(crate) stop: Vec<String>,
    pub(crate) is_stream: bool,
    pub(crate) include_usage: bool,
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
        let sampling = Sampling {
            temperature: fields.take("temperature")?.unwrap_or(defaults.temperature),
            top_k: fields.take("top_k")?.unwrap_or(defaults.top_k),
            top_p: fields.take("top_p")?.unwrap_or(defaults.top_p),
            min_p: fields.take("min_p")?.unwrap_or(defaults.min_p),
            seed: fields.take::<i64>("seed")?.map_or(seed, |seed| seed as u64),
        };
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
        take_what_is_not_built(fields)?;
        Ok(Self { sampling, stop, is_stream, include_usage })
    }

    /// The engine's request for a prompt.
    pub(crate) fn request(&self, prompt: Vec<TokenId>, max_tokens: usize, stop_ids: &[TokenId]) -> Request {
        Request {
            sampling: self.sampling,
            stop: self.stop.clone(),
            ..Request::greedy(prompt, max_tokens, stop_ids.to_vec())
        }
    }
}

/// Clients send many parameters at their neutral value, which changes nothing.
fn take_what_is_not_built(fields: &mut Fields) -> Result<()> {
    fields.accept_only("n", &[json!(1)])?;
    fields.accept_only("best_of", &[json!(1)])?;
    fields.accept_only("frequency_penalty", &[json!(0)])?;
    fields.accept_only("presence_penalty", &[json!(0)])?;
    fields.accept_only("logit_bias", &[json!({})])?;
    fields.accept_only("store", &[json!(false)])?;
    fields.accept_only("service_tier", &[json!("auto"), json!("default")])?;
    fields.ignore_labels();
    Ok(())
}
