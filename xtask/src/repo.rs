//! What tidy looks at: the repository's files and what cargo says about its crates.
//!
//! Files are those git tracks or would track, so that a new file is checked before it is committed. Without a
//! `.git` folder (an unpacked archive) all files count, except those of folders that git ignores here.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Folders that are made by tools, for when git can't tell.
const MADE_BY_TOOLS: [&str; 4] = ["target", "node_modules", "__pycache__", ".venv"];

#[derive(Debug)]
pub(crate) struct Repo {
    /// In the order of their paths.
    pub(crate) files: Vec<File>,
    /// Of `cargo metadata --no-deps`.
    pub(crate) metadata: Value,
}

#[derive(Debug)]
pub(crate) struct File {
    /// From the root, with `/`.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    /// `None` if it isn't UTF-8.
    pub(crate) text: Option<String>,
}

impl Repo {
    /// The repository this program was built in.
    pub(crate) fn open() -> Result<Self> {
        let root = root();
        let mut paths = if root.join(".git").exists() { tracked(root)? } else { walked(root)? };
        paths.sort_unstable();
        paths.dedup();
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let place = root.join(&path);
            // Removed, but not committed yet.
            if !place.is_file() {
                continue;
            }
            let content = std::fs::read(&place).with_context(|| format!("can't read `{path}`"))?;
            let bytes = content.len() as u64;
            let text = String::from_utf8(content).ok();
            files.push(File { path, bytes, text });
        }
        let metadata = metadata(root)?;
        Ok(Self { files, metadata })
    }

    /// Text files with their paths.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|file| Some((file.path.as_str(), file.text.as_deref()?)))
    }

    /// Text files whose names end in one of `extensions`.
    pub(crate) fn with_extension<'a>(
        &'a self,
        extensions: &'a [&str],
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.texts().filter(|(path, _)| extension(path).is_some_and(|own| extensions.contains(&own)))
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        let file = self.files.iter().find(|file| file.path == path)?;
        file.text.as_deref()
    }

    /// Whether `path` is a file or a folder with files in it.
    pub(crate) fn holds(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let below = format!("{path}/");
        self.files.iter().any(|file| file.path == path || file.path.starts_with(&below))
    }
}

pub(crate) fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

pub(crate) fn extension(path: &str) -> Option<&str> {
    Some(file_name(path).rsplit_once('.')?.1)
}

pub(crate) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn tracked(root: &Path) -> Result<Vec<String>> {
    // A clone that another user made is safe to list: nothing of it is run by git.
    let arguments =
        ["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output =
        Command::new("git").args(arguments).current_dir(root).output().context("can't start `git`")?;
    if !output.status.success() {
        bail!("`git ls-files` failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let names = String::from_utf8(output.stdout).context("a file's name isn't UTF-8")?;
    Ok(names.split_terminator('\0').map(str::to_owned).collect())
}

fn walked(root: &Path) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root.into()];
    while let Some(folder) = folders.pop() {
        let failed = || format!("can't list `{}`", folder.display());
        for entry in std::fs::read_dir(&folder).with_context(failed)? {
            let entry = entry.with_context(failed)?;
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() {
                if !MADE_BY_TOOLS.iter().any(|made| name == *made) {
                    folders.push(path);
                }
            } else if let Some(path) = path.strip_prefix(root)?.to_str() {
                paths.push(path.replace('\\', "/"));
            }
        }
    }
    Ok(paths)
}

fn metadata(root: &Path) -> Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root)
        .output()
        .context("can't start `cargo`")?;
    if !output.status.success() {
        bail!("`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("`cargo metadata` printed no JSON")
}

#[cfg(test)]
impl Repo {
    /// A repository of these files and no crates.
    pub(crate) fn made_up(files: &[(&str, &str)]) -> Self {
        let mut files: Vec<File> = files
            .iter()
            .map(|(path, text)| File {
                path: (*path).into(),
                bytes: text.len() as u64,
                text: Some((*text).into()),
            })
            .collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Self { files, metadata: Value::Null }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walking_finds_what_git_tracks() {
        let walked = walked(root()).unwrap();
        let repo = Repo::open().unwrap();
        assert!(repo.files.len() > 100, "{}", repo.files.len());
        for file in &repo.files {
            assert!(walked.contains(&file.path), "{}", file.path);
        }
    }

    #[test]
    fn folders_are_held_by_the_files_in_them() {
        let repo = Repo::made_up(&[("a/b/c.rs", "")]);
        assert!(repo.holds("a") && repo.holds("a/b/") && repo.holds("a/b/c.rs"));
        assert!(!repo.holds("a/b/c") && !repo.holds("b"));
    }
}
