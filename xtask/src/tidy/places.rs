//! Nothing of the machine it was written on: no paths of it, no addresses of its network, no other registries.
//!
//! Lock files name the public registries only, so that a clone builds anywhere; mirrors are the user's settings.

use crate::repo::Repo;

/// Folders that exist on some machines only. In pieces, so that this file has none of them.
const PATHS: &[&str] =
    &[concat!("/", "work/"), concat!("/", "root/"), concat!("/", "Users/"), concat!("/tmp/", "peer")];

/// What the file's sources must begin with: `(lock file, key, public registry)`.
const LOCKS: &[(&str, &str, &str)] = &[
    ("Cargo.lock", "source = \"", "registry+https://github.com/rust-lang/crates.io-index"),
    ("package-lock.json", "\"resolved\": \"", "https://registry.npmjs.org/"),
];

pub(super) fn check(repo: &Repo) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in repo.texts() {
        for (index, line) in text.lines().enumerate() {
            let place = format!("{path}:{}", index + 1);
            let machine = PATHS.iter().filter(|machine| names_path(line, machine));
            findings.extend(machine.map(|machine| format!("{place}: `{machine}` is a path of one machine")));
            findings
                .extend(private_host(line).map(|host| format!("{place}: `{host}` is a host of one network")));
            findings.extend(
                other_registry(path, line)
                    .map(|source| format!("{place}: `{source}` isn't a public registry")),
            );
        }
    }
    findings
}

/// Whether the path begins with this folder, rather than having it further down.
fn names_path(line: &str, machine: &str) -> bool {
    line.match_indices(machine).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && !"._-}/".contains(c))
    })
}

/// A host that is an address (loopback aside) or has a name that only a private network knows.
fn private_host(line: &str) -> Option<&str> {
    line.match_indices("://").find_map(|(at, _)| {
        let rest = &line[at + 3..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !".-".contains(c));
        let host = &rest[..end.unwrap_or(rest.len())];
        let is_address = host.split('.').count() == 4
            && host.split('.').all(|part| part.parse::<u8>().is_ok())
            && !host.starts_with("127.")
            && host != "0.0.0.0";
        let endings = [".internal", ".local", ".corp", ".intranet"];
        (is_address || endings.iter().any(|ending| host.ends_with(ending))).then_some(host)
    })
}

fn other_registry<'a>(path: &str, line: &'a str) -> Option<&'a str> {
    let &(_, key, registry) = LOCKS.iter().find(|(file, ..)| path.ends_with(file))?;
    let source = line.trim_start().strip_prefix(key)?.split('"').next()?;
    (!source.starts_with(registry)).then_some(source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::on;

    #[test]
    fn this_repository_belongs_to_no_machine() {
        on::this_repository(check);
    }

    #[test]
    fn paths_of_a_machine_are_found() {
        let bad = format!("see {}x\n", PATHS[0]);
        let good = format!("https://host{}x and {{home}}{}x", PATHS[1], PATHS[0]);
        let files = [("a.md", &*bad), ("b.md", &good)];
        on::files(check, &files, &["a.md:1"]);
    }

    #[test]
    fn hosts_of_a_network_are_found() {
        let address = ["10", "1", "2", "3"].join(".");
        let bad = format!("http://{address}:80/simple\nhttps://pypi.{}/", "internal");
        let good = "http://127.0.0.1:80 https://pypi.org http://0.0.0.0:1 https://1.2.3";
        let files = [("a.toml", &*bad), ("b.toml", good)];
        on::files(check, &files, &["a.toml:1", "a.toml:2"]);
    }

    #[test]
    fn lock_files_name_public_registries() {
        let cargo = "source = \"registry+https://github.com/rust-lang/crates.io-index\"\nsource = \"registry+https://mirror/index\"\n";
        let npm =
            "  \"resolved\": \"https://registry.npmjs.org/a\",\n  \"resolved\": \"https://mirror/a\",\n";
        let files = [("Cargo.lock", cargo), ("console/package-lock.json", npm)];
        on::files(check, &files, &["Cargo.lock:2", "package-lock.json:2"]);
    }
}
