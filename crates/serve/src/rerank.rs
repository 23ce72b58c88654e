//! `POST /v1/rerank`: documents in the order of how well they answer a query, in the shape of Jina and Cohere.
//!
//! The score is the cosine between the embedder's vectors of query and document: the order of dense retrieval, not of
//! a cross-encoder.

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

/// The limit of Cohere's API.
const MAX_DOCUMENTS: usize = 1000;

#[derive(Deserialize)]
#[serde(untagged)]
enum Document {
    Text(String),
    Object { text: String },
}

impl Document {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Object { text } => text,
        }
    }
}

pub(crate) async fn rerank(
    extract::State(state): extract::State<Arc<State>>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response> {
    if let Some(found) = body.as_ref().ok().and_then(|body| gateway::find(&state, body)) {
        return gateway::pass(&state, &caller, "/v1/rerank", found).await;
    }
    Ok(rerank_here(extract::State(state), Extension(caller), body).await?.into_response())
}

async fn rerank_here(
    extract::State(state): extract::State<Arc<State>>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>> {
    let mut fields = Fields::read(body)?;
    let name: Option<String> = fields.take("model")?;
    let query: String = fields.require("query")?;
    let documents: Vec<Document> = fields.require("documents")?;
    let top_n = fields.take("top_n")?.unwrap_or(usize::MAX);
    let has_documents = fields.take("return_documents")?.unwrap_or(false);
    fields.ignore_labels();
    fields.finish()?;
    let embedding = state.embedding_named(name)?;
    if documents.is_empty() || documents.len() > MAX_DOCUMENTS {
        let reason = format!("{} documents, expected 1 to {MAX_DOCUMENTS}", documents.len());
        return Err(Error::parameter("documents", reason));
    }
    if query.is_empty() {
        return Err(Error::parameter("query", "must not be empty"));
    }
    if let Some(index) = documents.iter().position(|document| document.text().is_empty()) {
        return Err(Error::parameter("documents", format!("the document at {index} is empty")));
    }
    let model = embedding.name().to_owned();
    let mut meter = Meter::start(&state, &caller, &model, 0);
    let work = generate::blocking(move || {
        let failed = |reason| Error::Embedding { reason };
        let texts: Vec<&str> = documents.iter().map(Document::text).collect();
        let asked = embedding.embed(&[&query], InputType::Query).map_err(failed)?;
        let found = embedding.embed(&texts, InputType::Passage).map_err(failed)?;
        let score = |vector: &Vec<f32>| cosine(&asked.vectors[0], vector);
        let scores: Vec<f32> = found.vectors.iter().map(score).collect();
        let prompt_tokens = asked.num_tokens + found.num_tokens;
        meter.finish(Usage { prompt_tokens, ..Usage::default() })?;
        Ok((documents, scores, prompt_tokens))
    });
    let (documents, scores, tokens) = work.await?;
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    let result = |index: usize| {
        let mut result = json!({ "index": index, "relevance_score": scores[index] });
        if has_documents {
            result["document"] = json!({ "text": documents[index].text() });
        }
        result
    };
    let results: Vec<Value> = order.into_iter().take(top_n).map(result).collect();
    Ok(Json(json!({
        "object": "list", "model": model, "results": results,
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    })))
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
}
