//! `POST /v1/chat/completions`: a conversation to the assistant's next message, with citations if it has documents.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, extract};
use hearth_engine::{Completion, Engine, Event, Usage};
use hearth_tokenizer::Conversation;
use serde_json::{Value, json};

use crate::answer::{Answer, Call, Piece, Splitter};
use crate::ask::{self, Ask, Asking};
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::fields::Fields;
use crate::gateway;
use crate::generate::{self, Frame, Head, Parts};
use crate::grounding::Cite;
use crate::logprobs;
use crate::sampling::{Asked, MAX_TOP_LOGPROBS};
use crate::state::State;
use crate::tools::Tools;

pub(crate) async fn complete(
    extract::State(state): extract::State<Arc<State>>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response> {
    if let Some(found) = body.as_ref().ok().and_then(|body| gateway::find(&state, body)) {
        return gateway::pass(&state, &caller, "/v1/chat/completions", found).await;
    }
    let request = state.next_request();
    let ask = read(&state, Fields::read(body)?, request)?;
    let (is_stream, include_usage) = (ask.asked.is_stream, ask.asked.include_usage);
    let head_object = if is_stream { "chat.completion.chunk" } else { "chat.completion" };
    let head = Head::new(&state, "chatcmpl", head_object, &ask.assistant.name, request);
    let has_logprobs = ask.logprobs.is_some();
    let Asking { engine, stream, meter, cite, splitters, .. } =
        ask.start(&state, &caller, "messages").await?;
    let writer = ChatWriter {
        head,
        engine,
        cite,
        has_logprobs,
        include_usage,
        texts: vec![String::new(); splitters.len()],
        splitters,
    };
    if is_stream {
        return Ok(generate::respond(vec![stream], writer, meter));
    }
    let (completions, usage) = generate::collect(vec![stream], meter).await?;
    Ok(Json(generate::blocking(move || Ok(writer.whole(&completions, usage))).await?).into_response())
}

fn read(state: &State, mut fields: Fields, request: u64) -> Result<Ask> {
    let name = fields.take::<String>("model")?.unwrap_or_else(|| state.default_name());
    let mut conversation = Conversation::from(ask::messages(fields.require("messages")?)?);
    conversation.variables = fields.take("chat_template_kwargs")?.unwrap_or_default();
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
    let tools = Tools::take(&mut fields)?;
    fields.accept_only("modalities", &[json!(["text"])])?;
    fields.finish()?;
    let logprobs = wants_logprobs.then_some(top_logprobs.unwrap_or(0));
    Ok(Ask { assistant, conversation, asked, max_tokens, logprobs, tools, request })
}

struct ChatWriter {
    head: Head,
    engine: Arc<Engine>,
    cite: Option<Cite>,
    has_logprobs: bool,
    include_usage: bool,
    splitters: Vec<Splitter>,
    /// Each choice's answer so far.
    texts: Vec<String>,
}

impl ChatWriter {
    fn whole(&self, completions: &[Completion], usage: Usage) -> Value {
        let answers = ask::answers(self.splitters.clone(), completions);
        let choices = completions.iter().zip(answers).enumerate();
        let choices = choices.map(|(index, (completion, answer))| self.choice(index, completion, answer));
        let mut body = self.head.body(choices.collect());
        body["usage"] = generate::usage(usage);
        body
    }

    fn choice(&self, index: usize, completion: &Completion, answer: Answer) -> Value {
        let has_calls = !answer.calls.is_empty();
        let mut message = json!({ "role": "assistant", "content": answer.text, "refusal": null });
        if let Some(cite) = &self.cite {
            message["citations"] = json!(cite(&answer.text));
        }
        if !answer.reasoning.is_empty() {
            message["reasoning_content"] = answer.reasoning.into();
        }
        if has_calls {
            if answer.text.is_empty() {
                message["content"] = Value::Null;
            }
            message["tool_calls"] = answer.calls.iter().map(call).collect();
        }
        let tokenizer = self.engine.model().tokenizer();
        json!({
            "index": index,
            "message": message,
            "logprobs": self.has_logprobs.then(|| logprobs::chat(tokenizer, &completion.tokens)),
            "finish_reason": ask::finish_reason(completion.finish, has_calls),
        })
    }

    fn chunk(&self, index: usize, delta: Value, logprobs: Option<Value>, finish: Option<&str>) -> Frame {
        let mut choice = json!({ "index": index, "finish_reason": finish });
        choice["delta"] = delta;
        choice["logprobs"] = logprobs.unwrap_or_default();
        let mut body = self.head.body(json!([choice]));
        if self.include_usage {
            body["usage"] = Value::Null;
        }
        Frame::data(&body)
    }

    /// A chunk for each piece; the log-probabilities go with the first.
    fn chunks(&mut self, index: usize, pieces: Vec<Piece>, mut logprobs: Option<Value>) -> Vec<Frame> {
        let mut frames = Vec::new();
        for piece in pieces {
            if let Piece::Text(text) = &piece {
                self.texts[index] += text;
            }
            frames.push(self.chunk(index, delta(piece), logprobs.take(), None));
        }
        if logprobs.is_some() {
            frames.push(self.chunk(index, json!({}), logprobs, None));
        }
        frames
    }
}

fn call(call: &Call) -> Value {
    json!({
        "id": call.id, "type": "function", "function": { "name": call.name, "arguments": call.arguments },
    })
}

fn delta(piece: Piece) -> Value {
    match piece {
        Piece::Text(text) => json!({ "content": text }),
        Piece::Reasoning(text) => json!({ "reasoning_content": text }),
        Piece::Call { index, id, name } => json!({ "tool_calls": [{
            "index": index, "id": id, "type": "function", "function": { "name": name, "arguments": "" },
        }]}),
        Piece::Arguments { index, text } => {
            json!({ "tool_calls": [{ "index": index, "function": { "arguments": text } }] })
        }
    }
}

impl Parts for ChatWriter {
    fn first(&mut self, index: usize) -> Vec<Frame> {
        vec![self.chunk(index, json!({ "role": "assistant", "content": "" }), None, None)]
    }

    fn event(&mut self, index: usize, event: Event) -> Vec<Frame> {
        match event {
            Event::Token(token) => {
                let tokenizer = self.engine.model().tokenizer();
                let logprobs = self.has_logprobs.then(|| logprobs::chat(tokenizer, [&token]));
                let pieces = self.splitters[index].push(&token.text);
                self.chunks(index, pieces, logprobs)
            }
            Event::Done { finish, text, .. } => {
                let mut pieces = self.splitters[index].push(&text);
                pieces.extend(self.splitters[index].finish());
                let mut frames = self.chunks(index, pieces, None);
                let delta = match &self.cite {
                    Some(cite) => json!({ "citations": cite(&self.texts[index]) }),
                    None => json!({}),
                };
                let finish = ask::finish_reason(finish, self.splitters[index].has_calls());
                frames.push(self.chunk(index, delta, None, Some(finish)));
                frames
            }
            Event::Failed(_) => Vec::new(),
        }
    }

    fn last(&mut self, usage: Usage) -> Vec<Frame> {
        let usage = self.include_usage.then(|| {
            let mut body = self.head.body(json!([]));
            body["usage"] = generate::usage(usage);
            Frame::data(&body)
        });
        usage.into_iter().chain([Frame::end()]).collect()
    }
}
