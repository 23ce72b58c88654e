//! Corpora from the command line: cleaned, deduplicated and masked, with a kill in between.

#![expect(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "all of this file is tests")]

#[expect(dead_code, reason = "what only other tests use")]
mod program;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hearth_testkit::Scratch;
use program::run;

fn hearth(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearth"));
    command.args(args).env("HEARTH_HOME", home).env("HEARTH_OFFLINE", "1").stdin(Stdio::null());
    command
}

/// A sentence of made-up words, another one for each number.
fn sentence(number: usize) -> String {
    let mut state = number as u64 * 2_654_435_761 + 97;
    let mut text = String::from("The");
    for word in 0..9 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let letters =
            (0..5).map(|at| char::from(b'a' + (state >> (24 + at * 6)) as u8 % 26)).collect::<String>();
        let _ = write!(text, " {}{letters}", if word % 3 == 1 { "of the " } else { "" });
    }
    text + ". "
}

fn corpus(folder: &Path, num_documents: usize) {
    let mut lines = String::new();
    for at in 0..num_documents {
        // Every tenth document stands there twice.
        let number = if at % 10 == 9 { at - 1 } else { at };
        let mut text: String = (0..12).map(|index| sentence(number * 100 + index)).collect();
        if number % 20 == 3 {
            let _ = write!(text, "Write to anna{number}@example.com and to the others.");
        }
        let _ = writeln!(lines, "{}", serde_json::json!({ "id": format!("doc-{at}"), "text": text }));
    }
    lines.push_str("{\"text\": broken\n");
    fs_err::create_dir_all(folder).unwrap();
    fs_err::write(folder.join("all.jsonl"), lines).unwrap();
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    files
        .map(|entry| (entry.file_name().into_string().unwrap(), fs_err::read(entry.path()).unwrap()))
        .collect()
}

#[test]
fn a_corpus_is_cleaned_kept_once_and_masked_and_a_kill_changes_nothing() {
    let scratch = Scratch::new("cli-data").unwrap();
    let text = |name: &str| scratch.join(name).to_str().unwrap().to_owned();
    corpus(&scratch.join("raw"), 12_000);
    let (raw, clean, killed) = (text("raw"), text("clean"), text("killed"));
    let args = |output: &str| {
        ["data", "clean", &raw, "-o", output, "--repair-only", "--shard-mib", "1", "--json"]
            .map(str::to_owned)
    };
    let command = |output: &str| hearth(&scratch, &args(output).each_ref().map(String::as_str));
    let summary = run(command(&clean)).expect(0).json();
    assert_eq!((&summary["rows_in"], &summary["unreadable"]), (&12_000.into(), &1.into()), "{summary}");
    assert_eq!(summary["rows_out"], 12_000, "{summary}");

    // Killed as soon as the first shard is done, and begun again.
    let mut child = command(&killed).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let marker = scratch.join("killed/.work/clean/00000.json");
    let started = Instant::now();
    while !marker.exists() && child.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < Duration::from_mins(2), "no shard was done");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    run(command(&killed)).expect(0);
    assert_eq!(files(&scratch.join("killed")), files(&scratch.join("clean")));

    let other =
        run(hearth(&scratch, &["data", "clean", &raw, "-o", &clean, "--repair-only", "--languages", "zh"]))
            .expect(1);
    assert!(other.stderr.contains("begun with another `config.languages`"), "{}", other.stderr);

    let (once, masked, report) = (text("once"), text("masked"), text("report"));
    let summary = run(hearth(&scratch, &["data", "dedup", &clean, "-o", &once, "--json"])).expect(0).json();
    assert_eq!(summary["details"]["exact_duplicates"], 1200, "{summary}");
    let summary = run(hearth(&scratch, &["data", "pii", &once, "-o", &masked, "--json"])).expect(0).json();
    assert_eq!(summary["details"]["found"]["EMAIL"], 600, "{summary}");
    let summary =
        run(hearth(&scratch, &["data", "stats", &masked, "-o", &report, "--json"])).expect(0).json();
    assert_eq!((&summary["rows_in"], &summary["details"]["exact_duplicates"]), (&10_800.into(), &0.into()));
    let page = fs_err::read_to_string(scratch.join("report/report.html")).unwrap();
    assert!(page.contains("default-src 'none'") && page.contains("Stage `pii`"));
    assert!(!page.contains("@example.com"), "a sample shows an address");
}

#[test]
fn the_evaluation_of_personal_data_is_printed_and_mistakes_are_named() {
    let scratch = Scratch::new("cli-data-pii").unwrap();
    let evaluation =
        run(hearth(&scratch, &["data", "pii", "--evaluate", "built-in", "--json"])).expect(0).json();
    assert!(evaluation["kinds"]["ID_CARD"]["recall"].as_f64().unwrap() > 0.95, "{evaluation}");
    let table = run(hearth(&scratch, &["data", "pii", "--evaluate", "built-in"])).expect(0).stdout;
    assert!(table.contains("precision") && table.contains("BANK_CARD"), "{table}");
    let missing =
        run(hearth(&scratch, &["data", "clean", "nowhere", "-o", scratch.join("out").to_str().unwrap()]))
            .expect(1);
    assert!(missing.stderr.contains("`nowhere` isn't there"), "{}", missing.stderr);
    let kind =
        run(hearth(&scratch, &["data", "pii", "--evaluate", "built-in", "--kinds", "shoe-size"])).expect(1);
    assert!(
        kind.stderr.contains("`shoe-size` is no kind of personal data; there are secret, email"),
        "{}",
        kind.stderr
    );
}
