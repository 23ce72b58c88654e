//! One order of the crates everywhere: the order in which data flows, as `ranks` lists it.
//!
//! Checked in the workspace's members, in its dependencies, and in the map of `ARCHITECTURE.md`.

use super::ranks::RANKS;
use crate::repo::Repo;

pub(super) fn check(repo: &Repo) -> Vec<String> {
    let Some(manifest) = repo.text("Cargo.toml") else {
        return vec!["there is no `Cargo.toml`".into()];
    };
    let members = between(manifest, "members = [", "]")
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix("\","));
    let members: Vec<&str> = members.map(|member| member.strip_prefix("crates/").unwrap_or(member)).collect();
    let dependencies = between(manifest, "[workspace.dependencies]", "\n[")
        .lines()
        .filter_map(|line| line.strip_prefix("hearth-")?.split_once(" = "));
    let dependencies = dependencies.map(|(name, _)| name).collect();
    let mut findings = out_of_order("members of `Cargo.toml`", &members);
    findings.extend(out_of_order("dependencies of `Cargo.toml`", &dependencies));
    if let Some(text) = repo.text("ARCHITECTURE.md") {
        // A row of the map begins with the crate's folder.
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `crates/"));
        let rows: Vec<&str> = rows.filter_map(|row| Some(row.split_once('`')?.0)).collect();
        findings.extend(out_of_order("rows of `ARCHITECTURE.md`", &rows));
        let missing = members.iter().filter(|&&name| name != "xtask" && !rows.contains(&name));
        findings.extend(missing.map(|name| format!("`crates/{name}` has no row in `ARCHITECTURE.md`")));
    }
    findings
}

/// The text after `start` up to `end`.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let Some((_, rest)) = text.split_once(start) else {
        return "";
    };
    rest.split_once(end).map_or(rest, |(inside, _)| inside)
}

fn out_of_order(what: &str, names: &Vec<&str>) -> Vec<String> {
    let place = |name: &str| {
        let others = ["testkit", "xtask"].iter();
        let mut all = RANKS.iter().map(|row| row.0).chain(others.copied());
        all.position(|known| known == name)
    };
    let mut findings = Vec::new();
    if names.is_empty() {
        findings.push(format!("no {what} can be read"));
    }
    for name in names {
        if place(name).is_none() {
            findings.push(format!("{what}: `{name}` has no place in the order of the crates"));
        }
    }
    for pair in names.windows(2) {
        if let (Some(first), Some(second)) = (place(pair[0]), place(pair[1])) {
            if first >= second {
                findings.push(format!("{what}: `{}` stands before `{}`", pair[0], pair[1]));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::on;

    fn manifest(members: &[&str]) -> String {
        let rows: Vec<String> = members.iter().map(|name| format!("    \"{name}\",\n")).collect();
        let rows = rows.concat();
        format!(
            "members = [\n{rows}]\n[workspace.dependencies]\nhearth-model = {{}}\nhearth-cli = {{}}\n[x]\n"
        )
    }

    #[test]
    fn this_repository_has_one_order() {
        on::this_repository(check);
    }

    #[test]
    fn swapped_and_unknown_members_are_found() {
        let right = manifest(&["crates/kernels", "crates/model", "xtask"]);
        on::files(check, &[("Cargo.toml", &right)], &[]);
        let swapped = manifest(&["crates/model", "crates/kernels", "crates/else"]);
        on::files(
            check,
            &[("Cargo.toml", &swapped)],
            &["`else` has no place", "`model` stands before `kernels`"],
        );
        let none = ["no members", "no dependencies"];
        on::files(check, &[("Cargo.toml", "")], &none);
    }

    #[test]
    fn the_map_has_every_member() {
        let files = [
            ("Cargo.toml", &*manifest(&["crates/kernels", "crates/model"])),
            ("ARCHITECTURE.md", "| `crates/model` | x |\n"),
        ];
        on::files(check, &files, &["`crates/kernels` has no row"]);
    }
}
