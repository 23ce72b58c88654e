//! What is on this machine: models that were pulled, and files and folders named by their paths.

use std::path::{Path, PathBuf};

use hearth_artifacts::progress::{Event, Progress};
use hearth_artifacts::{atomic, hash};
use serde::{Deserialize, Serialize};

use crate::card::{Card, Stamp};
use crate::fetch::STAGE;
use crate::pull::lock;
use crate::{Error, Hub, Local, Result, folder, table};

/// A name becomes a folder's name, so it must be one on every system.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(legal) {
        return Ok(());
    }
    Err(Error::BadName { name: name.into() })
}

impl Hub {
    /// The models that were pulled, by name. Folders without a card of this format are noted and left out.
    pub fn list(&self, progress: &dyn Progress) -> Result<Vec<Local>> {
        let models = self.home.models();
        if !models.is_dir() {
            return Ok(Vec::new());
        }
        let mut folders =
            fs_err::read_dir(&models)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        folders.sort();
        let mut found = Vec::new();
        for folder in folders.iter().filter(|folder| folder.is_dir()) {
            let card = Card::read(folder).filter(|card| folder.join(&card.file).exists());
            if let Some(card) = card {
                found.push(Local::of_card(folder, card));
                continue;
            }
            let text = format!("`{}` holds no finished pull", folder.display());
            progress.event(Event::Note { stage: STAGE, text: &text });
        }
        Ok(found)
    }

    /// Deletes a pulled model and what is left of broken-off pulls of it. True if there was something.
    pub fn remove(&self, name: &str, progress: &dyn Progress) -> Result<bool> {
        let name = table::find(name).map_or(name, |row| row.name);
        check_name(name)?;
        let _lock = lock(&self.home, name, progress)?;
        let folder = self.home.models().join(name);
        if !folder.exists() {
            return Ok(false);
        }
        fs_err::remove_dir_all(folder)?;
        Ok(true)
    }

    /// A file or folder named by its path: used where it lies.
    pub(crate) fn local_path(&self, path: &Path) -> Result<Local> {
        let path = fs_err::canonicalize(path)?;
        let is_folder = path.is_dir();
        if is_folder && !path.join("config.json").is_file() {
            return Err(Error::NotAModel { path });
        }
        let (bytes, sha256) = if is_folder { self.folder_hash(&path)? } else { self.file_hash(&path)? };
        let name = if is_folder { path.file_name() } else { path.file_stem() };
        Ok(Local {
            name: name.unwrap_or_default().to_string_lossy().into_owned(),
            source: format!("file:{}", path.display()),
            kind: None,
            licence: None,
            path,
            sha256,
            bytes,
        })
    }

    /// The hash of the names and hashes of the files in a folder.
    fn folder_hash(&self, folder: &Path) -> Result<(u64, String)> {
        let mut total = 0;
        let sha256 = folder::hash(folder, |file| {
            let (bytes, sha256) = self.file_hash(file)?;
            total += bytes;
            Ok(sha256)
        })?;
        Ok((total, sha256))
    }

    /// Hashes a file once; as long as size and time stay the same, the hash is remembered.
    fn file_hash(&self, path: &Path) -> Result<(u64, String)> {
        #[derive(Serialize, Deserialize)]
        struct Remembered {
            path: PathBuf,
            stamp: Stamp,
            sha256: String,
        }
        let key = hash::sha256(path.as_os_str().as_encoded_bytes());
        let memory = self.home.cache().join("hashes").join(format!("{key}.json"));
        let stamp = Stamp::of(path)?;
        if let Ok(known) = atomic::read_json::<Remembered>(&memory)
            && known.stamp == stamp
            && known.path == path
        {
            return Ok((stamp.bytes, known.sha256));
        }
        let sha256 = hash::sha256_file(path)?;
        let remembered = Remembered { path: path.into(), stamp, sha256: sha256.clone() };
        atomic::write_json(&memory, &remembered)?;
        Ok((stamp.bytes, sha256))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        for name in ["", ".", "..", "a/b", "a\\b", ".hidden", "-x", "中文", "a b"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        for name in ["a", "qwen2.5-coder_0.5b"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
    }
}
