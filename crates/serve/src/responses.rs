//! `POST /v1/responses`: the newer shape of the OpenAI API, whole and as events.
//!
//! Nothing is stored, so `previous_response_id` is an error that says to send the conversation, and `store` is always
//! false. Left out: pictures, files, server-side tools, background runs. Reasoning items that come back are let go,
//! as templates do with reasoning of earlier turns.

mod request;
mod stream;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, extract};
use hearth_engine::{Finish, Usage};
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::ask::{self, Asking};
use crate::caller::Caller;
use crate::error::Result;
use crate::fields::Fields;
use crate::gateway;
use crate::generate::{self, Head};
use crate::state::State;

pub(crate) async fn respond(
    extract::State(state): extract::State<Arc<State>>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response> {
    if let Some(found) = body.as_ref().ok().and_then(|body| gateway::find(&state, body)) {
        return gateway::pass(&state, &caller, "/v1/responses", found).await;
    }
    let number = state.next_request();
    let (ask, echo) = request::read(&state, Fields::read(body)?, number)?;
    let head = Head::new(&state, "resp", "response", &ask.assistant.name, number);
    let is_stream = ask.asked.is_stream;
    let body = Body { id: head.id, created: head.created, model: head.model, echo };
    let Asking { stream, meter, splitters, .. } = ask.start(&state, &caller, "input").await?;
    if is_stream {
        return Ok(generate::respond(vec![stream], stream::Writer::new(body, splitters), meter));
    }
    let (completions, usage) = generate::collect(vec![stream], meter).await?;
    let finish = completions.first().map_or(Finish::Stop, |completion| completion.finish);
    let answer = ask::answers(splitters, &completions).into_iter().next().unwrap_or_default();
    let output = items(&body.id, answer, status_of(finish));
    Ok(Json(body.whole(output, finish, usage)).into_response())
}

/// What every state of a response repeats.
struct Body {
    id: String,
    created: u64,
    model: String,
    /// The request's own settings, which the API sends back.
    echo: Value,
}

impl Body {
    fn value(&self, status: &str, output: Vec<Value>) -> Value {
        let mut body = self.echo.clone();
        for (name, value) in [
            ("id", json!(self.id)),
            ("object", json!("response")),
            ("created_at", json!(self.created)),
            ("model", json!(self.model)),
            ("status", json!(status)),
            ("output", output.into()),
            ("error", Value::Null),
            ("incomplete_details", Value::Null),
            ("usage", Value::Null),
        ] {
            body[name] = value;
        }
        body
    }

    fn whole(&self, output: Vec<Value>, finish: Finish, usage: Usage) -> Value {
        let mut body = self.value(status_of(finish), output);
        if finish == Finish::Length {
            body["incomplete_details"] = json!({ "reason": "max_output_tokens" });
        }
        body["usage"] = json!({
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": { "cached_tokens": usage.cached_tokens },
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": { "reasoning_tokens": 0 },
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        });
        body
    }
}

fn status_of(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "completed",
        Finish::Length => "incomplete",
    }
}

/// The items of an answer, numbered by their places.
fn items(id: &str, answer: Answer, status: &str) -> Vec<Value> {
    let Answer { text, reasoning, calls } = answer;
    let mut items = Vec::new();
    if !reasoning.is_empty() {
        items.push(reasoning_item(&item_id(id, "rs", 0), &reasoning, status));
    }
    if !text.is_empty() || (calls.is_empty() && items.is_empty()) {
        let place = items.len();
        items.push(message_item(&item_id(id, "msg", place), vec![part(&text)], status));
    }
    for call in calls {
        let place = items.len();
        items.push(call_item(&item_id(id, "fc", place), (&call.id, &call.name, &call.arguments), status));
    }
    items
}

fn item_id(id: &str, kind: &str, place: usize) -> String {
    format!("{kind}_{}_{place}", id.trim_start_matches("resp-"))
}

fn part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

fn message_item(id: &str, content: Vec<Value>, status: &str) -> Value {
    let mut item = json!({ "id": id, "type": "message", "role": "assistant", "status": status });
    item["content"] = content.into();
    item
}

fn reasoning_item(id: &str, text: &str, status: &str) -> Value {
    let content = json!([{ "type": "reasoning_text", "text": text }]);
    json!({ "id": id, "type": "reasoning", "status": status, "summary": [], "content": content })
}

fn call_item(id: &str, (call_id, name, arguments): (&str, &str, &str), status: &str) -> Value {
    json!({
        "id": id, "type": "function_call", "call_id": call_id, "name": name, "arguments": arguments, "status": status,
    })
}
