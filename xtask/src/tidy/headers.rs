//! Every Rust file opens with `//!`: what it holds, in at most fifteen lines.
//!
//! `lib.rs` may take more, because it has a line for each of its modules.

use crate::repo::{Repo, file_name};

const MAX_LINES: usize = 15;

pub(super) fn check(repo: &Repo) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in repo.with_extension(&["rs"]) {
        let num_lines = text.lines().take_while(|line| line.starts_with("//!")).count();
        let first = text.lines().next().unwrap_or_default();
        if first.trim_start_matches("//!").trim().is_empty() || num_lines == 0 {
            findings.push(format!("{path}: the first line isn't `//! what this file holds`"));
        } else if num_lines > MAX_LINES && file_name(path) != "lib.rs" {
            findings.push(format!("{path}: `//!` of {num_lines} lines, at most {MAX_LINES}"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::on;

    #[test]
    fn this_repository_says_what_its_files_hold() {
        on::this_repository(check);
    }

    #[test]
    fn missing_empty_and_long_headers_are_found() {
        let long = "//! x\n".repeat(16);
        let files = [
            ("a.rs", "//! Fine.\nfn a() {}"),
            ("b.rs", "fn b() {}"),
            ("c.rs", "//!\n"),
            ("d.rs", &long),
            ("e.rs", ""),
            ("lib.rs", &long),
            ("not_rust.py", ""),
        ];
        on::files(check, &files, &["b.rs", "c.rs", "d.rs", "e.rs"]);
    }
}
