//! What the page and a watcher ask besides answers: health, status, passages, the report.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use hearth_engine::Load;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::generate;
use crate::models::describe;
use crate::state::State;

/// The report is one file with its style and script inside, and nothing else.
const REPORT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'";

pub(crate) async fn health(Extract(state): Extract<Arc<State>>) -> Json<Value> {
    let models: Vec<String> = state.assistants().iter().map(|assistant| assistant.name.clone()).collect();
    Json(json!({ "status": "ok", "models": models, "behind": state.behind() }))
}

/// Whether a request sent now would be taken on: not while the server stops. What waits and runs is the sum over all
/// models that are loaded.
pub(crate) async fn ready(Extract(state): Extract<Arc<State>>) -> Response {
    let loads: Vec<Load> = state.engines().iter().map(|engine| engine.load()).collect();
    let sum = |count: fn(&Load) -> usize| loads.iter().map(count).sum::<usize>();
    let upstreams: Vec<Value> = state
        .upstreams()
        .iter()
        .map(|upstream| json!({ "name": upstream.name(), "servers": upstream.states() }))
        .collect();
    let body = json!({
        "ready": !state.is_stopping(), "models": loads.len(), "waiting": sum(|load| load.waiting_requests),
        "running": sum(|load| load.running), "upstreams": upstreams,
    });
    let status = if state.is_stopping() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, Json(body)).into_response()
}

pub(crate) async fn metrics(Extract(state): Extract<Arc<State>>) -> Response {
    let text = state.metrics().text(&state.engines());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

pub(crate) async fn status(Extract(state): Extract<Arc<State>>) -> Json<Value> {
    let assistants: Vec<Value> =
        state.assistants().iter().map(|assistant| describe(&state, assistant)).collect();
    let documents = state.passages().map(|passages| passages.documents()).unwrap_or_default();
    Json(json!({
        "assistants": assistants,
        "default": state.default_name(),
        "documents": documents,
        "behind": state.behind(),
        "report": state.report().is_some_and(|path| path.is_file()),
    }))
}

pub(crate) async fn passage(
    Extract(state): Extract<Arc<State>>,
    Path(id): Path<String>,
) -> Result<Json<Value>> {
    let found = state.passages().and_then(|passages| passages.passage(&id));
    found.map(|passage| Json(json!(passage))).ok_or(Error::UnknownPassage { id })
}

pub(crate) async fn report(Extract(state): Extract<Arc<State>>) -> Result<Response> {
    let path = state.report().ok_or(Error::NoReport)?;
    let html = generate::blocking(move || match fs_err::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Error::NoReport),
        read => Ok(read?),
    });
    let headers = [(CONTENT_TYPE, "text/html; charset=utf-8"), (CONTENT_SECURITY_POLICY, REPORT_POLICY)];
    Ok((headers, html.await?).into_response())
}
