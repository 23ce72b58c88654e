//! `POST /v1/messages` and `/v1/messages/count_tokens`: the Anthropic API over the same engine.
//!
//! Blocks become messages, and an answer's text, reasoning and calls become blocks. Left out: pictures and documents
//! as blocks, server-side tools, and `thinking` with a budget; each is an error that names it. `cache_control` is let
//! go: every beginning of a prompt is cached here.

mod request;
mod stream;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, extract};
use hearth_engine::{Finish, Token, Usage};
use hearth_tokenizer::Tokenizer;
use serde_json::{Value, json};

use crate::answer::{Answer, Call};
use crate::ask::{self, Ask, Asking};
use crate::caller::Caller;
use crate::error::Result;
use crate::fields::Fields;
use crate::gateway;
use crate::generate;
use crate::state::State;

pub(crate) async fn message(
    extract::State(state): extract::State<Arc<State>>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response> {
    if let Some(found) = body.as_ref().ok().and_then(|body| gateway::find(&state, body)) {
        return gateway::pass(&state, &caller, "/v1/messages", found).await;
    }
    let number = state.next_request();
    let ask = request::read(&state, Fields::read(body)?, number)?;
    let (model, stops, is_stream) = (ask.assistant.name.clone(), ask.asked.stop.clone(), ask.asked.is_stream);
    let id = format!("msg_{:x}{number:08x}", state.started());
    let Asking { engine, stream, meter, splitters, prompt_tokens, .. } =
        ask.start(&state, &caller, "messages").await?;
    let tokenizer = Arc::clone(engine.model().tokenizer());
    if is_stream {
        let writer = stream::Writer::new(head(&id, &model), splitters, prompt_tokens, (tokenizer, stops));
        return Ok(generate::respond(vec![stream], writer, meter));
    }
    let (completions, usage) = generate::collect(vec![stream], meter).await?;
    let mut body = head(&id, &model);
    for (answer, completion) in ask::answers(splitters, &completions).into_iter().zip(&completions) {
        let stop = stop_text(&tokenizer, &completion.tokens, &completion.usage, &stops);
        let (reason, sequence) = stop_reason(completion.finish, !answer.calls.is_empty(), stop);
        body["content"] = blocks(answer).into();
        body["stop_reason"] = reason.into();
        body["stop_sequence"] = json!(sequence);
    }
    body["usage"] = self::usage(&usage);
    Ok(Json(body).into_response())
}

pub(crate) async fn count_tokens(
    extract::State(state): extract::State<Arc<State>>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response> {
    if let Some(found) = body.as_ref().ok().and_then(|body| gateway::find(&state, body)) {
        return gateway::pass(&state, &caller, "/v1/messages/count_tokens", found).await;
    }
    Ok(count_tokens_here(extract::State(state), body).await?.into_response())
}

async fn count_tokens_here(
    extract::State(state): extract::State<Arc<State>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>> {
    let mut fields = Fields::read(body)?;
    fields.put("max_tokens", json!(1));
    let ask: Ask = request::read(&state, fields, 0)?;
    Ok(Json(json!({ "input_tokens": ask.count(&state).await? })))
}

fn head(id: &str, model: &str) -> Value {
    json!({
        "id": id, "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": null, "stop_sequence": null,
    })
}

fn usage(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": usage.completion_tokens,
    })
}

fn blocks(answer: Answer) -> Vec<Value> {
    let Answer { text, reasoning, calls } = answer;
    let thinking = (!reasoning.is_empty())
        .then(|| json!({ "type": "thinking", "thinking": reasoning, "signature": "" }));
    // An answer without any block would be none.
    let text = (!text.is_empty() || (calls.is_empty() && thinking.is_none()))
        .then(|| json!({ "type": "text", "text": text }));
    let calls = calls.into_iter().map(|Call { id, name, arguments }| {
        // Arguments that were cut off are no JSON.
        let input: Value = serde_json::from_str(&arguments).unwrap_or_else(|_| json!({}));
        json!({ "type": "tool_use", "id": id, "name": name, "input": input })
    });
    thinking.into_iter().chain(text).chain(calls).collect()
}

fn stop_reason(finish: Finish, has_calls: bool, stop: Option<String>) -> (&'static str, Option<String>) {
    match (finish, stop) {
        (Finish::Length, _) => ("max_tokens", None),
        (Finish::Stop, _) if has_calls => ("tool_use", None),
        (Finish::Stop, Some(stop)) => ("stop_sequence", Some(stop)),
        (Finish::Stop, None) => ("end_turn", None),
    }
}

/// The stop text that ended an answer: a stop token is counted, but isn't among its tokens.
fn stop_text(tokenizer: &Tokenizer, tokens: &[Token], usage: &Usage, stops: &[String]) -> Option<String> {
    if tokens.len() < usage.completion_tokens || stops.is_empty() {
        return None;
    }
    let ids: Vec<_> = tokens.iter().map(|token| token.id).collect();
    let text = tokenizer.decode(&ids);
    let found = stops.iter().filter_map(|stop| Some((text.find(stop.as_str())?, stop)));
    found.min_by_key(|(at, _)| *at).map(|(_, stop)| stop.clone())
}
