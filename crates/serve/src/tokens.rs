//! `POST /tokenize` and `POST /detokenize`: text, or a conversation, to ids and back, as vLLM's and llama.cpp's servers
//! have them, and `GET /tokenizer_info`, by which evaluations find out that a server has both. Text of a prompt or message
//! never becomes a special token.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, extract};
use hearth_tokenizer::{Conversation, TokenId};
use serde_json::{Map, Value, json};

use crate::ask;
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::fields::Fields;
use crate::gateway;
use crate::generate;
use crate::state::{Assistant, State};

pub(crate) async fn tokenize(
    extract::State(state): extract::State<Arc<State>>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response> {
    if let Some(found) = body.as_ref().ok().and_then(|body| gateway::find(&state, body)) {
        return gateway::pass(&state, &caller, "/tokenize", found).await;
    }
    Ok(tokenize_here(extract::State(state), body).await?.into_response())
}

async fn tokenize_here(
    extract::State(state): extract::State<Arc<State>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>> {
    let mut fields = Fields::read(body)?;
    let assistant = take_model(&state, &mut fields)?;
    // vLLM calls it `prompt`, llama.cpp `content`.
    let prompt: Option<String> = match fields.take("prompt")? {
        None => fields.take("content")?,
        some => some,
    };
    let messages: Option<Vec<Map<String, Value>>> = fields.take("messages")?;
    let adds_special = fields.take("add_special_tokens")?;
    let adds_special = fields.take("add_special")?.or(adds_special).unwrap_or(prompt.is_some());
    let has_texts = fields.take("return_token_strs")?.unwrap_or(false);
    let has_pieces = fields.take("with_pieces")?.unwrap_or(false);
    fields.accept_only("add_generation_prompt", &[json!(true)])?;
    fields.finish()?;
    let engine = state.loaded(&assistant).await?;
    let ids: Vec<TokenId> = match (prompt, messages) {
        (Some(text), None) => {
            let shared = Arc::clone(&engine);
            generate::blocking(move || {
                let tokenizer = shared.model().tokenizer();
                let ids = tokenizer.encode(&text);
                Ok(if adds_special { tokenizer.wrap(&ids) } else { ids })
            })
            .await?
        }
        (None, Some(messages)) => {
            let conversation = Conversation::from(ask::messages(messages)?);
            let prompt = engine.model().chat.prompt(&conversation);
            prompt.map_err(|error| Error::Template { reason: error.to_string() })?
        }
        (None, None) => return Err(Error::Missing { param: "prompt".into() }),
        (Some(_), Some(_)) => return Err(Error::parameter("messages", "only one of it and `prompt`")),
    };
    let tokenizer = engine.model().tokenizer();
    let text = |id: TokenId| String::from_utf8_lossy(tokenizer.token_bytes(id)).into_owned();
    let tokens: Value = match has_pieces {
        true => ids.iter().map(|&id| json!({ "id": id, "piece": text(id) })).collect(),
        false => json!(ids),
    };
    let mut body = json!({ "count": ids.len(), "max_model_len": engine.max_context(), "tokens": tokens });
    if has_texts {
        body["token_strs"] = ids.iter().map(|&id| Value::from(text(id))).collect();
    }
    Ok(Json(body))
}

/// Of the default model: nothing in the request could name another.
pub(crate) async fn info(extract::State(state): extract::State<Arc<State>>) -> Result<Json<Value>> {
    let assistant = state.assistant(&state.default_name())?;
    let engine = state.loaded(&assistant).await?;
    let chat = &engine.model().chat;
    let tokenizer = engine.model().tokenizer();
    let text = |id: TokenId| String::from_utf8_lossy(tokenizer.token_bytes(id)).into_owned();
    Ok(Json(json!({
        "model": assistant.name, "tokenizer_class": "PreTrainedTokenizerFast",
        "vocab_size": engine.model().config().vocab_size, "model_max_length": engine.max_context(),
        "add_bos_token": tokenizer.adds_bos(), "bos_token": tokenizer.bos().map(text),
        "eos_token": chat.stops().first().map(|&id| text(id)), "pad_token": null,
        "chat_template": chat.template(),
    })))
}

pub(crate) async fn detokenize(
    extract::State(state): extract::State<Arc<State>>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response> {
    if let Some(found) = body.as_ref().ok().and_then(|body| gateway::find(&state, body)) {
        return gateway::pass(&state, &caller, "/detokenize", found).await;
    }
    Ok(detokenize_here(extract::State(state), body).await?.into_response())
}

async fn detokenize_here(
    extract::State(state): extract::State<Arc<State>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>> {
    let mut fields = Fields::read(body)?;
    let assistant = take_model(&state, &mut fields)?;
    let ids: Vec<TokenId> = fields.require("tokens")?;
    fields.finish()?;
    let engine = state.loaded(&assistant).await?;
    let vocab_size = engine.model().config().vocab_size;
    if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab_size) {
        return Err(Error::parameter(
            "tokens",
            format!("token id {id} isn't in the vocabulary of {vocab_size}"),
        ));
    }
    let text = engine.model().tokenizer().decode_special(&ids);
    // vLLM's name and llama.cpp's.
    Ok(Json(json!({ "prompt": text, "content": text })))
}

fn take_model(state: &State, fields: &mut Fields) -> Result<Arc<Assistant>> {
    let name = fields.take::<String>("model")?.unwrap_or_else(|| state.default_name());
    state.assistant(&name)
}
