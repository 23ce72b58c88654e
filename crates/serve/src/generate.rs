//! The engine's stream to one answer, or to server-sent events.
//!
//! The engine's streams block, so each is read on a thread of its own. When the client hangs up, axum drops what it
//! was waiting for, a future or a response's body; each holds a guard that cancels the generation, even in the middle
//! of a prompt.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use hearth_engine::{Canceller, Completion, Event, Finish, Stream, Usage};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use crate::error::{Error, Result};
use crate::meter::Meter;
use crate::state::State;

/// Events a slow client may be behind before its reading thread waits.
const CHANNEL_EVENTS: usize = 64;

/// A client that reads nothing for so long has its generation ended.
const MAX_STALL: Duration = Duration::from_secs(30);

/// What all parts of one response repeat.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) id: String,
    pub(crate) object: &'static str,
    pub(crate) created: u64,
    pub(crate) model: String,
}

impl Head {
    pub(crate) fn new(state: &State, kind: &str, object: &'static str, model: &str, request: u64) -> Self {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let id = format!("{kind}-{:x}-{request}", state.started());
        Self { id, object, created, model: model.into() }
    }

    pub(crate) fn body(&self, choices: Value) -> Value {
        let mut body =
            json!({ "id": self.id, "object": self.object, "created": self.created, "model": self.model });
        body["choices"] = choices;
        body
    }
}

pub(crate) fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
    }
}

pub(crate) fn usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": { "cached_tokens": usage.cached_tokens },
    })
}

/// Cancels a generation when whoever waits for it goes away; one that is over isn't affected.
struct CancelOnDrop(Canceller);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Server-sent events of one answer.
struct Events {
    receiver: ReceiverStream<Result<SseEvent, Infallible>>,
    _guards: Vec<CancelOnDrop>,
}

impl tokio_stream::Stream for Events {
    type Item = Result<SseEvent, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.receiver).poll_next(context)
    }
}

/// Reads one stream to its end; `on` sees every event and says whether anybody still listens.
fn drive(
    stream: &Stream,
    meter: &mut Meter,
    mut on: impl FnMut(usize, Event) -> bool,
) -> Result<Option<Usage>> {
    let mut usages: Vec<Option<Usage>> = vec![None; stream.num_choices()];
    let mut is_first = true;
    while usages.iter().any(Option::is_none) {
        let stopped = (0, Event::Failed(hearth_engine::Error::Stopped));
        let (index, event) = stream.next_of_choice().unwrap_or(stopped);
        match &event {
            Event::Failed(error) => return Err(Error::Engine(error.clone())),
            Event::Done { usage, .. } => usages[index] = Some(*usage),
            Event::Token(_) => {
                if std::mem::take(&mut is_first) {
                    meter.cached(stream.cached_tokens());
                }
                meter.token();
            }
        }
        if !on(index, event) {
            return Ok(None);
        }
    }
    Ok(Some(Usage::of_choices(usages.iter().flatten())))
}

/// What several prompts cost together.
fn sum(a: Usage, b: Usage) -> Usage {
    Usage {
        prompt_tokens: a.prompt_tokens + b.prompt_tokens,
        cached_tokens: a.cached_tokens + b.cached_tokens,
        completion_tokens: a.completion_tokens + b.completion_tokens,
    }
}

/// Waits for all answers of all prompts, and what they cost.
pub(crate) async fn collect(streams: Vec<Stream>, mut meter: Meter) -> Result<(Vec<Completion>, Usage)> {
    let _guards: Vec<_> = streams.iter().map(|stream| CancelOnDrop(stream.canceller())).collect();
    let (sender, receiver) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        // The client may have hung up.
        let _ = sender.send(collect_blocking(&streams, &mut meter));
    });
    receiver.await.unwrap_or_else(|_| Err(Error::Bug { what: "the answer was lost".into() }))
}

fn collect_blocking(streams: &[Stream], meter: &mut Meter) -> Result<(Vec<Completion>, Usage)> {
    let (mut completions, mut total) = (Vec::new(), Usage::default());
    for stream in streams {
        let mut parts = vec![(String::new(), Vec::new()); stream.num_choices()];
        let mut done: Vec<Option<Completion>> = vec![None; stream.num_choices()];
        let usage = drive(stream, meter, |index, event| {
            let (text, tokens) = &mut parts[index];
            match event {
                Event::Token(token) => {
                    text.push_str(&token.text);
                    tokens.push(token);
                }
                Event::Done { finish, usage, text: rest } => {
                    let (text, tokens) = (std::mem::take(text) + &rest, std::mem::take(tokens));
                    done[index] = Some(Completion { text, tokens, finish, usage });
                }
                Event::Failed(_) => {}
            }
            true
        })?;
        total = sum(total, usage.unwrap_or_default());
        completions.extend(done.into_iter().flatten());
    }
    meter.finish(total)?;
    Ok((completions, total))
}

/// Runs something that may block for a while: a search, an embedding.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::Bug { what: error.to_string() }))
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    event: Option<&'static str>,
    data: String,
}

impl Frame {
    pub(crate) fn data(value: &Value) -> Self {
        Self { event: None, data: value.to_string() }
    }

    /// An event whose name also stands in its `type`.
    pub(crate) fn named(event: &'static str, value: &Value) -> Self {
        Self { event: Some(event), data: value.to_string() }
    }

    /// What the OpenAI API's older endpoints end a stream with.
    pub(crate) fn end() -> Self {
        Self { event: None, data: "[DONE]".into() }
    }
}

/// Makes the parts of a streamed response.
pub(crate) trait Parts: Send + 'static {
    /// What is sent before the first token of a choice. Choices of several prompts are counted through.
    fn first(&mut self, index: usize) -> Vec<Frame>;

    /// What an event of a choice adds. Never sees [`Event::Failed`].
    fn event(&mut self, index: usize, event: Event) -> Vec<Frame>;

    /// What is sent behind all choices.
    fn last(&mut self, usage: Usage) -> Vec<Frame>;

    /// What is sent in place of the rest.
    fn failed(&self, error: &Error) -> Frame {
        Frame::data(&error.body())
    }
}

/// Sends the parts as they come; after an error that error instead of the rest.
pub(crate) fn respond(streams: Vec<Stream>, mut parts: impl Parts, mut meter: Meter) -> Response {
    let (sender, receiver) = mpsc::channel::<Result<SseEvent, Infallible>>(CHANNEL_EVENTS);
    let guards = streams.iter().map(|stream| CancelOnDrop(stream.canceller())).collect();
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let send = |frame: Frame| {
            // The name first, as the APIs that name their events send it.
            let event = frame.event.into_iter().fold(SseEvent::default(), SseEvent::event);
            let event = event.data(frame.data);
            match sender.try_send(Ok(event)) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Closed(_)) => false,
                Err(mpsc::error::TrySendError::Full(event)) => {
                    runtime.block_on(sender.send_timeout(event, MAX_STALL)).is_ok()
                }
            }
        };
        let send_all = |frames: Vec<Frame>| frames.into_iter().all(send);
        let mut total = Usage::default();
        let mut base = 0;
        for stream in &streams {
            let ends = base + stream.num_choices();
            // With the first token and not before it: who waits for something to come waits for that.
            let mut begun = vec![false; stream.num_choices()];
            let on = |index: usize, event| {
                let is_first = !std::mem::replace(&mut begun[index], true);
                (!is_first || send_all(parts.first(base + index)))
                    && send_all(parts.event(base + index, event))
            };
            match drive(stream, &mut meter, on) {
                Ok(None) => return,
                Ok(Some(usage)) => total = sum(total, usage),
                Err(error) => {
                    send_all(vec![parts.failed(&error)]);
                    return;
                }
            }
            base = ends;
        }
        // Accounts first: what a client has read whole is in them.
        match meter.finish(total) {
            Ok(()) => send_all(parts.last(total)),
            Err(error) => send_all(vec![parts.failed(&error)]),
        };
    });
    let events = Events { receiver: ReceiverStream::new(receiver), _guards: guards };
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}
