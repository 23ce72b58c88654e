//! Fine-tuning: examples with a loss mask in, an adapter and its loss curve out.
//!
//! * [`bench`] — how fast a step is
//! * [`config`] — everything that decides a run
//! * [`sft`] — the public entry: supervised fine-tuning of a low-rank adapter
//! * `batches` — which examples make up which step
//! * `checkpoint` — what lets a killed run go on as if nothing had happened

pub mod bench;
mod batches;
mod checkpoint;
pub mod config;
pub mod sft;

mod error;

pub use config::SftConfig;
pub use error::{Error, Result};
pub use sft::{Curve, Loss, Output};
