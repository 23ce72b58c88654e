//! What is put off says what must happen first, and no test is switched off.
//!
//! A note reads as `TODO once X: do Y` (or `when`, `after`); other marks for unfinished work are refused.

use crate::repo::Repo;
use crate::rust_source::{Part, only};

const CONDITIONS: &[&str] = &[" once ", " when ", " after "];

pub(super) fn check(repo: &Repo) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in repo.with_extension(&["rs"]) {
        findings.extend(notes(path, &only(text, Part::Comment)));
        let code = only(text, Part::Code);
        let ignored = code.lines().enumerate().filter(|(_, line)| line.contains("#[ignore"));
        findings.extend(ignored.map(|(index, _)| {
            format!("{path}:{}: a test is switched off; let it assert what is", index + 1)
        }));
    }
    for (path, text) in repo.with_extension(&["ts", "tsx", "mjs", "py", "sh", "toml", "css"]) {
        findings.extend(notes(path, text));
    }
    findings
}

fn notes(path: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let place = format!("{path}:{}", index + 1);
        if let Some((_, rest)) = line.split_once("TODO") {
            if !CONDITIONS.iter().any(|condition| rest.starts_with(condition)) {
                findings.push(format!("{place}: a note without `once`, `when` or `after`"));
            }
        }
        if line.contains("FIXME") {
            findings.push(format!("{place}: unfinished work without a condition"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::on;

    #[test]
    fn this_repository_puts_nothing_off_without_a_condition() {
        on::this_repository(check);
    }

    #[test]
    fn only_comments_with_a_condition_pass() {
        let files = [
            ("a.rs", "// TODO once GPUs come: move this\nlet x = \"TODO\";\n"),
            ("b.rs", "//! x\n// TODO: later\n"),
            ("c.py", "# FIXME\n"),
            ("d.rs", "#[ignore = \"slow\"]\nfn x() {}\n// #[ignore]\n"),
        ];
        on::files(check, &files, &["b.rs:2", "d.rs:1", "c.py:1"]);
    }
}
