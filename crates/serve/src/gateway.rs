//! Models that live elsewhere: requests for their names go to OpenAI-compatible servers, with the same keys and accounts.
//!
//! Several servers of one model share its requests by the beginning of their prompts (rendezvous hashing, Thaler and
//! Ravishankar 1998), so that a conversation finds its cached beginning again and a server that goes takes only its own
//! share along; one that is busy passes requests on. All are looked at every few seconds; one that can't be reached is
//! left alone for a while, and the next in order is asked. Answers and errors pass through as they are. Left out:
//! tokenize, rerank and counting tokens, which cost nobody anything to answer elsewhere.

mod servers;

use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use hearth_engine::Usage;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::generate;
use crate::meter::Meter;
use crate::state::State;
use servers::Busy;
pub use servers::Upstream;

/// Where a stream says what it cost only if it is asked to.
const OPTIONAL_USAGE: [&str; 2] = ["/v1/chat/completions", "/v1/completions"];

/// The last events of streams that don't end with `[DONE]`.
const LAST: [&str; 4] = ["message_stop", "response.completed", "response.incomplete", "response.failed"];

/// Characters of a prompt that decide where it goes: long enough to tell system texts apart.
const PREFIX_CHARS: usize = 1024;

/// The upstream that this body's `model` names, if it is one.
pub(crate) fn find(state: &State, body: &Bytes) -> Option<(Arc<Upstream>, Value)> {
    if !state.has_upstreams() {
        return None;
    }
    let value: Value = serde_json::from_slice(body).ok()?;
    let upstream = state.upstream(value.get("model")?.as_str()?)?;
    Some((upstream, value))
}

/// Passes a request on and its answer back.
pub(crate) async fn pass(
    state: &Arc<State>,
    caller: &Caller,
    path: &'static str,
    (upstream, mut body): (Arc<Upstream>, Value),
) -> Result<Response> {
    let is_stream = body["stream"] == json!(true);
    let wants_usage = body["stream_options"]["include_usage"] == json!(true);
    body["model"] = upstream.model().into();
    if is_stream && OPTIONAL_USAGE.contains(&path) {
        // The accounts need it, whether the client does or not.
        body["stream_options"] = json!({ "include_usage": true });
    }
    let prefix = prefix_of(&body);
    let mut meter = Meter::start(state, caller, upstream.name(), 0);
    let text = body.to_string();
    let (asked, busy) = generate::blocking(move || upstream.send(path, &prefix, &text)).await?;
    let status = StatusCode::from_u16(asked.status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
    let kind =
        asked.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or("application/json");
    let kind = kind.to_owned();
    let mut upstream_body = asked.into_body();
    if kind.starts_with("text/event-stream") {
        let (sender, receiver) = mpsc::channel::<Result<Bytes, Infallible>>(64);
        tokio::task::spawn_blocking(move || {
            let _busy: Busy = busy;
            forward(&mut upstream_body, wants_usage, &mut meter, |line| {
                sender.blocking_send(Ok(line)).is_ok()
            });
        });
        let body = Body::from_stream(ReceiverStream::new(receiver));
        return Ok((status, [(CONTENT_TYPE, kind)], body).into_response());
    }
    let text = generate::blocking(move || {
        let read = upstream_body.read_to_string();
        drop(busy);
        let text = read.map_err(|error| Error::Upstream { url: path.into(), reason: error.to_string() })?;
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        if let Some(usage) = usage_of(&value) {
            meter.finish(usage)?;
        }
        Ok(text)
    });
    Ok((status, [(CONTENT_TYPE, kind)], text.await?).into_response())
}

/// The beginning of what the model reads: what stands before the conversation first.
fn prefix_of(body: &Value) -> String {
    let parts = ["system", "instructions", "messages", "prompt", "input"]
        .into_iter()
        .filter_map(|name| body.get(name));
    parts.map(Value::to_string).collect::<String>().chars().take(PREFIX_CHARS).collect()
}

/// Sends the lines of a stream on; the chunk with the usage only to those who asked for it.
fn forward(body: &mut ureq::Body, wants_usage: bool, meter: &mut Meter, send: impl Fn(Bytes) -> bool) {
    let mut usage = None;
    let mut skips_gap = false;
    for line in BufReader::new(body.as_reader()).lines() {
        let Ok(line) = line else {
            send(Bytes::from(format!(
                "data: {}\n\n",
                Error::Upstream { url: "stream".into(), reason: "it broke off".into() }.body()
            )));
            return;
        };
        if let Some(data) = line.strip_prefix("data: ") {
            let chunk: Value = serde_json::from_str(data).unwrap_or_default();
            let kind = chunk["type"].as_str().unwrap_or_default();
            usage = sum(usage, usage_of(&chunk));
            if data == "[DONE]" || LAST.contains(&kind) {
                // Accounts first: what a client has read whole is in them.
                let _ = usage.take().map(|usage| meter.finish(usage));
            } else if kind.is_empty() {
                let has_choices = chunk["choices"].as_array().is_none_or(|choices| !choices.is_empty());
                if !has_choices && !wants_usage {
                    skips_gap = true;
                    continue;
                }
                meter.token();
            } else if kind.ends_with("delta") {
                meter.token();
            }
        }
        if std::mem::take(&mut skips_gap) && line.is_empty() {
            continue;
        }
        if !send(Bytes::from(line + "\n")) {
            return;
        }
    }
}

/// Of a whole answer or an event of any dialect.
fn usage_of(body: &Value) -> Option<Usage> {
    // Responses and messages wrap theirs in what their events are about.
    let places = ["/usage", "/response/usage", "/message/usage"];
    let usage = places.into_iter().find_map(|place| body.pointer(place).filter(|usage| usage.is_object()))?;
    let count = |name: &str| usage.pointer(name).and_then(Value::as_u64).unwrap_or(0) as usize;
    // Messages count what was cached beside the rest.
    let read = count("/cache_read_input_tokens");
    let cached = count("/prompt_tokens_details/cached_tokens") + count("/input_tokens_details/cached_tokens");
    Some(Usage {
        prompt_tokens: count("/prompt_tokens") + count("/input_tokens") + read,
        cached_tokens: cached + read,
        completion_tokens: count("/completion_tokens") + count("/output_tokens"),
    })
}

/// What the events of a stream have said so far: each says all it knows.
fn sum(before: Option<Usage>, now: Option<Usage>) -> Option<Usage> {
    let (Some(before), Some(now)) = (before, now) else { return now.or(before) };
    Some(Usage {
        prompt_tokens: before.prompt_tokens.max(now.prompt_tokens),
        cached_tokens: before.cached_tokens.max(now.cached_tokens),
        completion_tokens: before.completion_tokens.max(now.completion_tokens),
    })
}
