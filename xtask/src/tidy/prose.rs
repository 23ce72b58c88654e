//! Documents name only what exists: paths, lines of files, tests, and the targets of links.
//!
//! In Markdown, a span in backticks that begins with a folder of the repository, or that is the name of a
//! Markdown file, must exist; `path:12` must have that line, `path::name` must hold a function or type of that name.
//! Spans with spaces, placeholders or patterns are left alone, and so are documents that are examples of
//! somebody's documents (`EXAMPLES`).

use crate::repo::{Repo, extension};

const EXAMPLES: &[&str] = &["examples/handbook/", "examples/make_handbook/sources/"];

pub(super) fn check(repo: &Repo) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in repo.with_extension(&["md"]) {
        if EXAMPLES.iter().any(|folder| path.starts_with(folder)) {
            continue;
        }
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut in_block = false;
        for (index, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                in_block = !in_block;
            }
            if in_block {
                continue;
            }
            let wrong = spans(line).filter_map(|span| wrong_span(repo, folder, span));
            let links = links(line).filter_map(|link| wrong_link(repo, folder, link));
            let place = format!("{path}:{}", index + 1);
            findings.extend(wrong.chain(links).map(|what| format!("{place}: {what}")));
        }
    }
    findings
}

/// What stands between single backticks.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Targets of `[text](target)`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0))
}

fn wrong_span(repo: &Repo, folder: &str, span: &str) -> Option<String> {
    if span.is_empty() || span.contains([' ', '*', '<', '{', '$', '…']) {
        return None;
    }
    let (path, name) = match span.split_once("::") {
        Some((path, name)) => (path, Some(name)),
        None => (span, None),
    };
    let (path, line) = match path.rsplit_once(':') {
        Some((before, line)) => match line.parse::<usize>() {
            Ok(line) => (before, Some(line)),
            Err(_) => (path, None),
        },
        None => (path, None),
    };
    if !looks_like_a_path(repo, path) {
        return None;
    }
    let Some(path) = resolve(repo, folder, path) else {
        return Some(format!("`{path}` doesn't exist"));
    };
    let text = repo.text(&path).unwrap_or_default();
    if let Some(line) = line.filter(|&line| line > text.lines().count()) {
        return Some(format!("`{path}` has no line {line}"));
    }
    let name = name?;
    let defined = ["fn", "struct", "enum", "trait", "const", "mod"];
    let found = defined.iter().any(|kind| {
        let definition = format!("{kind} {name}");
        text.match_indices(&definition).any(|(at, _)| {
            let next = text[at + definition.len()..].chars().next();
            next.is_none_or(|c| !c.is_alphanumeric() && c != '_')
        })
    });
    // Tests of the console are named by a sentence.
    let named = text.contains(&format!("\"{name}\""));
    (!found && !named).then(|| format!("`{path}` holds no `{name}`"))
}

/// A path below a folder of the repository's root, or a Markdown file's name.
fn looks_like_a_path(repo: &Repo, span: &str) -> bool {
    match span.split_once('/') {
        Some((first, rest)) => {
            let known = ["crates", "xtask", "scripts", "console", "examples", "golden"];
            let rest_is_a_name = !rest.starts_with(['/', '.']);
            rest_is_a_name && (known.contains(&first) || (!first.is_empty() && repo.holds(first)))
        }
        None => extension(span) == Some("md"),
    }
}

fn wrong_link(repo: &Repo, folder: &str, link: &str) -> Option<String> {
    let target = link.split('#').next().unwrap_or(link);
    if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let missing = resolve(repo, folder, target).is_none();
    missing.then(|| format!("the link to `{target}` leads nowhere"))
}

/// The path from the root of what is written from the root, from the document's own folder, or as `..`.
fn resolve(repo: &Repo, folder: &str, path: &str) -> Option<String> {
    let from_folder = format!("{folder}/{path}");
    [path, from_folder.trim_start_matches('/')]
        .into_iter()
        .map(normal)
        .find(|candidate| repo.holds(candidate))
}

fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.trim_end_matches('/').split('/') {
        match part {
            "." | "" => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::on;

    #[test]
    fn documents_of_this_repository_name_what_exists() {
        on::this_repository(check);
    }

    #[test]
    fn wrong_paths_lines_names_and_links_are_found() {
        let document = "\
`crates/a/src/lib.rs` `crates/a/` `crates/b/src/lib.rs`
`crates/a/src/lib.rs:2` `crates/a/src/lib.rs:9`
`crates/a/src/lib.rs::x` `crates/a/src/lib.rs::xy` `crates/a/src/lib.rs::y`
[a](crates/a) [b](crates/b) [c](https://example.com/x) [d](#below)
`application/json` `--flag` `crates/*/x` `a b/c` `OTHER.md`
```
`crates/none`
```
";
        let files = [
            ("README.md", document),
            ("crates/a/src/lib.rs", "fn x() {}\nfn y_z() {}\n"),
            ("examples/handbook/x.md", "`crates/none`"),
        ];
        let expected = [
            "README.md:1: `crates/b/src/lib.rs` doesn't exist",
            "README.md:2: `crates/a/src/lib.rs` has no line 9",
            "README.md:3: `crates/a/src/lib.rs` holds no `xy`",
            "README.md:3: `crates/a/src/lib.rs` holds no `y`",
            "README.md:4: the link to `crates/b`",
            "README.md:5: `OTHER.md` doesn't exist",
        ];
        on::files(check, &files, &expected);
    }

    #[test]
    fn paths_may_start_at_the_documents_folder() {
        let files = [
            ("console/README.md", "`src/x.ts` [up](../LOG.md) `x/y`"),
            ("console/src/x.ts", ""),
            ("LOG.md", ""),
        ];
        on::files(check, &files, &[]);
    }
}
