//! What tests of several crates share; a dev-dependency only.
//!
//! * [`tiny_model`](mod@tiny_model) — a whole model folder made by code: random weights, a real tokenizer, a template
//! * [`Scratch`] — a folder of a test's own that goes away with it

pub mod scratch;
pub mod tiny_model;
mod tokenizer_json;

pub use scratch::Scratch;
pub use tiny_model::{Family, TINY, TinyModel, tiny_model};
