//! The HTTP server: an OpenAI-compatible API, what the chat page asks for, and the page itself.
//!
//! * [`grounding`] — what serve asks of documents and embedders, as traits that others implement
//! * [`state`] — the engine and everything that may change while serving: assistants, progress, the report
//! * `fields`, `constraint`, `sampling` — a request's parameters, none of them ignored
//! * `generate`, `logprobs` — the engine's stream to one answer or to server-sent events
//! * `chat`, `completions`, `embeddings`, `models`, `status` — the endpoints
//! * `page` — the chat page, embedded
//! * `guard` — what a browser may ask
//! * [`server`] — bind, serve, stop
//! * [`error`] — every refusal, in the shape of the OpenAI API

pub mod grounding;
pub mod state;

mod fields;
mod constraint;
mod sampling;

mod generate;
mod logprobs;

mod chat;
mod completions;
mod embeddings;
mod models;
mod status;

mod page;

mod guard;

pub mod server;

pub mod error;

pub use error::{Error, Result};
pub use grounding::{
    Citation, DocumentSummary, Embedded, Embedding, Grounded, Grounding, InputType, Passage, Passages,
};
pub use server::{Running, Server};
pub use state::{Assistant, Behind, State};
