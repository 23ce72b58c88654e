//! `/v1/knowledge`: knowledge bases listed, made, filled, searched and deleted over HTTP.
//!
//! What a base is and how it is searched is known to whoever implements [`Knowledge`]; here stand the shapes of requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::{Json, extract};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::fields::Fields;
use crate::generate;
use crate::state::State;

/// Passages of a search at most.
const MAX_K: usize = 1000;

/// Knowledge bases behind a server. Names of several bases have commas between.
pub trait Knowledge: Send + Sync {
    /// A JSON object for each base.
    fn list(&self) -> Result<Vec<Value>, KnowledgeError>;

    /// Makes an empty base; `embedder` is a model's name, or `none`.
    fn create(&self, name: &str, embedder: Option<&str>) -> Result<Value, KnowledgeError>;

    fn delete(&self, name: &str) -> Result<(), KnowledgeError>;

    /// A JSON object for each document.
    fn documents(&self, name: &str) -> Result<Vec<Value>, KnowledgeError>;

    /// Adds documents, or puts them in the place of those with the same id. What was answered survives a kill.
    fn add(&self, name: &str, documents: Vec<NewDocument>) -> Result<Value, KnowledgeError>;

    fn remove(&self, name: &str, document: &str) -> Result<Value, KnowledgeError>;

    /// The found passages and what each stage did.
    fn search(&self, names: &str, search: Search) -> Result<Value, KnowledgeError>;
}

impl std::fmt::Debug for dyn Knowledge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("dyn Knowledge")
    }
}

/// Why a base couldn't do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnowledgeError {
    /// No base, or no document, is called so.
    Unknown {
        name: String,
    },
    /// The request asks for something that can't be.
    Invalid {
        param: String,
        reason: String,
    },
    Failed {
        reason: String,
    },
}

impl From<KnowledgeError> for Error {
    fn from(error: KnowledgeError) -> Self {
        match error {
            KnowledgeError::Unknown { name } => Self::UnknownKnowledge { name },
            KnowledgeError::Invalid { param, reason } => Self::parameter(param, reason),
            KnowledgeError::Failed { reason } => Self::Knowledge { reason },
        }
    }
}

/// A document of plain text or Markdown.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewDocument {
    pub id: String,
    #[serde(default)]
    pub title: Option<String>,
    pub text: String,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// A search, with the names and values of `hearth kb search`.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    pub query: String,
    /// `bm25`, `dense`, `hybrid` or `rerank`.
    pub method: String,
    pub k: usize,
    pub filter: String,
    /// `chunk`, `neighbours` or `section`.
    pub context: String,
    pub max_passage_tokens: Option<usize>,
    pub dense_share: Option<f64>,
    pub keep_duplicates: bool,
}

fn bases(state: &State) -> Result<Arc<dyn Knowledge>> {
    state.knowledge().ok_or(Error::NoKnowledge)
}

pub(crate) async fn list(extract::State(state): extract::State<Arc<State>>) -> Result<Json<Value>> {
    let bases = bases(&state)?;
    let data = generate::blocking(move || Ok(bases.list()?)).await?;
    Ok(Json(json!({ "object": "list", "data": data })))
}

pub(crate) async fn create(
    extract::State(state): extract::State<Arc<State>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>> {
    let mut fields = Fields::read(body)?;
    let name: String = fields.require("name")?;
    let embedder: Option<String> = fields.take("embedder")?;
    fields.finish()?;
    let bases = bases(&state)?;
    Ok(Json(generate::blocking(move || Ok(bases.create(&name, embedder.as_deref())?)).await?))
}

pub(crate) async fn delete(
    extract::State(state): extract::State<Arc<State>>,
    extract::Path(name): extract::Path<String>,
) -> Result<Json<Value>> {
    let bases = bases(&state)?;
    let deleted = name.clone();
    generate::blocking(move || Ok(bases.delete(&name)?)).await?;
    Ok(Json(json!({ "name": deleted, "deleted": true })))
}

pub(crate) async fn documents(
    extract::State(state): extract::State<Arc<State>>,
    extract::Path(name): extract::Path<String>,
) -> Result<Json<Value>> {
    let bases = bases(&state)?;
    let data = generate::blocking(move || Ok(bases.documents(&name)?)).await?;
    Ok(Json(json!({ "object": "list", "data": data })))
}

pub(crate) async fn add(
    extract::State(state): extract::State<Arc<State>>,
    extract::Path(name): extract::Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>> {
    let mut fields = Fields::read(body)?;
    let documents: Vec<NewDocument> = fields.require("documents")?;
    fields.finish()?;
    if documents.is_empty() {
        return Err(Error::parameter("documents", "must not be empty"));
    }
    for (index, document) in documents.iter().enumerate() {
        if document.id.trim().is_empty() || document.text.trim().is_empty() {
            return Err(Error::parameter(
                "documents",
                format!("the document at {index} lacks an id or text"),
            ));
        }
    }
    let bases = bases(&state)?;
    Ok(Json(generate::blocking(move || Ok(bases.add(&name, documents)?)).await?))
}

pub(crate) async fn remove(
    extract::State(state): extract::State<Arc<State>>,
    extract::Path((name, document)): extract::Path<(String, String)>,
) -> Result<Json<Value>> {
    let bases = bases(&state)?;
    Ok(Json(generate::blocking(move || Ok(bases.remove(&name, &document)?)).await?))
}

pub(crate) async fn search(
    extract::State(state): extract::State<Arc<State>>,
    extract::Path(names): extract::Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>> {
    let mut fields = Fields::read(body)?;
    let search = Search {
        query: fields.require("query")?,
        method: fields.take("method")?.unwrap_or_else(|| "hybrid".into()),
        k: fields.take("k")?.unwrap_or(10),
        filter: fields.take("filter")?.unwrap_or_default(),
        context: fields.take("context")?.unwrap_or_else(|| "chunk".into()),
        max_passage_tokens: fields.take("max_passage_tokens")?,
        dense_share: fields.take("dense_share")?,
        keep_duplicates: fields.take("keep_duplicates")?.unwrap_or(false),
    };
    fields.finish()?;
    if search.k == 0 || search.k > MAX_K {
        return Err(Error::parameter("k", format!("is {}, expected 1 to {MAX_K}", search.k)));
    }
    let bases = bases(&state)?;
    Ok(Json(generate::blocking(move || Ok(bases.search(&names, search)?)).await?))
}
