//! Files up to 500 lines without their tests, functions up to 70; what is longer may only shrink.
//!
//! `xtask/ratchet.txt` lists what is longer, one `path lines` or `path::function lines` a line. An entry that
//! is too high is a finding as well, so that what was won stays won. Files of tests have no limit, and
//! neither have files that other files are made into (`GENERATED`).

use std::collections::BTreeMap;

use crate::repo::{Repo, extension, file_name};
use crate::rust_source::{Part, functions, only, test_items};

const MAX_FILE: usize = 500;
const MAX_FUNCTION: usize = 70;

const RATCHET: &str = "xtask/ratchet.txt";

/// Folders of files that a tool writes.
const GENERATED: &[&str] = &["crates/serve/assets/"];

pub(super) fn check(repo: &Repo) -> Vec<String> {
    let (listed, mut findings) = listed(repo.text(RATCHET).unwrap_or_default());
    let long = long(repo);
    for (place, &(num_lines, limit)) in &long {
        match listed.get(place) {
            None => findings.push(format!("{place} has {num_lines} lines, at most {limit}")),
            Some(&allowed) if num_lines > allowed => findings
                .push(format!("{place} has grown from {allowed} to {num_lines} lines; it may only shrink")),
            Some(&allowed) if num_lines < allowed => findings
                .push(format!("{RATCHET}: {place} has shrunk; write {num_lines} instead of {allowed}")),
            Some(_) => {}
        }
    }
    let gone = listed.keys().filter(|place| !long.contains_key(*place));
    findings.extend(gone.map(|place| format!("{RATCHET}: {place} isn't long any more; remove it")));
    findings
}

/// Entries of the ratchet, and lines that are none.
fn listed(text: &str) -> (BTreeMap<String, usize>, Vec<String>) {
    let mut listed = BTreeMap::new();
    let mut findings = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.rsplit_once(' ').map(|(place, number)| (place, number.parse())) {
            Some((place, Ok(number))) => _ = listed.insert(place.to_owned(), number),
            _ => findings.push(format!("{RATCHET}: `{line}` isn't `path lines`")),
        }
    }
    (listed, findings)
}

/// What is longer than its limit, with both.
fn long(repo: &Repo) -> BTreeMap<String, (usize, usize)> {
    let mut long = BTreeMap::new();
    let extensions = ["rs", "ts", "tsx", "js", "mjs", "css", "py"];
    for (path, text) in repo.with_extension(&extensions) {
        if GENERATED.iter().any(|folder| path.starts_with(folder)) {
            continue;
        }
        let mut num_lines = text.lines().count();
        if extension(path) == Some("rs") {
            let code = only(text, Part::Code);
            let comments = only(text, Part::Comment);
            for function in functions(&code) {
                let num_lines = code_lines(&text[function.range.clone()], &comments[function.range]);
                if num_lines > MAX_FUNCTION {
                    let place = format!("{path}::{}", function.name);
                    let lines = long.entry(place).or_insert((0, MAX_FUNCTION));
                    lines.0 = lines.0.max(num_lines);
                }
            }
            let in_tests = test_items(&code).into_iter().map(|item| code[item].lines().count());
            num_lines = num_lines.saturating_sub(in_tests.sum());
        }
        if num_lines > MAX_FILE && !holds_tests(path) {
            long.insert(path.to_owned(), (num_lines, MAX_FILE));
        }
    }
    long
}

/// Lines that are neither blank nor comment, as clippy's `too_many_lines` counts them.
fn code_lines(text: &str, comments: &str) -> usize {
    let lines = text.lines().zip(comments.lines());
    lines.filter(|(line, comment)| line.trim() != comment.trim()).count()
}

fn holds_tests(path: &str) -> bool {
    path.contains("/tests/") || path.starts_with("tests/") || file_name(path) == "tests.rs"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::on;

    #[test]
    fn this_repository_is_short_or_shrinks() {
        on::this_repository(check);
    }

    #[test]
    fn long_files_and_functions_are_found() {
        let lines = "// x\n".repeat(501);
        let body = "    x(); // x\n\n    // x\n".repeat(69);
        let function = format!("fn f() {{\n{body}}}\n");
        let in_tests = format!("#[cfg(test)]\nmod tests {{\n{lines}}}\n");
        let files = [
            ("a.rs", &*lines),
            ("b.rs", &function),
            ("c.rs", &in_tests),
            ("d/tests/e.rs", &lines),
            ("d/tests.rs", &lines),
            ("crates/serve/assets/app.js", &lines),
            ("page.ts", &lines),
        ];
        let expected = ["a.rs has 501", "b.rs::f has 71", "page.ts has 501"];
        on::files(check, &files, &expected);
    }

    #[test]
    fn the_ratchet_only_goes_down() {
        let lines = "// x\n".repeat(600);
        let with = |ratchet: &str, expected: &[&str]| {
            on::files(check, &[("a.rs", &lines), (RATCHET, ratchet)], expected);
        };
        with("# why\na.rs 600\n", &[]);
        with("a.rs 590\n", &["grown from 590 to 600"]);
        with("a.rs 610\n", &["write 600 instead of 610"]);
        with("a.rs 600\nb.rs 700\n", &["b.rs isn't long"]);
        with("a.rs 600\nnonsense\n", &["`nonsense` isn't"]);
    }
}
