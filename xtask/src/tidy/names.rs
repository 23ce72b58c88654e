//! Files are named after what they hold: names that fit anything are refused.

use crate::repo::Repo;

const BANNED: &[&str] = &["utils", "util", "common", "helpers", "helper", "base", "manager", "types"];

pub(super) fn check(repo: &Repo) -> Vec<String> {
    let extensions = ["rs", "ts", "tsx", "js", "mjs", "py", "sh", "css"];
    let mut findings = Vec::new();
    for (path, _) in repo.with_extension(&extensions) {
        let parts = path.split('/').map(|part| part.split('.').next().unwrap_or(part));
        for part in parts.filter(|part| BANNED.contains(part)) {
            findings.push(format!("{path}: `{part}` says nothing; name it after what it holds"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::on;

    #[test]
    fn this_repository_names_what_it_holds() {
        on::this_repository(check);
    }

    #[test]
    fn names_that_fit_anything_are_found_in_files_and_folders() {
        let files =
            [("src/utils.rs", ""), ("src/common/x.ts", ""), ("src/base64.rs", ""), ("docs/types.md", "")];
        on::files(check, &files, &["src/common/x.ts", "src/utils.rs"]);
    }
}
