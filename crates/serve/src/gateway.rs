//! Models that live elsewhere: requests for their names go to OpenAI-compatible servers, with the same keys and accounts.
//!
//! Several servers of one model share its requests by the beginning of their prompts (rendezvous hashing, Thaler and
//! Ravishankar 1998), so that a conversation finds its cached beginning again and a server that goes takes only its own
//! share along. One that can't be reached is left alone for a while, and the next in order is asked. Answers and errors
//! pass through as they are. Left out: chat completions, completions and embeddings are all that is passed on.

use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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

/// A server that failed isn't asked for so long, unless all have failed.
const REST: Duration = Duration::from_secs(10);

/// For a connection; answers may take as long as they need.
const MAX_CONNECT: Duration = Duration::from_secs(5);

/// Characters of a prompt that decide where it goes: long enough to tell system texts apart.
const PREFIX_CHARS: usize = 1024;

/// Where a model's servers are.
#[derive(Debug)]
pub struct Upstream {
    name: String,
    servers: Vec<UpstreamServer>,
    key: Option<String>,
    agent: ureq::Agent,
}

#[derive(Debug)]
struct UpstreamServer {
    url: String,
    failed: Mutex<Option<Instant>>,
}

impl Upstream {
    /// A model by the name its servers know, and their addresses; `key` is what they ask for.
    pub fn new(name: &str, urls: &[String], key: Option<String>) -> Self {
        let config =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_connect(Some(MAX_CONNECT));
        let server = |url: &String| UpstreamServer {
            url: url.trim_end_matches('/').trim_end_matches("/v1").into(),
            failed: Mutex::default(),
        };
        Self {
            name: name.into(),
            servers: urls.iter().map(server).collect(),
            key,
            agent: config.build().into(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The servers in the order in which this prompt asks them; those that failed lately come last.
    fn order(&self, prefix: &str, now: Instant) -> Vec<&UpstreamServer> {
        let mut servers: Vec<&UpstreamServer> = self.servers.iter().collect();
        servers.sort_by_key(|server| (server.is_resting(now), std::cmp::Reverse(hash(prefix, &server.url))));
        servers
    }

    /// Asks one server after the other until one answers.
    fn send(&self, path: &str, prefix: &str, body: &str) -> Result<ureq::http::Response<ureq::Body>> {
        let mut last = Error::Upstream { url: self.name.clone(), reason: "it has no servers".into() };
        for server in self.order(prefix, Instant::now()) {
            let mut request =
                self.agent.post(format!("{}{path}", server.url)).header("content-type", "application/json");
            if let Some(key) = &self.key {
                request = request.header("authorization", format!("Bearer {key}"));
            }
            let reason = match request.send(body) {
                // These say that the server isn't there for us, not what it thinks of the request.
                Ok(response) if ![502, 503, 504].contains(&response.status().as_u16()) => {
                    server.set_failed(None);
                    return Ok(response);
                }
                Ok(response) => format!("it answers {}", response.status()),
                Err(error) => error.to_string(),
            };
            server.set_failed(Some(Instant::now()));
            last = Error::Upstream { url: server.url.clone(), reason };
        }
        Err(last)
    }
}

impl UpstreamServer {
    fn is_resting(&self, now: Instant) -> bool {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|failed| now.saturating_duration_since(failed) < REST)
    }

    fn set_failed(&self, failed: Option<Instant>) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failed;
    }
}

/// FNV-1a of both texts, mixed at the end so that neighbouring addresses differ in all bits.
fn hash(prefix: &str, url: &str) -> u64 {
    let bytes = prefix.bytes().chain([0]).chain(url.bytes());
    let sum = bytes
        .fold(0xCBF2_9CE4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    let mixed = (sum ^ (sum >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    mixed ^ (mixed >> 33)
}

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
    if is_stream {
        // The accounts need it, whether the client does or not.
        body["stream_options"] = json!({ "include_usage": true });
    }
    let start = ["messages", "prompt", "input"].into_iter().find_map(|name| body.get(name));
    let prefix: String = start.map(Value::to_string).unwrap_or_default().chars().take(PREFIX_CHARS).collect();
    let mut meter = Meter::start(state, caller, upstream.name(), 0);
    let text = body.to_string();
    let asked = generate::blocking(move || upstream.send(path, &prefix, &text)).await?;
    let status = StatusCode::from_u16(asked.status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
    let kind =
        asked.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or("application/json");
    let kind = kind.to_owned();
    let mut upstream_body = asked.into_body();
    if kind.starts_with("text/event-stream") {
        let (sender, receiver) = mpsc::channel::<Result<Bytes, Infallible>>(64);
        tokio::task::spawn_blocking(move || {
            forward(&mut upstream_body, wants_usage, &mut meter, |line| {
                sender.blocking_send(Ok(line)).is_ok()
            });
        });
        let body = Body::from_stream(ReceiverStream::new(receiver));
        return Ok((status, [(CONTENT_TYPE, kind)], body).into_response());
    }
    let text = generate::blocking(move || {
        let read = upstream_body.read_to_string();
        let text = read.map_err(|error| Error::Upstream { url: path.into(), reason: error.to_string() })?;
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        if let Some(usage) = usage_of(&value) {
            meter.finish(usage)?;
        }
        Ok(text)
    });
    Ok((status, [(CONTENT_TYPE, kind)], text.await?).into_response())
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
            if data == "[DONE]" {
                // Accounts first: what a client has read whole is in them.
                let _ = usage.take().map(|usage| meter.finish(usage));
            } else {
                let chunk: Value = serde_json::from_str(data).unwrap_or_default();
                usage = usage_of(&chunk).or(usage);
                let has_choices = chunk["choices"].as_array().is_none_or(|choices| !choices.is_empty());
                if !has_choices && !wants_usage {
                    skips_gap = true;
                    continue;
                }
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

fn usage_of(body: &Value) -> Option<Usage> {
    let usage = body.get("usage").filter(|usage| usage.is_object())?;
    let count = |value: &Value| value.as_u64().unwrap_or(0) as usize;
    Some(Usage {
        prompt_tokens: count(&usage["prompt_tokens"]),
        cached_tokens: count(&usage["prompt_tokens_details"]["cached_tokens"]),
        completion_tokens: count(&usage["completion_tokens"]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream() -> Upstream {
        let urls: Vec<String> = (0..4).map(|i| format!("http://127.0.0.1:{}", 9000 + i)).collect();
        Upstream::new("m", &urls, None)
    }

    #[test]
    fn a_server_that_goes_moves_only_its_own_prompts() {
        let (all, now) = (upstream(), Instant::now());
        let first = |i: usize| all.order(&format!("prompt {i}"), now)[0].url.clone();
        let before: Vec<String> = (0..1000).map(first).collect();
        for server in &all.servers {
            let share = before.iter().filter(|url| **url == server.url).count();
            assert!((150..350).contains(&share), "{share} of 1000 at {}", server.url);
        }
        all.servers[1].set_failed(Some(now));
        for (i, before) in before.iter().enumerate() {
            let after = first(i);
            assert_ne!(after, all.servers[1].url);
            assert!(after == *before || *before == all.servers[1].url, "prompt {i} moved without need");
        }
        let later = now + REST;
        assert_eq!(all.order("prompt 7", later)[0].url, before[7], "it is asked again later");
    }
}
