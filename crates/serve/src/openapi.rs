//! `GET /openapi.json`: what can be asked, as `OpenAPI` 3.1. Bodies follow the published APIs they are compatible with.

use axum::Json;
use serde_json::{Map, Value, json};

/// Method, path, what it does.
pub(crate) const PATHS: [(&str, &str, &str); 25] = [
    ("post", "/v1/chat/completions", "Conversation to the next message (OpenAI chat completions)"),
    ("post", "/v1/completions", "Text or token ids to what follows (OpenAI completions)"),
    ("post", "/v1/responses", "Conversation to a response (OpenAI responses, nothing stored)"),
    ("post", "/v1/messages", "Conversation to the next message (Anthropic messages)"),
    ("post", "/v1/messages/count_tokens", "Tokens of a conversation (Anthropic)"),
    ("post", "/v1/embeddings", "Texts to vectors (OpenAI embeddings)"),
    ("post", "/v1/rerank", "Documents in order of relevance to a query (Jina, Cohere)"),
    ("get", "/v1/knowledge", "Knowledge bases"),
    ("post", "/v1/knowledge", "A new, empty knowledge base"),
    ("delete", "/v1/knowledge/{name}", "Deletes a knowledge base"),
    ("get", "/v1/knowledge/{name}/documents", "Its documents"),
    (
        "post",
        "/v1/knowledge/{name}/documents",
        "Adds documents, or puts them in the place of those with the same id",
    ),
    ("delete", "/v1/knowledge/{name}/documents/{document}", "Removes a document"),
    ("post", "/v1/knowledge/{name}/search", "Passages for a query, of one base or several"),
    ("get", "/v1/models", "Models that can be named"),
    ("get", "/v1/models/{name}", "One model"),
    ("post", "/tokenize", "Text or conversation to token ids (vLLM, llama.cpp)"),
    ("post", "/detokenize", "Token ids to text (vLLM, llama.cpp)"),
    ("get", "/tokenizer_info", "The default model's tokenizer and template (vLLM)"),
    ("get", "/healthz", "Whether the server lives"),
    ("get", "/readyz", "Whether it takes requests on"),
    ("get", "/metrics", "Counters for Prometheus"),
    ("get", "/openapi.json", "This document"),
    ("get", "/api/status", "Assistants, documents and progress, for the page"),
    ("get", "/api/passages/{id}", "A passage of a document, for the page"),
];

pub(crate) async fn document() -> Json<Value> {
    let mut paths = Map::new();
    for (method, path, summary) in PATHS {
        let answers = json!({
            "200": { "description": "The answer; a stream of server-sent events where `stream` is true" },
            "default": { "description": "An error", "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } } },
        });
        let mut operation = json!({ "summary": summary, "responses": answers });
        if method == "post" {
            operation["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": { "type": "object" } } } });
        }
        let names = path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
        let parameters: Vec<Value> = names
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
            .collect();
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        methods[method] = operation;
    }
    Json(json!({
        "openapi": "3.1.0",
        "info": { "title": "hearth", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "security": [{ "bearer": [] }, {}],
        "components": {
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer" } },
            "schemas": { "Error": {
                "type": "object", "required": ["error"],
                "properties": { "error": { "type": "object", "properties": {
                    "message": { "type": "string" }, "type": { "type": "string" },
                    "param": { "type": ["string", "null"] }, "code": { "type": ["string", "null"] },
                }}},
            }},
        },
    }))
}
