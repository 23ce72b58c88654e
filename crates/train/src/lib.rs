//! Fine-tuning: conversations in, an adapter and its loss curve out.
//!
//! * [`conversations`] — files of conversations to examples with a loss mask
//! * [`config`] — everything that decides a run
//! * [`sft`] — the public entry: supervised fine-tuning of a low-rank adapter
//! * [`batches`] — which examples make up which step
//! * [`guard`] — losses that jump, documents to look at, learning by heart
//! * [`checkpoint`] — what lets a killed run go on as if nothing had happened
//! * [`metrics`] — the figures of a run, a line a step
//! * [`run_folder`] — a run's folder: one trainer, settings that don't change

pub mod conversations;

pub mod config;
pub mod sft;

pub mod batches;
pub mod guard;

pub mod checkpoint;
pub mod metrics;
pub mod run_folder;

mod error;

pub use checkpoint::{Checkpoints, Resume};
pub use config::{Schedule, SftConfig};
pub use error::{Error, Result};
pub use guard::{OnSpike, Verdict};
pub use sft::{Curve, Loss, Output};
