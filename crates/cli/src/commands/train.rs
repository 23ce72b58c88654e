//! `hearth train`: a verb for each way of training.
//!
//! * `sft` — conversations to an adapter
//! * `recipe` — settings from a file and from flags, with their defaults
//! * `page` — a run's curves as one HTML page

mod page;
mod recipe;
mod sft;

use anyhow::Result;

use super::Context;
use crate::args::TrainCommand;

pub(super) fn run(context: &Context, command: &TrainCommand) -> Result<()> {
    match command {
        TrainCommand::Sft(args) => sft::run(context, args),
    }
}
