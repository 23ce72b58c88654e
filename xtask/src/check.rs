//! Everything a change must pass, cheapest first: formatting, spelling, tidy, clippy, licences, tests, docs.
//!
//! The first failure ends it. `typos` and `cargo-deny` are run where they are installed; a line says where not.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::repo::root;

/// A step: what it is called, the command, and whether a machine may lack it.
const STEPS: &[(&str, &[&str], bool)] = &[
    ("format", &["cargo", "fmt", "--all", "--check"], false),
    ("spelling", &["typos"], true),
    ("tidy", &["cargo", "xtask", "tidy"], false),
    ("clippy", &["cargo", "clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], false),
    ("licences", &["cargo-deny", "check"], true),
    ("tests", &["scripts/test"], false),
    ("docs", &["cargo", "doc", "--workspace", "--no-deps", "--document-private-items"], false),
];

/// Runs all steps; whether all passed.
pub(crate) fn run() -> Result<bool> {
    let mut skipped = Vec::new();
    for &(name, command, is_optional) in STEPS {
        let line = command.join(" ");
        if is_optional && !is_installed(command[0]) {
            skipped.push(format!("{name}: `{}` isn't installed", command[0]));
            continue;
        }
        println!("── {name}: {line}");
        let mut run = Command::new(command[0]);
        run.args(&command[1..]).current_dir(root());
        if name == "docs" {
            run.env("RUSTDOCFLAGS", "-D warnings");
        }
        let status = run.status().with_context(|| format!("can't start `{line}`"))?;
        if !status.success() {
            println!("check: `{line}` failed");
            return Ok(false);
        }
    }
    for line in &skipped {
        println!("skipped: {line}");
    }
    println!("check: {} steps passed, {} skipped", STEPS.len() - skipped.len(), skipped.len());
    Ok(true)
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}
