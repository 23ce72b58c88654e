//! `POST /v1/completions`: a text, or token ids, to what follows.
//!
//! Text never becomes a special token here either; who needs one sends ids.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use hearth_engine::{Completion, Engine, Event, Usage};
use hearth_tokenizer::TokenId;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::fields::Fields;
use crate::generate::{self, Head, Parts};
use crate::logprobs;
use crate::sampling::{Asked, MAX_TOP_LOGPROBS};
use crate::state::State;

/// The OpenAI API's own.
const DEFAULT_MAX_TOKENS: usize = 16;

#[derive(Deserialize)]
#[serde(untagged)]
enum Prompt {
    Text(String),
    Ids(Vec<TokenId>),
    Texts(Vec<String>),
    ManyIds(Vec<Vec<TokenId>>),
}

pub(crate) async fn complete(
    extract::State(state): extract::State<Arc<State>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response> {
    let request = state.next_request();
    let mut fields = Fields::read(body)?;
    let name = fields.take::<String>("model")?.unwrap_or_else(|| state.default_name());
    let prompt = fields.require("prompt")?;
    let assistant = state.assistant(&name)?;
    let asked = Asked::take(&mut fields, assistant.sampling.clone(), state.seed_of(request))?;
    let max_tokens = fields.take("max_tokens")?.unwrap_or(DEFAULT_MAX_TOKENS);
    let num_logprobs: Option<usize> = fields.take("logprobs")?;
    if num_logprobs.is_some_and(|n| n > MAX_TOP_LOGPROBS) {
        return Err(Error::parameter("logprobs", format!("at most {MAX_TOP_LOGPROBS}")));
    }
    let is_echo = fields.take("echo")?.unwrap_or(false);
    if is_echo && num_logprobs.is_some() {
        return Err(Error::parameter(
            "echo",
            "the prompt's own `logprobs` aren't computed; ask for one of the two",
        ));
    }
    fields.accept_only("suffix", &[json!("")])?;
    let best_of = fields.take("best_of")?.unwrap_or(asked.n);
    if best_of < asked.n {
        return Err(Error::parameter("best_of", format!("{best_of} is less than `n` {}", asked.n)));
    }
    if best_of > asked.n && asked.is_stream {
        return Err(Error::parameter("best_of", "the best are known at the end; not allowed with `stream`"));
    }
    fields.finish()?;

    let engine = {
        let (state, assistant) = (Arc::clone(&state), Arc::clone(&assistant));
        generate::blocking(move || state.engine_of(&assistant)).await?
    };
    let (prompt, text) = ids_and_text(&engine, prompt)?;
    let head = Head::new(&state, "cmpl", "text_completion", &assistant.name, request);
    let mut job = asked.request(prompt, max_tokens, engine.model().chat.stops());
    job.adapter.clone_from(&assistant.adapter);
    // Which answers are the best is told by the log-probabilities of their tokens.
    job.logprobs = if best_of > asked.n { num_logprobs.or(Some(0)) } else { num_logprobs };
    let stream = engine.submit_choices(job, best_of);
    let stream = stream.map_err(|error| Error::from_engine(error, "prompt", false))?;
    let writer = Writer {
        head,
        engine,
        echo: if is_echo { text } else { String::new() },
        has_logprobs: num_logprobs.is_some(),
        include_usage: asked.include_usage,
        num_chars: vec![0; asked.n],
    };
    if asked.is_stream {
        return Ok(generate::respond(stream, writer));
    }
    let mut completions = generate::collect(stream).await?;
    let usage = Usage::of_choices(completions.iter().map(|choice| &choice.usage));
    if best_of > asked.n {
        completions.sort_by(|a, b| b.mean_logprob().total_cmp(&a.mean_logprob()));
        completions.truncate(asked.n);
    }
    Ok(Json(writer.whole(&completions, usage)).into_response())
}

/// What the model reads, and how it is shown.
fn ids_and_text(engine: &Engine, prompt: Prompt) -> Result<(Vec<TokenId>, String)> {
    let tokenizer = engine.model().tokenizer();
    let from_text = |text: String| (tokenizer.wrap(&tokenizer.encode(&text)), text);
    let from_ids = |ids: Vec<TokenId>| {
        let text = tokenizer.decode(&ids);
        (ids, text)
    };
    let one_only = |count: usize| Error::parameter("prompt", format!("{count} prompts; send one a request"));
    match prompt {
        Prompt::Text(text) => Ok(from_text(text)),
        Prompt::Ids(ids) => Ok(from_ids(ids)),
        Prompt::Texts(mut texts) => match (texts.pop(), texts.len()) {
            (Some(text), 0) => Ok(from_text(text)),
            (_, others) => Err(one_only(others + 1)),
        },
        Prompt::ManyIds(mut prompts) => match (prompts.pop(), prompts.len()) {
            (Some(ids), 0) => Ok(from_ids(ids)),
            (_, others) => Err(one_only(others + 1)),
        },
    }
}

struct Writer {
    head: Head,
    engine: Arc<Engine>,
    /// The prompt's text if the answer is to repeat it.
    echo: String,
    has_logprobs: bool,
    include_usage: bool,
    /// Characters sent so far of each choice, for the offsets of log-probabilities.
    num_chars: Vec<usize>,
}

impl Writer {
    fn whole(&self, completions: &[Completion], usage: Usage) -> Value {
        let tokenizer = self.engine.model().tokenizer();
        let choice = |(index, completion): (usize, &Completion)| {
            json!({
                "index": index,
                "text": format!("{}{}", self.echo, completion.text),
                "logprobs": self.has_logprobs.then(|| logprobs::plain(tokenizer, &completion.tokens, 0)),
                "finish_reason": generate::finish_reason(completion.finish),
            })
        };
        let mut body = self.head.body(completions.iter().enumerate().map(choice).collect());
        body["usage"] = generate::usage(usage);
        body
    }

    fn chunk(&self, index: usize, text: &str, logprobs: Option<Value>, finish: Option<&str>) -> Value {
        let mut choice = json!({ "index": index, "text": text, "finish_reason": finish });
        choice["logprobs"] = logprobs.unwrap_or_default();
        let mut body = self.head.body(json!([choice]));
        if self.include_usage {
            body["usage"] = Value::Null;
        }
        body
    }
}

impl Parts for Writer {
    fn first(&self, index: usize) -> Vec<Value> {
        if self.echo.is_empty() {
            return Vec::new();
        }
        vec![self.chunk(index, &self.echo, None, None)]
    }

    fn event(&mut self, index: usize, event: Event) -> Vec<Value> {
        match event {
            Event::Token(token) => {
                let tokenizer = self.engine.model().tokenizer();
                let offset = self.num_chars[index];
                self.num_chars[index] += token.text.chars().count();
                let logprobs = self.has_logprobs.then(|| logprobs::plain(tokenizer, [&token], offset));
                if token.text.is_empty() && logprobs.is_none() {
                    return Vec::new();
                }
                vec![self.chunk(index, &token.text, logprobs, None)]
            }
            Event::Done { finish, text, .. } => {
                vec![self.chunk(index, &text, None, Some(generate::finish_reason(finish)))]
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
