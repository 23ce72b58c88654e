//! Generation: requests in, tokens out, many at a time.
//!
//! * [`request`] — what is asked and what comes back
//! * [`engine`] — the handle: submit from any thread, results as a stream
//! * `scheduler` — the loop: admission, chunked prefill, batched decoding, prefix reuse
//! * `sequence` — one answer under way
//! * `prefix` — finished sequences whose keys and values may serve the next request
//! * [`speculate`] — guesses at the next tokens, checked together
//! * [`constraint`] — JSON schemas, regular expressions and grammars that the text must fit
//! * [`sampling`] — logits to a token
//! * `stop` — where the text ends
//! * [`beam`] — the most probable answers, followed side by side
//! * [`score`] — log-probabilities of given tokens, perplexity
//! * [`bench`](mod@bench) — tokens a second

pub mod request;
pub mod engine;
mod scheduler;
mod sequence;
mod prefix;
pub mod speculate;
pub mod constraint;
pub mod sampling;
mod stop;
pub mod beam;
pub mod score;
pub mod bench;

pub use constraint::Constraint;
pub use engine::{Canceller, Computed, Engine, EngineConfig, Stream};
pub use request::{Completion, Error, Event, Finish, Request, Result, Token, Usage};
pub use sampling::{Dry, Mirostat, Sampling};
pub use speculate::Speculation;
