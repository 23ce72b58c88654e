//! Generation: requests in, tokens out, many at a time.
//!
//! * [`request`] — what is asked and what comes back
//! * [`engine`] — the handle: submit from any thread, results as a stream
//! * `scheduler` — the loop: admission, chunked prefill, batched decoding, prefix reuse
//! * `prefix` — finished sequences whose keys and values may serve the next request
//! * [`sampling`] — logits to a token
//! * `stop` — where the text ends
//! * [`score`] — log-probabilities of given tokens, perplexity
//! * [`bench`](mod@bench) — tokens a second

pub mod request;
pub mod engine;
mod scheduler;
mod prefix;
pub mod sampling;
mod stop;
pub mod score;
pub mod bench;

pub use engine::{Canceller, Engine, EngineConfig, Stream};
pub use request::{Completion, Error, Event, Finish, Request, Result, Token, Usage};
pub use sampling::Sampling;
