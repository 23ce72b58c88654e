//! `POST /v1/completions`: texts, or token ids, to what follows each; with `echo` and `logprobs` also to how probable
//! the prompts themselves are, which is what evaluations ask for.
//!
//! Text never becomes a special token here either; who needs one sends ids.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, extract};
use hearth_engine::{Completion, Engine, Event, Finish, Request, Stream, Token, Usage};
use hearth_tokenizer::TokenId;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::fields::Fields;
use crate::gateway;
use crate::generate::{self, Frame, Head, Parts};
use crate::logprobs;
use crate::meter::Meter;
use crate::sampling::{Asked, MAX_TOP_LOGPROBS};
use crate::score::{self, Scored};
use crate::state::{Assistant, State};

/// The OpenAI API's own.
const DEFAULT_MAX_TOKENS: usize = 16;

/// Prompts of one request; evaluations send some dozens.
const MAX_PROMPTS: usize = 256;

#[derive(Deserialize)]
#[serde(untagged)]
enum PromptField {
    Text(String),
    Ids(Vec<TokenId>),
    Texts(Vec<String>),
    ManyIds(Vec<Vec<TokenId>>),
}

/// What the model reads, and how it is shown.
struct Prompt {
    ids: Vec<TokenId>,
    text: String,
}

struct CompletionRequest {
    assistant: Arc<Assistant>,
    prompt: PromptField,
    asked: Asked,
    max_tokens: usize,
    logprobs: Option<usize>,
    is_echo: bool,
    best_of: usize,
}

pub(crate) async fn complete(
    extract::State(state): extract::State<Arc<State>>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response> {
    if let Some(found) = body.as_ref().ok().and_then(|body| gateway::find(&state, body)) {
        return gateway::pass(&state, &caller, "/v1/completions", found).await;
    }
    let number = state.next_request();
    let request = read(&state, Fields::read(body)?, number)?;
    let CompletionRequest { assistant, prompt, asked, max_tokens, logprobs, is_echo, best_of } = request;
    let engine = state.loaded(&assistant).await?;
    let prompts = prompts(&engine, prompt)?;
    let head = Head::new(&state, "cmpl", "text_completion", &assistant.name, number);
    let num_prompt_tokens = prompts.iter().map(|prompt| prompt.ids.len()).sum();
    let job = |prompt: &Prompt| Request {
        adapter: assistant.adapter.clone(),
        client: caller.client(),
        // Which answers are the best is told by the log-probabilities of their tokens.
        logprobs: if best_of > asked.n { logprobs.or(Some(0)) } else { logprobs },
        ..asked.request(prompt.ids.clone(), max_tokens, engine.model().chat.stops())
    };
    let jobs: Vec<Request> = prompts.iter().map(job).collect();
    let writer = Writer {
        head,
        engine: Arc::clone(&engine),
        echoes: prompts
            .iter()
            .map(|prompt| if is_echo { prompt.text.clone() } else { String::new() })
            .collect(),
        n: asked.n,
        has_logprobs: logprobs.is_some(),
        include_usage: asked.include_usage,
        num_chars: vec![0; asked.n * prompts.len()],
    };
    let meter = Meter::start(&state, &caller, &assistant.name, num_prompt_tokens);
    if let (true, Some(num_top)) = (is_echo, logprobs) {
        let body = generate::blocking(move || echoed(&writer, jobs, num_top, meter));
        return Ok(Json(body.await?).into_response());
    }
    let streams = submit(&engine, jobs, best_of)?;
    if asked.is_stream {
        return Ok(generate::respond(streams, writer, meter));
    }
    let (completions, usage) = generate::collect(streams, meter).await?;
    let best: Vec<Completion> =
        completions.chunks(best_of).flat_map(|choices| best(choices, asked.n)).collect();
    Ok(Json(writer.whole(&best, usage)).into_response())
}

fn submit(engine: &Engine, jobs: Vec<Request>, best_of: usize) -> Result<Vec<Stream>> {
    let submitted = jobs.into_iter().map(|job| engine.submit_choices(job, best_of));
    submitted.collect::<Result<_, _>>().map_err(|error| Error::from_engine(error, "prompt", false))
}

/// The most probable answers, in the order they have where all are wanted.
fn best(choices: &[Completion], n: usize) -> Vec<Completion> {
    let mut choices = choices.to_vec();
    if choices.len() > n {
        choices.sort_by(|a, b| b.mean_logprob().total_cmp(&a.mean_logprob()));
        choices.truncate(n);
    }
    choices
}

fn read(state: &State, mut fields: Fields, number: u64) -> Result<CompletionRequest> {
    let name = fields.take::<String>("model")?.unwrap_or_else(|| state.default_name());
    let prompt = fields.require("prompt")?;
    let assistant = state.assistant(&name)?;
    let asked = Asked::take(&mut fields, assistant.sampling.clone(), state.seed_of(number))?;
    let max_tokens = fields.take("max_tokens")?.unwrap_or(DEFAULT_MAX_TOKENS);
    let logprobs: Option<usize> = fields.take("logprobs")?;
    if logprobs.is_some_and(|n| n > MAX_TOP_LOGPROBS) {
        return Err(Error::parameter("logprobs", format!("at most {MAX_TOP_LOGPROBS}")));
    }
    let is_echo = fields.take("echo")?.unwrap_or(false);
    fields.accept_only("suffix", &[json!("")])?;
    let best_of = fields.take("best_of")?.unwrap_or(asked.n);
    if best_of < asked.n {
        return Err(Error::parameter("best_of", format!("{best_of} is less than `n` {}", asked.n)));
    }
    if best_of > asked.n && asked.is_stream {
        return Err(Error::parameter("best_of", "the best are known at the end; not allowed with `stream`"));
    }
    if is_echo && logprobs.is_some() && (asked.is_stream || best_of > 1) {
        let reason = "with `logprobs` the prompt's own are given too; not with `stream`, `n` or `best_of`";
        return Err(Error::parameter("echo", reason));
    }
    fields.finish()?;
    Ok(CompletionRequest { assistant, prompt, asked, max_tokens, logprobs, is_echo, best_of })
}

fn prompts(engine: &Engine, field: PromptField) -> Result<Vec<Prompt>> {
    let tokenizer = engine.model().tokenizer();
    let vocab_size = engine.model().config().vocab_size;
    let from_text = |text: String| Ok(Prompt { ids: tokenizer.wrap(&tokenizer.encode(&text)), text });
    let from_ids = |ids: Vec<TokenId>| match ids.iter().find(|&&id| id as usize >= vocab_size) {
        Some(&id) => {
            Err(Error::parameter("prompt", format!("token id {id} isn't in the vocabulary of {vocab_size}")))
        }
        None => Ok(Prompt { text: tokenizer.decode(&ids), ids }),
    };
    let prompts: Vec<Prompt> = match field {
        PromptField::Text(text) => vec![from_text(text)?],
        PromptField::Ids(ids) => vec![from_ids(ids)?],
        PromptField::Texts(texts) => texts.into_iter().map(from_text).collect::<Result<_>>()?,
        PromptField::ManyIds(prompts) => prompts.into_iter().map(from_ids).collect::<Result<_>>()?,
    };
    if prompts.is_empty() || prompts.len() > MAX_PROMPTS {
        return Err(Error::parameter(
            "prompt",
            format!("{} prompts, expected 1 to {MAX_PROMPTS}", prompts.len()),
        ));
    }
    if let Some(index) = prompts.iter().position(|prompt| prompt.ids.is_empty()) {
        return Err(Error::parameter("prompt", format!("prompt {index} is empty")));
    }
    Ok(prompts)
}

/// Prompts with the log-probabilities of their own tokens, and an answer behind each.
fn echoed(writer: &Writer, jobs: Vec<Request>, num_top: usize, mut meter: Meter) -> Result<Value> {
    let (mut choices, mut total) = (Vec::new(), Usage::default());
    let engine = &writer.engine;
    for (index, job) in jobs.into_iter().enumerate() {
        let failed = |error| Error::from_engine(error, "prompt", false);
        let Scored { mut tokens, next } =
            score::prompt(engine, job.adapter.as_deref(), &job.prompt, num_top).map_err(failed)?;
        let prompt_tokens = tokens.len();
        // An evaluation asks for one greedy token at most, and that is known already.
        let (answer, finish) = match job.max_tokens {
            0 => (None, Finish::Length),
            1 if score::is_plain(&job) => {
                total.completion_tokens += 1;
                let (text, finish) = greedy(&next, &job.stop_ids);
                (Some((text, vec![next])), finish)
            }
            _ => {
                let answer = engine.generate(job).map_err(failed)?;
                total.completion_tokens += answer.usage.completion_tokens;
                (Some((answer.text, answer.tokens)), answer.finish)
            }
        };
        total.prompt_tokens += prompt_tokens;
        let (text, more) = answer.unwrap_or_default();
        tokens.extend(more);
        choices.push(json!({
            "index": index,
            "text": format!("{}{text}", writer.echoes[index]),
            "logprobs": logprobs::plain(engine.model().tokenizer(), &tokens, 0),
            "finish_reason": generate::finish_reason(finish),
        }));
    }
    meter.finish(total)?;
    let mut body = writer.head.body(choices.into());
    body["usage"] = generate::usage(total);
    Ok(body)
}

/// An answer of one token. A stop has no text, but keeps its entry among the log-probabilities: evaluations drop the last
/// entry unseen, and would drop the prompt's own.
fn greedy(next: &Token, stop_ids: &[TokenId]) -> (String, Finish) {
    match stop_ids.contains(&next.id) {
        true => (String::new(), Finish::Stop),
        false => (next.text.clone(), Finish::Length),
    }
}

struct Writer {
    head: Head,
    engine: Arc<Engine>,
    /// The prompts' texts if the answers are to repeat them.
    echoes: Vec<String>,
    /// Answers to each prompt.
    n: usize,
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
                "text": format!("{}{}", self.echoes[index / self.n], completion.text),
                "logprobs": self.has_logprobs.then(|| logprobs::plain(tokenizer, &completion.tokens, 0)),
                "finish_reason": generate::finish_reason(completion.finish),
            })
        };
        let mut body = self.head.body(completions.iter().enumerate().map(choice).collect());
        body["usage"] = generate::usage(usage);
        body
    }

    fn chunk(&self, index: usize, text: &str, logprobs: Option<Value>, finish: Option<&str>) -> Frame {
        let mut choice = json!({ "index": index, "text": text, "finish_reason": finish });
        choice["logprobs"] = logprobs.unwrap_or_default();
        let mut body = self.head.body(json!([choice]));
        if self.include_usage {
            body["usage"] = Value::Null;
        }
        Frame::data(&body)
    }
}

impl Parts for Writer {
    fn first(&mut self, index: usize) -> Vec<Frame> {
        let echo = &self.echoes[index / self.n];
        if echo.is_empty() {
            return Vec::new();
        }
        vec![self.chunk(index, echo, None, None)]
    }

    fn event(&mut self, index: usize, event: Event) -> Vec<Frame> {
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

    fn last(&mut self, usage: Usage) -> Vec<Frame> {
        let usage = self.include_usage.then(|| {
            let mut body = self.head.body(json!([]));
            body["usage"] = generate::usage(usage);
            Frame::data(&body)
        });
        usage.into_iter().chain([Frame::end()]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_only_a_stop_has_no_text() {
        let token = |id| Token { id, text: "x".into(), logprob: Some(-1.0), top: Vec::new() };
        assert_eq!(greedy(&token(7), &[2, 7]), (String::new(), Finish::Stop));
        assert_eq!(greedy(&token(8), &[2, 7]), ("x".into(), Finish::Length));
    }
}
