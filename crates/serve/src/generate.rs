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

/// Waits for all answers.
pub(crate) async fn collect(stream: Stream) -> Result<Vec<Completion>> {
    let _guard = CancelOnDrop(stream.canceller());
    let (sender, receiver) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        // The client may have hung up.
        let _ = sender.send(stream.collect_choices().map_err(Error::Engine));
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
    /// What is sent before the first token of a choice.
    fn first(&self, index: usize) -> Vec<Value>;

    /// What an event of a choice adds. Never sees [`Event::Failed`].
    fn event(&mut self, index: usize, event: Event) -> Vec<Value>;

    /// What is sent behind all choices.
    fn last(&self, usage: Usage) -> Option<Value>;
}

/// Sends the parts as they come, then `[DONE]`; after an error that error instead.
pub(crate) fn respond(stream: Stream, mut parts: impl Parts) -> Response {
    let (sender, receiver) = mpsc::channel::<Result<SseEvent, Infallible>>(CHANNEL_EVENTS);
    let guard = CancelOnDrop(stream.canceller());
    tokio::task::spawn_blocking(move || {
        let send = |data: String| sender.blocking_send(Ok(SseEvent::default().data(data))).is_ok();
        let send_all = |values: Vec<Value>| values.into_iter().all(|value| send(value.to_string()));
        let mut usages: Vec<Option<Usage>> = vec![None; stream.num_choices()];
        if !(0..usages.len()).all(|index| send_all(parts.first(index))) {
            return;
        }
        while usages.iter().any(Option::is_none) {
            let stopped = (0, Event::Failed(hearth_engine::Error::Stopped));
            let (index, event) = stream.next_of_choice().unwrap_or(stopped);
            match event {
                Event::Failed(error) => {
                    send(Error::Engine(error).body().to_string());
                    return;
                }
                Event::Done { usage, .. } => usages[index] = Some(usage),
                Event::Token(_) => {}
            }
            if !send_all(parts.event(index, event)) {
                return;
            }
        }
        let usage = Usage::of_choices(usages.iter().flatten());
        if send_all(parts.last(usage).into_iter().collect()) {
            send("[DONE]".into());
        }
    });
    let events = Events { receiver: ReceiverStream::new(receiver), _guard: guard };
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}
