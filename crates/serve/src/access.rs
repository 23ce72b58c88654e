//! Around every request: its id, who sends it and whether they may, the log line, and Anthropic's shape of errors.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Request, State as Extract};
use axum::http::Method;
use axum::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::caller::Caller;
use crate::error::{Error, Result, Said, anthropic_kind};
use crate::ledger::{Key, rest_of_day_s};
use crate::state::State;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const APP: HeaderName = HeaderName::from_static("x-hearth-app");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Longer labels are cut: they are names, not texts.
const MAX_LABEL_CHARS: usize = 64;

/// What everybody may see: the page itself, and whether the server lives.
const OPEN: [&str; 7] = ["/", "/app.js", "/app.css", "/icon.svg", "/healthz", "/readyz", "/openapi.json"];

#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) state: Arc<State>,
    pub(crate) is_loopback: bool,
}

pub(crate) async fn admit(Extract(access): Extract<Access>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let state = Arc::clone(&access.state);
    let request_id = label(request.headers(), &REQUEST_ID).unwrap_or_else(|| state.request_id());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut key_id = String::new();
    let mut response = match access.caller(&method, &path, request.headers()) {
        Ok(caller) => {
            caller.key_id().clone_into(&mut key_id);
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    };
    if path.starts_with("/v1/messages") {
        response = as_anthropic(response, &request_id);
    }
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        state.metrics().refuse();
    }
    // No prompt, no answer, no key: what is logged may be shown to anybody who runs the server.
    state.log(&json!({
        "request_id": request_id, "method": method.as_str(), "path": path, "status": status.as_u16(), "key": key_id,
        "ms": started.elapsed().as_secs_f64() * 1e3,
        "error": response.extensions().get::<Said>().map(|_| anthropic_kind(status)),
    }));
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// A header's text, if it is short and readable.
fn label(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    let text: String = text.chars().take(MAX_LABEL_CHARS).collect();
    (!text.is_empty()).then_some(text)
}

fn secret(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| value.split_once(' '));
    let bearer =
        bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, secret)| secret.trim());
    bearer.or_else(|| headers.get(API_KEY)?.to_str().ok())
}

impl Access {
    fn caller(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<Caller> {
        let app = label(headers, &APP).unwrap_or_default();
        let mut caller = Caller { key: None, app };
        if OPEN.contains(&path) {
            return Ok(caller);
        }
        let has_keys = match self.state.ledger() {
            Some(ledger) => ledger.has_keys()?,
            None => false,
        };
        if !has_keys && self.is_loopback {
            return Ok(caller);
        }
        let secret = secret(headers).ok_or(Error::NoKey)?;
        let key = match self.state.ledger() {
            Some(ledger) => ledger.find(secret)?,
            None => None,
        };
        let key = key.ok_or_else(|| Error::WrongKey { end: end_of(secret) })?;
        if *method == Method::POST {
            self.check_limits(&key)?;
        }
        caller.key = Some(Arc::new(key));
        Ok(caller)
    }

    fn check_limits(&self, key: &Key) -> Result<()> {
        if let (Some(per_day), Some(ledger)) = (key.limits.tokens_per_day, self.state.ledger()) {
            let used = ledger.used_today(&key.id)?;
            if used >= per_day {
                return Err(Error::QuotaUsed { used, per_day, retry_after_s: rest_of_day_s() });
            }
        }
        match key.limits.requests_per_minute {
            Some(per_minute) => self.state.rates().take(&key.id, per_minute, Instant::now()),
            None => Ok(()),
        }
    }
}

/// Enough of a key to tell it from others, too little to use it.
fn end_of(secret: &str) -> String {
    let letters: Vec<char> = secret.chars().collect();
    letters[letters.len().saturating_sub(4).max(letters.len() / 2)..].iter().collect()
}

fn as_anthropic(response: Response, request_id: &str) -> Response {
    let Some(Said(message)) = response.extensions().get::<Said>().cloned() else {
        return response;
    };
    let status = response.status();
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(axum::http::header::CONTENT_LENGTH);
    parts.headers.remove(axum::http::header::CONTENT_TYPE);
    let body = json!({
        "type": "error", "error": { "type": anthropic_kind(status), "message": message }, "request_id": request_id,
    });
    let mut shaped = (status, Json(body)).into_response();
    shaped.headers_mut().extend(parts.headers);
    shaped.extensions_mut().insert(Said(message));
    shaped
}
