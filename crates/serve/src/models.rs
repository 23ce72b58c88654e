//! `GET /v1/models`: the assistants, and the embedder if there is one.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Extract};
use serde_json::{Value, json};

use crate::error::Result;
use crate::state::{Assistant, State};

pub(crate) async fn list(Extract(state): Extract<Arc<State>>) -> Json<Value> {
    let mut data: Vec<Value> =
        state.assistants().iter().map(|assistant| describe(&state, assistant)).collect();
    data.extend(state.upstreams().iter().map(|upstream| card(&state, upstream.name())));
    data.extend(state.embedding().map(|embedding| card(&state, embedding.name())));
    Json(json!({ "object": "list", "data": data }))
}

/// Names may hold slashes, so the path is everything behind `models/`.
pub(crate) async fn one(
    Extract(state): Extract<Arc<State>>,
    Path(name): Path<String>,
) -> Result<Json<Value>> {
    if let Some(embedding) = state.embedding().filter(|embedding| embedding.name() == name) {
        return Ok(Json(card(&state, embedding.name())));
    }
    if let Some(upstream) = state.upstream(&name) {
        return Ok(Json(card(&state, upstream.name())));
    }
    let assistant = state.assistant(&name)?;
    Ok(Json(describe(&state, &assistant)))
}

fn card(state: &State, name: &str) -> Value {
    json!({ "id": name, "object": "model", "created": state.started(), "owned_by": "hearth" })
}

/// The OpenAI API's fields, and what the page's picker shows.
pub(crate) fn describe(state: &State, assistant: &Assistant) -> Value {
    let mut card = card(state, &assistant.name);
    card["description"] = json!(assistant.description);
    card["grounded"] = json!(assistant.grounding.is_some());
    card["adapter"] = json!(assistant.adapter);
    card["default"] = json!(assistant.name == state.default_name());
    match &assistant.model {
        None => card["max_context"] = json!(state.engine().map(|engine| engine.max_context())),
        Some(model) => {
            let loaded = state.models().and_then(|models| models.loaded_engine(model));
            card["loaded"] = json!(loaded.is_some());
            // Known once the model was read.
            card["max_context"] = json!(loaded.map(|engine| engine.max_context()));
        }
    }
    card
}
