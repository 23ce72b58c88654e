//! `POST /v1/embeddings`: texts to vectors, as numbers or as base64 of little-endian f32.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, extract};
use hearth_engine::Usage;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::fields::Fields;
use crate::gateway;
use crate::generate;
use crate::grounding::InputType;
use crate::meter::Meter;
use crate::state::State;

/// The OpenAI API's limit.
const MAX_TEXTS: usize = 2048;

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    One(String),
    Many(Vec<String>),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    Float,
    Base64,
}

pub(crate) async fn embed(
    extract::State(state): extract::State<Arc<State>>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response> {
    if let Some(found) = body.as_ref().ok().and_then(|body| gateway::find(&state, body)) {
        return gateway::pass(&state, &caller, "/v1/embeddings", found).await;
    }
    let mut fields = Fields::read(body)?;
    let texts = match fields.require("input")? {
        Input::One(text) => vec![text],
        Input::Many(texts) => texts,
    };
    let name: Option<String> = fields.take("model")?;
    let encoding = fields.take("encoding_format")?.unwrap_or(Encoding::Float);
    // The embedder of a knowledge base is asked for questions: its passages are embedded already.
    let input_type = fields.take("input_type")?.unwrap_or(InputType::Query);
    let dimensions: Option<usize> = fields.take("dimensions")?;
    fields.ignore_labels();
    fields.finish()?;

    let embedding = state.embedding_named(name)?;
    if texts.is_empty() || texts.len() > MAX_TEXTS {
        let reason = format!("{} texts, expected 1 to {MAX_TEXTS}", texts.len());
        return Err(Error::parameter("input", reason));
    }
    if let Some(index) = texts.iter().position(String::is_empty) {
        return Err(Error::parameter("input", format!("the text at {index} is empty")));
    }
    let model = embedding.name().to_owned();
    let mut meter = Meter::start(&state, &caller, &model, 0);
    let embedded = generate::blocking(move || {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let embedded = embedding.embed(&texts, input_type).map_err(|reason| Error::Embedding { reason })?;
        meter.finish(Usage { prompt_tokens: embedded.num_tokens, ..Usage::default() })?;
        Ok(embedded)
    });
    let embedded = embedded.await?;
    let length = embedded.vectors.first().map_or(0, Vec::len);
    if let Some(wanted) = dimensions.filter(|wanted| *wanted != length) {
        return Err(Error::parameter(
            "dimensions",
            format!("{wanted}, but the vectors of `{model}` have {length}"),
        ));
    }
    let vector = |values: &[f32]| match encoding {
        Encoding::Float => json!(values),
        Encoding::Base64 => {
            base64(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>()).into()
        }
    };
    let data: Vec<Value> = embedded
        .vectors
        .iter()
        .enumerate()
        .map(|(index, values)| json!({ "object": "embedding", "index": index, "embedding": vector(values) }))
        .collect();
    let tokens = embedded.num_tokens;
    Ok(Json(json!({
        "object": "list", "data": data, "model": model,
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    }))
    .into_response())
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let is_padding = digit > group.len();
            let value = (bits >> (18 - 6 * digit)) & 63;
            text.push(if is_padding { '=' } else { char::from(ALPHABET[value as usize]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_as_in_the_rfc() {
        for (text, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(text.as_bytes()), expected);
        }
        assert_eq!(base64(&[0xFF, 0xFE, 0xFD]), "//79");
    }
}
