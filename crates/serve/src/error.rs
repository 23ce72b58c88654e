//! Every way a request, or the server itself, can fail.
//!
//! As a response an error has the shape of the OpenAI API: `{"error": {message, type, param, code}}`. Clients
//! choose their exception by status and `code`.

use std::net::SocketAddr;

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("port {port} on {ip} is in use; stop the program that has it, or choose another with `--port {other}`",
        port = address.port(), ip = address.ip(), other = address.port().wrapping_add(1).max(1024))]
    PortInUse { address: SocketAddr },
    #[error("`{address}` can't be listened on: {source}; choose others with `--host` and `--port`")]
    Bind { address: SocketAddr, source: std::io::Error },
    #[error("the server failed: {0}")]
    Io(#[from] std::io::Error),

    #[error("the request's body isn't UTF-8: the byte at {offset} doesn't belong there")]
    NotUtf8 { offset: usize },
    #[error("the request's body isn't a JSON object: {reason}")]
    NotJson { reason: String },
    #[error("the request's body is larger than {max_bytes} bytes")]
    TooLarge { max_bytes: usize },
    #[error("the request's body broke off: {reason}")]
    BrokenBody { reason: String },
    #[error("unknown parameter{s} {names}", s = if names.len() == 1 { "" } else { "s" }, names = quoted(names))]
    UnknownParameters { names: Vec<String> },
    #[error("`{param}` is missing")]
    Missing { param: String },
    #[error("`{param}`: {reason}")]
    Parameter { param: String, reason: String },
    #[error("`{param}` {value} isn't supported; leave it out or use {accepted}")]
    Unsupported { param: String, value: String, accepted: String },
    #[error("the model `{name}` doesn't exist; there is {known}", known = quoted(known))]
    UnknownModel { name: String, known: Vec<String> },
    #[error(
        "the prompt has {prompt_tokens} tokens{with}, but the context holds {max_context} with at least one for the \
         answer; shorten the `{param}`",
        with = if *is_grounded { " with the passages from the documents" } else { "" }
    )]
    ContextTooLong { param: &'static str, prompt_tokens: usize, max_context: usize, is_grounded: bool },
    #[error("the conversation doesn't fit the model's template: {reason}")]
    Template { reason: String },
    #[error("{reason}")]
    Constraint { reason: String },
    #[error("nothing is at `{path}`")]
    UnknownPath { path: String },
    #[error("`{path}` doesn't answer {method}")]
    Method { method: String, path: String },
    #[error("no passage has the id `{id}`; the documents may have been read anew since")]
    UnknownPassage { id: String },
    #[error("no knowledge base or document is called `{name}`")]
    UnknownKnowledge { name: String },
    #[error("this server has no knowledge bases; start it with `--knowledge NAME`")]
    NoKnowledge,
    #[error("the knowledge base failed: {reason}")]
    Knowledge { reason: String },
    #[error("there is no report yet; it is written when the comparison is over")]
    NoReport,
    #[error("no embedding model is loaded")]
    NoEmbedding,
    #[error("requests for the host `{host}` aren't answered here; use localhost or 127.0.0.1")]
    ForeignHost { host: String },
    #[error("the page at `{origin}` may not use this server")]
    ForeignOrigin { origin: String },
    #[error(
        "this server asks for a key: send `Authorization: Bearer sk-hearth-…`; `hearth keys create NAME` makes one"
    )]
    NoKey,
    #[error("the key ending in `{end}` isn't known here, or was revoked")]
    WrongKey { end: String },
    #[error("this key may send {per_minute} requests a minute; try again in {retry_after_s} s")]
    TooManyRequests { per_minute: u32, retry_after_s: u64 },
    #[error("this key has used {used} of its {per_day} tokens today; more in {retry_after_s} s")]
    QuotaUsed { used: u64, per_day: u64, retry_after_s: u64 },
    #[error("the accounts can't be read or written: {0}")]
    Ledger(#[from] rusqlite::Error),
    #[error("`{path}` has version {version}, this program knows {expected}; use the program that wrote it")]
    LedgerVersion { path: String, version: i64, expected: i64 },
    #[error("no random numbers to be had: {reason}")]
    Random { reason: String },
    #[error("`{path}` can't be used for TLS: {reason}")]
    Tls { path: String, reason: String },
    #[error("the upstream `{url}` failed: {reason}")]
    Upstream { url: String, reason: String },
    #[error("the documents can't be searched: {reason}")]
    Grounding { reason: String },
    #[error("the texts can't be embedded: {reason}")]
    Embedding { reason: String },
    #[error(transparent)]
    Model(#[from] hearth_engine::RegistryError),
    #[error(transparent)]
    Engine(hearth_engine::Error),
    #[error("this request met a bug in the server: {what}")]
    Bug { what: String },
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

fn quoted(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

impl Error {
    pub(crate) fn parameter(param: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Parameter { param: param.into(), reason: reason.into() }
    }

    /// What the engine says of a request whose prompt came from `param`.
    pub(crate) fn from_engine(error: hearth_engine::Error, param: &'static str, is_grounded: bool) -> Self {
        use hearth_engine::Error as E;
        match error {
            E::ContextTooLong { prompt_tokens, max_context } => {
                Self::ContextTooLong { param, prompt_tokens, max_context, is_grounded }
            }
            E::Parameter { name, value, expected } => {
                Self::parameter(name, format!("must be {expected}, not {value}"))
            }
            E::EmptyPrompt | E::TokenId { .. } => Self::parameter(param, error.to_string()),
            E::BiasedTokenId { .. } => Self::parameter("logit_bias", error.to_string()),
            E::Count { name, .. } => Self::parameter(name, error.to_string()),
            E::MemoryBudget { .. } => Self::parameter(param, error.to_string()),
            E::Constraint { .. } => Self::Constraint { reason: error.to_string() },
            other => Self::Engine(other),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NotUtf8 { .. }
            | Self::NotJson { .. }
            | Self::BrokenBody { .. }
            | Self::UnknownParameters { .. }
            | Self::Missing { .. }
            | Self::Parameter { .. }
            | Self::Unsupported { .. }
            | Self::ContextTooLong { .. }
            | Self::Constraint { .. }
            | Self::Template { .. } => StatusCode::BAD_REQUEST,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoKey | Self::WrongKey { .. } => StatusCode::UNAUTHORIZED,
            Self::TooManyRequests { .. } | Self::QuotaUsed { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Upstream { .. } => StatusCode::BAD_GATEWAY,
            Self::ForeignHost { .. } | Self::ForeignOrigin { .. } => StatusCode::FORBIDDEN,
            Self::UnknownModel { .. }
            | Self::UnknownPath { .. }
            | Self::UnknownPassage { .. }
            | Self::UnknownKnowledge { .. }
            | Self::NoKnowledge
            | Self::NoReport
            | Self::NoEmbedding => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Engine(hearth_engine::Error::Cancelled) => client_closed_request(),
            Self::Engine(hearth_engine::Error::Stopped)
            | Self::Model(hearth_engine::RegistryError::Memory { .. }) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Engine(hearth_engine::Error::QueueFull { .. }) => StatusCode::TOO_MANY_REQUESTS,
            Self::Engine(hearth_engine::Error::DeadlinePassed { .. }) => StatusCode::REQUEST_TIMEOUT,
            Self::Engine(hearth_engine::Error::MemoryBudget { .. }) => StatusCode::BAD_REQUEST,
            Self::PortInUse { .. }
            | Self::Bind { .. }
            | Self::Io(_)
            | Self::Grounding { .. }
            | Self::Embedding { .. }
            | Self::Knowledge { .. }
            | Self::Model(_)
            | Self::Ledger(_)
            | Self::LedgerVersion { .. }
            | Self::Random { .. }
            | Self::Tls { .. }
            | Self::Engine(_)
            | Self::Bug { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::UnknownModel { .. } | Self::NoEmbedding => "model_not_found",
            Self::ContextTooLong { .. } => "context_length_exceeded",
            Self::UnknownParameters { .. } => "unknown_parameter",
            Self::Missing { .. } => "missing_required_parameter",
            Self::Parameter { .. } | Self::Constraint { .. } => "invalid_value",
            Self::Unsupported { .. } => "unsupported_value",
            Self::NotJson { .. } | Self::NotUtf8 { .. } => "invalid_json",
            Self::UnknownPath { .. } => "unknown_url",
            Self::NoKey | Self::WrongKey { .. } => "invalid_api_key",
            Self::TooManyRequests { .. } => "rate_limit_exceeded",
            Self::QuotaUsed { .. } => "insufficient_quota",
            Self::Upstream { .. } => "upstream_error",
            Self::Engine(hearth_engine::Error::QueueFull { .. }) => "rate_limit_exceeded",
            Self::Engine(hearth_engine::Error::DeadlinePassed { .. }) => "timeout",
            _ => return None,
        })
    }

    fn param(&self) -> Option<&str> {
        match self {
            Self::UnknownParameters { names } => names.first().map(String::as_str),
            Self::Missing { param } | Self::Parameter { param, .. } | Self::Unsupported { param, .. } => {
                Some(param)
            }
            Self::UnknownModel { .. } => Some("model"),
            Self::ContextTooLong { param, .. } => Some(param),
            Self::Template { .. } => Some("messages"),
            _ => None,
        }
    }

    /// The body of the response, and what a broken stream says at its end.
    pub(crate) fn body(&self) -> Value {
        let kind = if self.status().is_server_error() { "server_error" } else { "invalid_request_error" };
        json!({ "error": {
            "message": self.to_string(), "type": kind, "param": self.param(), "code": self.code(),
        }})
    }
}

/// 499, as nginx has it: nobody is left to read the response, and the log shouldn't blame the server.
fn client_closed_request() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

/// What an error response says, for those who give it another shape.
#[derive(Debug, Clone)]
pub(crate) struct Said(pub(crate) String);

/// The kinds of the Anthropic API.
pub(crate) fn anthropic_kind(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

impl Error {
    /// The body in the shape of the Anthropic API.
    pub(crate) fn anthropic_body(&self) -> Value {
        json!({ "type": "error", "error": { "type": anthropic_kind(self.status()), "message": self.to_string() } })
    }

    fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::TooManyRequests { retry_after_s, .. } | Self::QuotaUsed { retry_after_s, .. } => {
                Some(*retry_after_s)
            }
            Self::Engine(hearth_engine::Error::QueueFull { retry_after_s, .. }) => Some(*retry_after_s),
            _ => None,
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = (self.status(), Json(self.body())).into_response();
        if let Some(seconds) = self.retry_after_s() {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(Said(self.to_string()));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_its_client_gave_up_isnt_the_servers_fault() {
        let error = Error::Engine(hearth_engine::Error::Cancelled);
        assert_eq!(error.status().as_u16(), 499);
        assert_eq!(error.body()["error"]["type"], "invalid_request_error");
        assert_eq!(Error::Engine(hearth_engine::Error::NotFinite).status().as_u16(), 500);
    }
}
