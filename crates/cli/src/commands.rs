//! A module for each verb; this one hands over.

mod bench;
mod bench_kb;
mod bench_serve;
mod chat;
mod convert;
mod data;
mod doctor;
mod eval;
mod generate;
mod imatrix;
mod kb;
mod keys;
mod lineage;
mod merge;
mod models;
mod ocr;
mod pack;
mod runs;
mod serve;
mod show;
mod tokenizer;
mod train;
mod verify;

pub(crate) use bench::peak_mib;
pub(crate) use tokenizer::train as vocabulary;

use std::io::{ErrorKind, Write};

use anyhow::Result;

use crate::args::{Args, Command};
use crate::models::Machine;
use crate::terminal::Terminal;
use crate::up;

/// What every verb is given.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) machine: Machine,
    pub(crate) terminal: Terminal,
    pub(crate) json: bool,
}

impl Context {
    /// One line of JSON on standard output.
    pub(crate) fn print_json(&self, value: &serde_json::Value) {
        self.print(&value.to_string());
    }

    /// A result on standard output. A reader that has hung up (`| head`) has seen what it wanted.
    pub(crate) fn print(&self, text: &str) {
        if let Err(error) = writeln!(std::io::stdout(), "{text}")
            && error.kind() != ErrorKind::BrokenPipe
        {
            self.terminal.say(&format!("note: standard output can't be written: {error}"));
        }
    }
}

pub(crate) fn run(args: Args) -> Result<()> {
    let context =
        Context { machine: Machine::new(args.threads)?, terminal: Terminal::new(), json: args.json };
    match args.command {
        Command::Up(args) => up::run(&context, &args),
        Command::Pull(args) => models::pull(&context, &args),
        Command::Models => models::list(&context),
        Command::Rm(args) => models::remove(&context, &args),
        Command::Show(args) => show::run(&context, &args),
        Command::Imatrix(args) => imatrix::run(&context, &args),
        Command::Quantize(args) => convert::quantize(&context, &args),
        Command::Convert(args) => convert::convert(&context, &args),
        Command::Data(command) => data::run(&context, &command),
        Command::Tokenizer(command) => tokenizer::run(&context, &command),
        Command::Run(args) => crate::run::run(&context, &args),
        Command::Train(command) => train::run(&context, &command),
        Command::Lineage(args) => lineage::run(&context, &args),
        Command::Runs(args) => runs::run(&context, &args),
        Command::Merge(args) => merge::run(&context, &args),
        Command::Eval(command) => eval::run(&context, &command),
        Command::Generate(args) => generate::run(&context, &args),
        Command::Chat(args) => chat::run(&context, args),
        Command::Kb(command) => kb::run(&context, &command),
        Command::Ocr(args) => ocr::run(&context, &args),
        Command::Serve(args) => serve::run(&context, &args),
        Command::Keys(command) => keys::run(&context, &command),
        Command::Usage => keys::usage(&context),
        Command::Bench(command) => bench::run(&context, &command),
        Command::Doctor => {
            doctor::run(&context);
            Ok(())
        }
    }
}
