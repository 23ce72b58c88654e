//! `hearth train`: a verb for each way of training.
//!
//! * `pretrain` — token shards to a model
//! * `sft` — conversations to an adapter
//! * `recipe` — settings from a file and from flags, with their defaults
//! * `page` — a run's curves as one HTML page

mod page;
mod pretrain;
mod recipe;
mod sft;

use anyhow::Result;

use super::Context;
use crate::args::TrainCommand;

pub(super) fn run(context: &Context, command: &TrainCommand) -> Result<()> {
    match command {
        TrainCommand::Pretrain(args) => pretrain::run(context, args),
        TrainCommand::Sft(args) => sft::run(context, args),
    }
}
