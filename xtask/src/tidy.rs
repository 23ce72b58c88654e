//! The rules of STYLE.md and ARCHITECTURE.md that a program can check.
//!
//! In the order in which `cargo xtask tidy` runs them:
//! * `ranks` — who may depend on whom
//! * `order` — one order of the crates
//! * `headers` — what each file says it is
//! * `lengths` — files and functions stay short, and what is long may only shrink
//! * `names` — files are named after what they hold
//! * `later` — nothing is put off without a condition
//! * `prose` — paths and tests that documents name exist
//! * `twins` — English and Chinese pages have one outline
//! * `places` — nothing of the machine it was written on
//! * `sizes` — no large file

mod ranks;

mod order;

mod headers;
mod lengths;
mod names;

mod later;

mod prose;
mod twins;

mod places;
mod sizes;

use crate::repo::Repo;

/// A rule; it gives a line for each place where it is broken.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Repo) -> Vec<String>,
}

/// All rules.
pub(crate) const CHECKS: &[Check] = &[
    Check { name: "ranks", run: ranks::check },
    Check { name: "order", run: order::check },
    Check { name: "headers", run: headers::check },
    Check { name: "lengths", run: lengths::check },
    Check { name: "names", run: names::check },
    Check { name: "later", run: later::check },
    Check { name: "prose", run: prose::check },
    Check { name: "twins", run: twins::check },
    Check { name: "places", run: places::check },
    Check { name: "sizes", run: sizes::check },
];

/// What the tests of the rules share.
#[cfg(test)]
mod on {
    use crate::repo::Repo;

    /// This repository obeys the rule.
    #[track_caller]
    pub(super) fn this_repository(check: fn(&Repo) -> Vec<String>) {
        let findings = check(&Repo::open().unwrap());
        assert!(findings.is_empty(), "\n{}", findings.join("\n"));
    }

    /// In a repository of these files the rule finds something in each of `expected`, and nothing else.
    #[track_caller]
    pub(super) fn files(check: fn(&Repo) -> Vec<String>, files: &[(&str, &str)], expected: &[&str]) {
        let findings = check(&Repo::made_up(files));
        assert_eq!(findings.len(), expected.len(), "{findings:#?}");
        for (finding, expected) in findings.iter().zip(expected) {
            assert!(finding.contains(expected), "`{finding}` has no `{expected}`");
        }
    }
}
