//! The HTTP server: an OpenAI-compatible API, what the chat page asks for, and the page itself.
//!
//! * [`grounding`] — what serve asks of documents and embedders, as traits that others implement
//! * [`ledger`] — accounts: keys, limits, usage, prices
//! * `rates`, `metrics`, `caller`, `meter` — who asks how much how fast, and what is counted of it
//! * [`state`] — the engine and everything that may change while serving: assistants, progress, the report
//! * `fields`, `constraint`, `sampling` — a request's parameters, none of them ignored
//! * `tools`, `dialect`, `calls`, `answer` — tools in, and an answer's text, reasoning and calls apart
//! * `ask` — a conversation to running answers
//! * `score` — how probable a prompt's own tokens are
//! * `generate`, `logprobs` — the engine's stream to one answer or to server-sent events
//! * `chat`, `completions`, `embeddings`, `models`, `status` — the endpoints of the OpenAI API, and the page's
//! * `responses`, `anthropic`, `rerank`, `tokens`, `openapi` — newer and other shapes of the same
//! * `page` — the chat page, embedded
//! * [`gateway`] — models that live on other servers
//! * `guard`, `access` — what a browser may ask, and who may ask at all
//! * [`listen`] — connections, TLS, and the patience with slow clients
//! * [`server`] — bind, serve, stop
//! * [`error`] — every refusal, in the shape of the OpenAI API

pub mod grounding;
pub mod knowledge;
mod ledger;
mod rates;
mod metrics;
mod caller;
mod meter;
pub mod state;

mod fields;
mod constraint;
mod sampling;

mod tools;
mod dialect;
mod calls;
mod answer;
mod ask;
mod score;

mod generate;
mod logprobs;

mod chat;
mod completions;
mod embeddings;
mod models;
mod status;
mod responses;
mod anthropic;
mod rerank;
mod tokens;
mod openapi;

mod page;

pub mod gateway;

mod guard;
mod access;
pub mod listen;

pub mod server;

pub mod error;

pub use error::{Error, Result};
pub use gateway::Upstream;
pub use grounding::{
    Citation, DocumentSummary, Embedded, Embedding, Grounded, Grounding, InputType, Passage, Passages,
};
pub use knowledge::{Knowledge, KnowledgeError, NewDocument, Search};
pub use ledger::{Key, Ledger, Limits, Used};
pub use listen::Tls;
pub use server::{Options, Running, Server};
pub use state::{Assistant, Behind, State};
