//! `cargo xtask tidy` checks the workspace's own rules; `cargo xtask check` runs everything a change must pass.
//!
//! In the order in which data flows:
//! * `repo` — what is looked at: the files of the repository and cargo's metadata
//! * `rust_source` — Rust text taken apart into code, comments and functions
//! * `tidy` — the rules, a module each; every rule is a test over this repository too
//! * `check` — formatting, tidy, clippy, tests and docs, cheapest first
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for the terminal")]

mod repo;
mod rust_source;

mod tidy;

mod check;

use std::process::ExitCode;

use anyhow::Result;

use repo::Repo;

const HELP: &str = "\
cargo xtask tidy     the workspace's own rules (STYLE.md)
cargo xtask check    formatting, tidy, clippy, tests, docs: what every change must pass";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["tidy"] => tidy(),
        ["check"] => check::run(),
        _ => {
            eprintln!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints what is found; whether there was nothing.
fn tidy() -> Result<bool> {
    let repo = Repo::open()?;
    let mut num_found = 0;
    for check in tidy::CHECKS {
        for finding in (check.run)(&repo) {
            println!("{}: {finding}", check.name);
            num_found += 1;
        }
    }
    let (num_checks, num_files) = (tidy::CHECKS.len(), repo.files.len());
    println!("tidy: {num_checks} checks over {num_files} files, {num_found} findings");
    Ok(num_found == 0)
}
