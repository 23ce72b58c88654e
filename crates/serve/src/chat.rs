//! `POST /v1/chat/completions`: a conversation to the assistant's next message, with citations if it has documents.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use hearth_engine::{Completion, Engine, Event, Usage};
use hearth_tokenizer::{Conversation, Message, Role, TokenId};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::fields::Fields;
use crate::generate::{self, Head, Parts};
use crate::grounding::Cite;
use crate::logprobs;
use crate::sampling::{Asked, MAX_TOP_LOGPROBS};
use crate::state::{Assistant, State};

pub(crate) async fn complete(
    extract::State(state): extract::State<Arc<State>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response> {
    let request = state.next_request();
    let ChatRequest { assistant, conversation, asked, max_tokens, logprobs } =
        ChatRequest::read(&state, Fields::read(body)?, request)?;
    let head_object = if asked.is_stream { "chat.completion.chunk" } else { "chat.completion" };
    let head = Head::new(&state, "chatcmpl", head_object, &assistant.name, request);
    let is_grounded = assistant.grounding.is_some();
    let adapter = assistant.adapter.clone();
    let prepared = {
        let state = Arc::clone(&state);
        generate::blocking(move || prepare(&state, &assistant, conversation, max_tokens)).await?
    };
    let engine = prepared.engine;
    let chat = &engine.model().chat;
    let mut job = asked.request(prepared.prompt, max_tokens, chat.stops());
    job.stop.extend(chat.stop_texts().iter().map(ToString::to_string));
    job.adapter = adapter;
    job.logprobs = logprobs;
    let stream = engine.submit_choices(job, asked.n);
    let stream = stream.map_err(|error| Error::from_engine(error, "messages", is_grounded))?;
    let writer = ChatWriter {
        head,
        engine,
        cite: prepared.cite,
        has_logprobs: logprobs.is_some(),
        include_usage: asked.include_usage,
        texts: vec![String::new(); asked.n],
    };
    if asked.is_stream {
        return Ok(generate::respond(stream, writer));
    }
    let completions = generate::collect(stream).await?;
    Ok(Json(generate::blocking(move || Ok(writer.whole(&completions))).await?).into_response())
}

struct ChatRequest {
    assistant: Arc<Assistant>,
    conversation: Conversation,
    asked: Asked,
    max_tokens: usize,
    logprobs: Option<usize>,
}

impl ChatRequest {
    fn read(state: &State, mut fields: Fields, request: u64) -> Result<Self> {
        let name = fields.take::<String>("model")?.unwrap_or_else(|| state.default_name());
        let conversation = Conversation::from(messages(fields.require("messages")?)?);
        let assistant = state.assistant(&name)?;
        let asked = Asked::take(&mut fields, assistant.sampling.clone(), state.seed_of(request))?;
        let max_tokens: Option<usize> = fields.take("max_tokens")?;
        let max_tokens = fields.take("max_completion_tokens")?.or(max_tokens).unwrap_or(assistant.max_tokens);
        if max_tokens == 0 {
            return Err(Error::parameter("max_tokens", "must be at least 1"));
        }
        let wants_logprobs = fields.take("logprobs")?.unwrap_or(false);
        let top_logprobs: Option<usize> = fields.take("top_logprobs")?;
        if top_logprobs.is_some_and(|n| n > 0) && !wants_logprobs {
            return Err(Error::parameter("top_logprobs", "only allowed with `logprobs`"));
        }
        if top_logprobs.is_some_and(|n| n > MAX_TOP_LOGPROBS) {
            return Err(Error::parameter("top_logprobs", format!("at most {MAX_TOP_LOGPROBS}")));
        }
        fields.accept_only("best_of", &[json!(1)])?;
        fields.accept_only("tools", &[json!([])])?;
        fields.accept_only("tool_choice", &[json!("none"), json!("auto")])?;
        fields.accept_only("modalities", &[json!(["text"])])?;
        fields.finish()?;
        let logprobs = wants_logprobs.then_some(top_logprobs.unwrap_or(0));
        Ok(Self { assistant, conversation, asked, max_tokens, logprobs })
    }
}

/// Messages with nothing in them that the template wouldn't see. What clients send back of an earlier answer is let go.
fn messages(values: Vec<Map<String, Value>>) -> Result<Vec<Message>> {
    const READ: [&str; 5] = ["role", "content", "name", "tool_calls", "tool_call_id"];
    const ECHOED: [&str; 3] = ["refusal", "annotations", "citations"];
    if values.is_empty() {
        return Err(Error::parameter("messages", "must hold at least one message"));
    }
    let message = |(index, mut map): (usize, Map<String, Value>)| {
        map.retain(|key, value| !(ECHOED.contains(&key.as_str()) || value.is_null()));
        if let Some(key) = map.keys().find(|key| !READ.contains(&key.as_str())) {
            return Err(Error::UnknownParameters { names: vec![format!("messages[{index}].{key}")] });
        }
        let parsed = serde_json::from_value(Value::Object(map));
        parsed.map_err(|error| Error::parameter(format!("messages[{index}]"), error.to_string()))
    };
    values.into_iter().enumerate().map(message).collect()
}

struct Prepared {
    engine: Arc<Engine>,
    prompt: Vec<TokenId>,
    cite: Option<Cite>,
}

/// The assistant's system text, then its passages, then ids.
fn prepare(
    state: &State,
    assistant: &Assistant,
    mut conversation: Conversation,
    max_tokens: usize,
) -> Result<Prepared> {
    let engine = state.engine_of(assistant)?;
    if let Some(system) = &assistant.system {
        put_system(&mut conversation, system);
    }
    let mut cite = None;
    if let Some(grounding) = &assistant.grounding {
        let max_context = engine.max_context();
        // However long the answer may get, half of the context is the question's.
        let max_prompt_tokens = max_context - max_tokens.min(max_context / 2);
        let grounded = grounding.ground(&conversation, max_prompt_tokens);
        let grounded = grounded.map_err(|reason| Error::Grounding { reason })?;
        conversation = grounded.conversation;
        cite = Some(grounded.cite);
    }
    let prompt = engine.model().chat.prompt(&conversation);
    let prompt = prompt.map_err(|error| Error::Template { reason: error.to_string() })?;
    Ok(Prepared { engine, prompt, cite })
}

/// Templates know one system message at the start: the assistant's text goes before the conversation's.
fn put_system(conversation: &mut Conversation, system: &str) {
    match conversation.messages.first_mut() {
        Some(first) if first.role == Role::System => {
            first.content = format!("{system}\n\n{}", first.content);
        }
        _ => conversation.messages.insert(0, Message::system(system)),
    }
}

struct ChatWriter {
    head: Head,
    engine: Arc<Engine>,
    cite: Option<Cite>,
    has_logprobs: bool,
    include_usage: bool,
    /// Each choice's answer so far.
    texts: Vec<String>,
}

impl ChatWriter {
    fn whole(&self, completions: &[Completion]) -> Value {
        let choices = completions.iter().enumerate().map(|(index, choice)| self.choice(index, choice));
        let mut body = self.head.body(choices.collect());
        body["usage"] = generate::usage(Usage::of_choices(completions.iter().map(|choice| &choice.usage)));
        body
    }

    fn choice(&self, index: usize, completion: &Completion) -> Value {
        let mut message = json!({ "role": "assistant", "content": completion.text, "refusal": null });
        if let Some(cite) = &self.cite {
            message["citations"] = json!(cite(&completion.text));
        }
        let tokenizer = self.engine.model().tokenizer();
        json!({
            "index": index,
            "message": message,
            "logprobs": self.has_logprobs.then(|| logprobs::chat(tokenizer, &completion.tokens)),
            "finish_reason": generate::finish_reason(completion.finish),
        })
    }

    fn chunk(&self, index: usize, delta: Value, logprobs: Option<Value>, finish: Option<&str>) -> Value {
        let mut choice = json!({ "index": index, "finish_reason": finish });
        choice["delta"] = delta;
        choice["logprobs"] = logprobs.unwrap_or_default();
        let mut body = self.head.body(json!([choice]));
        if self.include_usage {
            body["usage"] = Value::Null;
        }
        body
    }
}

impl Parts for ChatWriter {
    fn first(&self, index: usize) -> Vec<Value> {
        vec![self.chunk(index, json!({ "role": "assistant", "content": "" }), None, None)]
    }

    fn event(&mut self, index: usize, event: Event) -> Vec<Value> {
        match event {
            Event::Token(token) => {
                self.texts[index].push_str(&token.text);
                let tokenizer = self.engine.model().tokenizer();
                let logprobs = self.has_logprobs.then(|| logprobs::chat(tokenizer, [&token]));
                if token.text.is_empty() && logprobs.is_none() {
                    return Vec::new();
                }
                vec![self.chunk(index, json!({ "content": token.text }), logprobs, None)]
            }
            Event::Done { finish, text, .. } => {
                self.texts[index].push_str(&text);
                let rest =
                    (!text.is_empty()).then(|| self.chunk(index, json!({ "content": text }), None, None));
                let delta = match &self.cite {
                    Some(cite) => json!({ "citations": cite(&self.texts[index]) }),
                    None => json!({}),
                };
                let last = self.chunk(index, delta, None, Some(generate::finish_reason(finish)));
                rest.into_iter().chain([last]).collect()
            }
            Event::Failed(_) => Vec::new(),
        }
    }

    fn last(&self, usage: Usage) -> Option<Value> {
        self.include_usage.then(|| {
            let mut body = self.head.body(json!([]));
            body["usage"] = generate::usage(usage);
            body
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: Value) -> Result<Vec<Message>> {
        messages(serde_json::from_value(json).unwrap())
    }

    #[test]
    fn an_echoed_answer_is_read_and_a_foreign_field_is_named() {
        let echoed = json!([{ "role": "assistant", "content": "x", "refusal": null, "citations": [{}], "audio": null }]);
        assert_eq!(read(echoed).unwrap(), [Message::assistant("x")]);
        let error = read(json!([{ "role": "user", "content": "x" }, { "role": "user", "contnet": "x" }]));
        assert!(error.unwrap_err().to_string().contains("`messages[1].contnet`"));
        let error = read(json!([{ "role": "user", "content": [{ "type": "image_url" }] }]));
        assert!(error.unwrap_err().to_string().contains("image_url"));
        assert!(read(json!([])).is_err());
    }

    #[test]
    fn there_is_one_system_message() {
        let mut conversation = Conversation::from(vec![Message::system("b"), Message::user("c")]);
        put_system(&mut conversation, "a");
        assert_eq!(conversation.messages, [Message::system("a\n\nb"), Message::user("c")]);
        let mut conversation = Conversation::from(vec![Message::user("c")]);
        put_system(&mut conversation, "a");
        assert_eq!(conversation.messages, [Message::system("a"), Message::user("c")]);
    }
}
