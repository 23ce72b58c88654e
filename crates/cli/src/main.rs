//! The `hearth` binary: arguments to a resolved configuration to one call.
//!
//! * `args` — the command line
//! * `commands` — a module for each verb
//! * `up` — the main job: a folder of documents to a served, measured assistant
//! * `models` — names to loaded models
//! * `memory` — how much of it there is
//! * `rows` — files of text to rows
//! * `terminal` — progress for people

mod args;
mod commands;
mod memory;
mod models;
mod pictures;
mod pretraining;
mod random;
mod rerank;
mod rows;
mod run;
mod settings;
mod terminal;
mod training_page;
mod up;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    match commands::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::print_error(&error);
            ExitCode::FAILURE
        }
    }
}
