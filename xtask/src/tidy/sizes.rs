//! No file over 5 MB: weights and data sets are pulled, not kept here.

use crate::repo::Repo;

const MAX_BYTES: u64 = 5_000_000;

pub(super) fn check(repo: &Repo) -> Vec<String> {
    let large = repo.files.iter().filter(|file| file.bytes > MAX_BYTES);
    let finding = |path: &str, bytes| format!("{path} has {bytes} bytes, at most {MAX_BYTES}");
    large.map(|file| finding(&file.path, file.bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::on;

    #[test]
    fn this_repository_has_no_large_file() {
        on::this_repository(check);
    }

    #[test]
    fn a_large_file_is_found() {
        let mut repo = Repo::made_up(&[("a.bin", ""), ("b.bin", "")]);
        repo.files[1].bytes = MAX_BYTES + 1;
        assert_eq!(check(&repo), ["b.bin has 5000001 bytes, at most 5000000"]);
    }
}
