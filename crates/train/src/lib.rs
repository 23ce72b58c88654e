//! Fine-tuning: examples with a loss mask in, an adapter and its loss curve out.
//!
//! * [`pretrain`] — the public entry: all weights of a decoder, from token shards
//! * [`schedule`] — the learning rate over a run
//! * [`checkpoints`] — folders of steps, whole or not there
//! * [`guard`] — losses that jump, documents to look at, learning by heart
//! * [`metrics`] — the figures of a run, a line a step
//! * [`run_folder`] — a run's folder: one trainer, settings that don't change
//! * [`bench`] — how fast a step is
//! * [`config`] — everything that decides a run
//! * [`sft`] — the public entry: supervised fine-tuning of a low-rank adapter
//! * `batches` — which examples make up which step
//! * `checkpoint` — what lets a killed run go on as if nothing had happened

pub mod pretrain;
pub mod schedule;
pub mod bench;
mod batches;
pub mod checkpoints;
pub mod guard;
pub mod metrics;
pub mod run_folder;
mod checkpoint;
pub mod config;
pub mod sft;

mod error;

pub use config::SftConfig;
pub use error::{Error, Result};
pub use sft::{Curve, Loss, Output};
