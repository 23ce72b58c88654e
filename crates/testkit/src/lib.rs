//! What tests of several crates share; a dev-dependency only.
//!
//! * [`tiny_model`](mod@tiny_model) — a whole model folder made by code: random weights, a real tokenizer, a template
//! * [`tiny_gguf`](mod@tiny_gguf) — the same model as one GGUF file
//! * [`formula_model`](mod@formula_model) — a model folder that a script elsewhere makes too
//! * [`tiny_embedder`](mod@tiny_embedder) — a text embedder in one file, made by code
//! * [`Scratch`] — a folder of a test's own that goes away with it

pub mod formula_model;
pub mod scratch;
pub mod tiny_embedder;
pub mod tiny_gguf;
pub mod tiny_model;
mod tokenizer_json;

pub use formula_model::{FormulaTensor, formula_model};
pub use scratch::Scratch;
pub use tiny_embedder::tiny_embedder;
pub use tiny_gguf::tiny_gguf;
pub use tiny_model::{Family, TINY, TinyModel, tiny_model};
