//! Who may depend on whom: a crate only on lower ranks, `testkit` only in tests, and few crates on the outside.
//!
//! Reads `cargo metadata`. Dependencies of tests alone are free, so that a test may use the whole below it.

use serde_json::Value;

use crate::repo::Repo;

/// Ranks in the one order of the crates; the map is in `ARCHITECTURE.md`.
pub(super) const RANKS: &[(&str, u8)] = &[
    ("kernels", 0),
    ("artifacts", 0),
    ("tensor", 1),
    ("tokenizer", 1),
    ("model", 2),
    ("hub", 2),
    ("data", 3),
    ("engine", 3),
    ("train", 4),
    ("eval", 4),
    ("knowledge", 4),
    ("media", 4),
    ("agent", 5),
    ("serve", 6),
    ("cli", 7),
];

const TESTKIT: &str = "testkit";
const PREFIX: &str = "hearth-";

/// Async runtimes, HTTP servers, argument parsers and terminal output belong to the upper ranks.
const UPPER: &[&str] = &["tokio", "axum", "hyper", "clap", "indicatif"];
const UPPER_RANK: u8 = 5;

/// Libraries have errors of their own; these crates end in messages for people.
const MAY_USE_ANYHOW: &[&str] = &["hearth-cli", "xtask"];

pub(super) fn check(repo: &Repo) -> Vec<String> {
    let none = Vec::new();
    let packages = repo.metadata["packages"].as_array().unwrap_or(&none);
    if packages.is_empty() {
        return vec!["`cargo metadata` names no package".into()];
    }
    packages.iter().flat_map(package).collect()
}

fn rank(name: &str) -> Option<u8> {
    let name = name.strip_prefix(PREFIX)?;
    RANKS.iter().find(|row| row.0 == name).map(|row| row.1)
}

fn package(package: &Value) -> Vec<String> {
    let name = package["name"].as_str().unwrap_or_default();
    let short = name.strip_prefix(PREFIX).unwrap_or_default();
    let mut findings = Vec::new();
    if rank(name).is_none() && short != TESTKIT && name != "xtask" {
        findings.push(format!("`{name}` has no rank"));
    }
    let none = Vec::new();
    for dependency in package["dependencies"].as_array().unwrap_or(&none) {
        if dependency["kind"].as_str() == Some("dev") {
            continue;
        }
        let on = dependency["name"].as_str().unwrap_or_default();
        findings.extend(edge(name, on));
    }
    findings
}

/// What is wrong with `name` needing `on` outside of tests.
fn edge(name: &str, on: &str) -> Option<String> {
    if on == "anyhow" && !MAY_USE_ANYHOW.contains(&name) {
        return Some(format!("`{name}` is a library and uses `anyhow`"));
    }
    let own = rank(name);
    if UPPER.contains(&on) && own.is_some_and(|own| own < UPPER_RANK) {
        return Some(format!("`{name}` uses `{on}` below rank {UPPER_RANK}"));
    }
    if on == format!("{PREFIX}{TESTKIT}") {
        return Some(format!("`{name}` depends on `{on}` outside of tests"));
    }
    if !on.starts_with(PREFIX) {
        return None;
    }
    match (own, rank(on)) {
        (Some(own), Some(other)) if own > other => None,
        (Some(own), Some(other)) => Some(format!("`{name}` of rank {own} depends on `{on}` of rank {other}")),
        _ => Some(format!("`{name}` depends on `{on}`, one of them without a rank")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tidy::on;

    #[track_caller]
    fn one(name: &str, kind: Option<&str>, on: &str, expected: &str) {
        let mut repo = Repo::made_up(&[]);
        let dependencies = json!([{ "name": on, "kind": kind }]);
        repo.metadata = json!({ "packages": [{ "name": name, "dependencies": dependencies }] });
        assert_eq!(check(&repo).join("\n"), expected);
    }

    #[test]
    fn this_repository_keeps_its_ranks() {
        on::this_repository(check);
    }

    #[test]
    fn edges_go_down() {
        one("hearth-engine", None, "hearth-model", "");
        one("hearth-model", None, "hearth-hub", "`hearth-model` of rank 2 depends on `hearth-hub` of rank 2");
        one(
            "hearth-kernels",
            Some("build"),
            "hearth-cli",
            "`hearth-kernels` of rank 0 depends on `hearth-cli` of rank 7",
        );
        one("hearth-kernels", Some("dev"), "hearth-cli", "");
    }

    #[test]
    fn testkit_is_for_tests() {
        one("hearth-serve", Some("dev"), "hearth-testkit", "");
        one(
            "hearth-serve",
            None,
            "hearth-testkit",
            "`hearth-serve` depends on `hearth-testkit` outside of tests",
        );
    }

    #[test]
    fn some_crates_belong_above() {
        one("hearth-serve", None, "tokio", "");
        one("hearth-hub", None, "tokio", "`hearth-hub` uses `tokio` below rank 5");
        one("hearth-cli", None, "anyhow", "");
        one("hearth-serve", None, "anyhow", "`hearth-serve` is a library and uses `anyhow`");
    }

    #[test]
    fn a_new_crate_needs_a_rank() {
        one("hearth-else", None, "serde", "`hearth-else` has no rank");
        let nothing = Repo::made_up(&[]);
        assert_eq!(check(&nothing), ["`cargo metadata` names no package"]);
    }
}
