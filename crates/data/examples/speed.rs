//! How fast a corpus goes through each verb: `cargo run --release -p hearth-data --example speed -- FOLDER THREADS [VERB…]`.
//!
//! Prints a line of JSON a verb: rows, megabytes of text in, seconds, megabytes a second. Results go to a folder beside
//! the corpus that is removed first.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for the terminal")]

use std::path::Path;
use std::time::Instant;

use hearth_artifacts::progress::Silent;
use hearth_data::job::Tally;
use hearth_data::{Input, Output, Result, clean, dedup, pii, stats};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let (corpus, threads) = (Path::new(&args[1]), args[2].parse().unwrap());
    let verbs = &args[3..];
    for (name, verb) in VERBS {
        if !verbs.is_empty() && !verbs.iter().any(|wanted| wanted == name) {
            continue;
        }
        let folder = corpus.with_extension(format!("{name}-out"));
        let _ = std::fs::remove_dir_all(&folder);
        let output = Output { threads, ..Output::new(&folder) };
        let started = Instant::now();
        let tally = verb(&Input::new([corpus]), &output).unwrap();
        let seconds = started.elapsed().as_secs_f64();
        let line = serde_json::json!({
            "verb": name, "threads": threads, "rows_in": tally.rows_in, "rows_out": tally.rows_out,
            "mb": tally.bytes_in as f64 / 1e6, "seconds": seconds, "mb_per_s": tally.bytes_in as f64 / 1e6 / seconds,
        });
        println!("{line}");
    }
}

type Verb = fn(&Input, &Output) -> Result<Tally>;

const VERBS: [(&str, Verb); 6] = [
    ("clean", |input, output| Ok(clean::run(&clean::Config::default(), input, output, &Silent)?.tally)),
    ("repair", |input, output| Ok(clean::run(&clean::Config::repair_only(), input, output, &Silent)?.tally)),
    ("exact", |input, output| {
        let mut config = dedup::Config::default();
        config.near.enabled = false;
        Ok(dedup::run(&config, input, output, &Silent)?.tally)
    }),
    ("near", |input, output| Ok(dedup::run(&dedup::Config::default(), input, output, &Silent)?.tally)),
    ("pii", |input, output| Ok(pii::run(&pii::Config::default(), input, output, &Silent)?.tally)),
    ("stats", |input, output| Ok(stats::run(&stats::Config::default(), input, output, &Silent)?.tally)),
];
