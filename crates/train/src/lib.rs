//! Training: token shards or conversations in, a model or an adapter and its loss curve out.
//!
//! * [`pretrain`] — the public entry: all weights of a decoder, from token shards
//! * [`schedule`] — the learning rate over a run
//! * `sitting` — steps, looks, figures and checkpoints, whatever weights are trained
//! * [`checkpoints`] — folders of steps, whole or not there
//! * [`conversations`] — files of conversations to examples with a loss mask
//! * [`config`] — everything that decides a run of fine-tuning
//! * [`sft`] — the public entry: supervised fine-tuning of a low-rank adapter
//! * [`batches`] — which examples make up which step
//! * [`checkpoint`] — what lets a killed run of it go on as if nothing had happened
//! * [`guard`] — losses that jump, documents to look at, learning by heart
//! * [`metrics`] — the figures of a run, a line a step
//! * [`run_folder`] — a run's folder: one trainer, settings that don't change
//! * [`sample`] — what a model says during training
//! * [`bench`] — how fast a step is

pub mod pretrain;
pub mod schedule;
mod sitting;
pub mod checkpoints;
pub mod conversations;
pub mod config;
pub mod sft;

pub mod batches;
pub mod guard;

pub mod checkpoint;
pub mod metrics;
pub mod run_folder;

pub mod bench;
pub mod sample;

mod error;

pub use checkpoint::{Checkpoints, Resume};
pub use config::SftConfig;
pub use error::{Error, Result};
pub use guard::{OnSpike, Verdict};
pub use schedule::Decay;
pub use sft::{Curve, Loss, Output};
