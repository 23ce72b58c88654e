//! Generation: requests in, tokens out, many at a time.
//!
//! * [`request`] — what is asked and what comes back
//! * [`engine`] — the handle: submit from any thread, results as a stream
//! * [`counters`] — what was computed and what is held, for metrics and for a queue with an end
//! * `queue` — who comes next
//! * `scheduler` — the loop: chunked prefill, batched decoding
//! * `admission` — who gets a place and memory, who gives it back, what is kept
//! * `pace` — how long a prompt may make others wait
//! * `sequence` — one answer under way
//! * `prefix` — keys and values that the next request may begin with
//! * `keeping`, [`store`] — the same on disk, over the end of the process
//! * [`registry`] — several models by name within a budget of memory
//! * [`speculate`] — guesses at the next tokens, checked together
//! * [`constraint`] — JSON schemas, regular expressions and grammars that the text must fit
//! * [`sampling`] — logits to a token
//! * `stop` — where the text ends
//! * [`beam`] — the most probable answers, followed side by side
//! * [`score`] — log-probabilities of given tokens, perplexity
//! * `echo` — a stand-in without a model, for measuring everything else
//! * [`bench`](mod@bench) — tokens a second

pub mod request;
pub mod engine;
pub mod counters;
mod queue;
mod scheduler;
mod admission;
mod pace;
mod sequence;
mod prefix;
mod keeping;
pub mod store;
pub mod registry;
pub mod speculate;
pub mod constraint;
pub mod sampling;
mod stop;
pub mod beam;
pub mod score;
mod echo;
pub mod bench;

pub use constraint::Constraint;
pub use counters::{Computed, Load};
pub use engine::{Canceller, Engine, EngineConfig, Stream};
pub use registry::{Loader, ModelState, Registry, RegistryError};
pub use request::{Completion, Error, Event, Finish, Request, Result, Token, Usage};
pub use sampling::{Dry, Mirostat, Sampling};
pub use speculate::Speculation;
pub use store::StoreConfig;
