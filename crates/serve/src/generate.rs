//! The engine's stream to one answer, or to server-sent events.
//!
//! The engine's streams block, so each is read on a thread of its own. When the client hangs up, axum drops what it
//! was waiting for, a future or a response's body; each holds a guard that cancels the generation, even in the middle
//! of a prompt.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use hearth_engine::{Canceller, Completion, Event, Finish, Stream, Usage};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use crate::error::{Error, Result};
use crate::state::State;

/// Events a slow client may be behind before its reading thread waits.
const CHANNEL_EVENTS: usize = 64;

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
    _guard: CancelOnDrop,
}

impl tokio_stream::Stream for Events {
    type Item = Result<SseEvent, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.receiver).poll_next(context)
    }
}

/// Waits for the whole answer.
pub(crate) async fn collect(stream: Stream) -> Result<Completion> {
    let _guard = CancelOnDrop(stream.canceller());
    let (sender, receiver) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let (mut text, mut tokens) = (String::new(), Vec::new());
        let result = loop {
            match stream.next_event() {
                Some(Event::Token(token)) => {
                    text.push_str(&token.text);
                    tokens.push(token);
                }
                Some(Event::Done { finish, usage, text: rest }) => {
                    text.push_str(&rest);
                    break Ok(Completion { text, tokens, finish, usage });
                }
                Some(Event::Failed(error)) => break Err(Error::Engine(error)),
                None => break Err(Error::Engine(hearth_engine::Error::Stopped)),
            }
        };
        // The client may have hung up.
        let _ = sender.send(result);
    });
    receiver.await.unwrap_or_else(|_| Err(Error::Bug { what: "the answer was lost".into() }))
}

/// Runs something that may block for a while: a search, an embedding.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::Bug { what: error.to_string() }))
}

/// Makes the parts of a streamed response.
pub(crate) trait Parts: Send + 'static {
    /// What is sent before the first token.
    fn first(&self) -> Vec<Value>;

    /// What an event adds. Never sees [`Event::Failed`].
    fn event(&mut self, event: Event) -> Vec<Value>;
}

/// Sends the parts as they come, then `[DONE]`; after an error that error instead.
pub(crate) fn respond(stream: Stream, mut parts: impl Parts) -> Response {
    let (sender, receiver) = mpsc::channel::<Result<SseEvent, Infallible>>(CHANNEL_EVENTS);
    let guard = CancelOnDrop(stream.canceller());
    tokio::task::spawn_blocking(move || {
        let send = |data: String| sender.blocking_send(Ok(SseEvent::default().data(data))).is_ok();
        let send_all = |values: Vec<Value>| values.into_iter().all(|value| send(value.to_string()));
        if !send_all(parts.first()) {
            return;
        }
        loop {
            let event = stream.next_event().unwrap_or(Event::Failed(hearth_engine::Error::Stopped));
            if let Event::Failed(error) = event {
                send(Error::Engine(error).body().to_string());
                return;
            }
            let is_done = matches!(event, Event::Done { .. });
            if !send_all(parts.event(event)) {
                return;
            }
            if is_done {
                send("[DONE]".into());
                return;
            }
        }
    });
    let events = Events { receiver: ReceiverStream::new(receiver), _guard: guard };
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}
