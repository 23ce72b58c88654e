//! Where a run keeps what is done: `$HEARTH_HOME/runs/up-NAME-FINGERPRINT/`, a file for each finished part.
//!
//! A run with the same documents, models and questions finds the folder again and goes on from there.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use hearth_artifacts::atomic;
use hearth_artifacts::home::{Home, Lock};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A folder that this process alone works in.
#[derive(Debug)]
pub(super) struct RunFolder {
    folder: PathBuf,
    _lock: Lock,
}

impl RunFolder {
    /// Makes or finds the folder; another process in it is an error that names it.
    pub(super) fn open(home: &Home, name: &str, fingerprint: &str) -> Result<Self> {
        let folder = home.runs().join(format!("up-{name}-{}", &fingerprint[..12]));
        fs_err::create_dir_all(&folder)?;
        let lock = Lock::try_acquire(&folder.join("lock")).context("this comparison is running already")?;
        Ok(Self { folder, _lock: lock })
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// The value an earlier sitting left in `file`, or the one made now.
    pub(super) fn once<T: Serialize + DeserializeOwned>(
        &self,
        file: &str,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let path = self.path(file);
        if path.is_file() {
            return Ok(atomic::read_json(&path)?);
        }
        let value = make()?;
        atomic::write_json(&path, &value)?;
        Ok(value)
    }

    /// The lines an earlier sitting left in a JSON Lines file. A last line cut by a kill is dropped.
    pub(super) fn lines<T: DeserializeOwned>(&self, file: &str) -> Result<Vec<T>> {
        let path = self.path(file);
        if !path.is_file() {
            return Ok(Vec::new());
        }
        let text = fs_err::read_to_string(&path)?;
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        if whole.len() < text.len() {
            atomic::write(&path, whole.as_bytes())?;
        }
        whole
            .lines()
            .map(|line| {
                serde_json::from_str(line)
                    .with_context(|| format!("`{}` is damaged; remove it to start over", path.display()))
            })
            .collect()
    }

    /// Appends lines and waits until they are on the disk.
    pub(super) fn append<T: Serialize>(&self, file: &str, values: &[T]) -> Result<()> {
        let mut lines = String::new();
        for value in values {
            lines.push_str(&serde_json::to_string(value)?);
            lines.push('\n');
        }
        append(&self.path(file), lines.as_bytes())
    }
}

fn append(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = || format!("can't write `{}`", path.display());
    let mut file = OpenOptions::new().create(true).append(true).open(path).with_context(failed)?;
    file.write_all(bytes).with_context(failed)?;
    file.sync_data().with_context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_and_a_cut_last_line_is_dropped() {
        let home = Home::at(std::env::temp_dir().join(format!("hearth-run-folder-{}", std::process::id())));
        let run = RunFolder::open(&home, "x", "0123456789abcdef").unwrap();
        run.append("a.jsonl", &[1, 2]).unwrap();
        append(&run.path("a.jsonl"), b"{\"half").unwrap();
        assert_eq!(run.lines::<i32>("a.jsonl").unwrap(), [1, 2]);
        run.append("a.jsonl", &[3]).unwrap();
        assert_eq!(run.lines::<i32>("a.jsonl").unwrap(), [1, 2, 3]);
        let error = RunFolder::open(&home, "x", "0123456789abcdef").unwrap_err();
        assert!(format!("{error:#}").contains("another hearth process"), "{error:#}");
        fs_err::remove_dir_all(home.root()).unwrap();
    }
}
