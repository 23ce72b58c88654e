//! Whole files or none: bytes go to a temporary file beside the target, are synced, then renamed.
//!
//! A process that is killed leaves the old file or the new one, never half of either.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// The name under which a file is written before it is renamed to `path`.
pub fn partial_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.partial", std::process::id()));
    path.with_file_name(name)
}

/// Writes `bytes` to `path` so that a reader sees the old content or all of the new.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = PartialFile::create(path)?;
    file.write_all(bytes)?;
    file.commit()
}

/// A file that is written piece by piece and appears under its name only when it is whole.
#[derive(Debug)]
pub struct PartialFile {
    path: PathBuf,
    /// `None` once it is committed.
    file: Option<std::io::BufWriter<fs_err::File>>,
}

impl PartialFile {
    /// Begins the file that [`Self::commit`] renames to `path`; dropping it before leaves nothing behind.
    pub fn create(path: &Path) -> Result<Self> {
        if let Some(parent) = path.parent() {
            fs_err::create_dir_all(parent)?;
        }
        let file = fs_err::File::create(partial_path(path))?;
        // The buffer saves a system call for each small piece; large ones go straight through.
        let file = Some(std::io::BufWriter::with_capacity(1 << 16, file));
        Ok(Self { path: path.into(), file })
    }

    /// Syncs the file and gives it its name.
    pub fn commit(mut self) -> Result<()> {
        let partial = partial_path(&self.path);
        let file = self.open();
        file.flush()?;
        file.get_ref().sync_all()?;
        fs_err::rename(partial, &self.path)?;
        self.file = None;
        Ok(())
    }

    fn open(&mut self) -> &mut std::io::BufWriter<fs_err::File> {
        self.file.as_mut().expect("a committed file can't be reached")
    }
}

impl Write for PartialFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.open().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.open().flush()
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            // The reason for the failure matters more than a left-over that cannot be removed.
            let _ = fs_err::remove_file(partial_path(&self.path));
        }
    }
}

/// A folder that is filled beside its place and appears there only when it is whole.
#[derive(Debug)]
pub struct PartialFolder {
    path: PathBuf,
    committed: bool,
}

impl PartialFolder {
    /// Begins a folder; files go into [`Self::inside`].
    pub fn create(path: &Path) -> Result<Self> {
        fs_err::create_dir_all(partial_path(path))?;
        Ok(Self { path: path.into(), committed: false })
    }

    /// Where to write until it is whole.
    pub fn inside(&self) -> PathBuf {
        partial_path(&self.path)
    }

    /// Gives the folder its name; an empty folder that has it gives way.
    pub fn commit(mut self) -> Result<()> {
        fs_err::rename(self.inside(), &self.path)?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for PartialFolder {
    fn drop(&mut self) {
        if !self.committed {
            // As for a file.
            let _ = fs_err::remove_dir_all(self.inside());
        }
    }
}

/// Writes `value` as indented JSON with a final newline.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::Json { path: path.into(), reason: error.to_string() })?;
    bytes.push(b'\n');
    write(path, &bytes)
}

/// Reads a JSON file, floating-point numbers to the bit; the error names the file and where in it the text is wrong.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = fs_err::read(path)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::Json { path: path.into(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_json_reads_back_and_leaves_no_partial_file() {
        let folder = std::env::temp_dir().join(format!("hearth-atomic-{}", std::process::id()));
        let path = folder.join("deep/value.json");
        write_json(&path, &vec![1, 2, 3]).unwrap();
        assert_eq!(read_json::<Vec<i32>>(&path).unwrap(), [1, 2, 3]);
        let names: Vec<_> = fs_err::read_dir(folder.join("deep")).unwrap().collect();
        assert_eq!(names.len(), 1);
        fs_err::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_given_up_leaves_nothing_and_what_is_whole_replaces() {
        let root = std::env::temp_dir().join(format!("hearth-partial-{}", std::process::id()));
        let path = root.join("weights.bin");
        write(&path, b"old").unwrap();
        let mut given_up = PartialFile::create(&path).unwrap();
        given_up.write_all(&vec![1; 100_000]).unwrap();
        drop(given_up);
        let folder = PartialFolder::create(&root.join("model")).unwrap();
        fs_err::write(folder.inside().join("a"), b"a").unwrap();
        drop(folder);
        let names = |folder: &Path| fs_err::read_dir(folder).unwrap().count();
        assert_eq!((names(&root), fs_err::read(&path).unwrap()), (1, b"old".to_vec()));
        let mut whole = PartialFile::create(&path).unwrap();
        whole.write_all(&vec![1; 100_000]).unwrap();
        whole.commit().unwrap();
        fs_err::create_dir(root.join("model")).unwrap();
        let folder = PartialFolder::create(&root.join("model")).unwrap();
        fs_err::write(folder.inside().join("a"), b"a").unwrap();
        folder.commit().unwrap();
        assert_eq!((names(&root), names(&root.join("model"))), (2, 1));
        assert_eq!(fs_err::read(&path).unwrap().len(), 100_000);
        fs_err::remove_dir_all(root).unwrap();
    }

    #[test]
    fn numbers_read_back_to_the_bit() {
        let path = std::env::temp_dir().join(format!("hearth-numbers-{}.json", std::process::id()));
        // The first is one that a fast reader of decimals gets wrong in its last bit.
        let numbers = [11.718_702_771_470_925, 0.1, f64::MIN_POSITIVE, -1.0 / 3.0];
        write_json(&path, &numbers).unwrap();
        let back: [f64; 4] = read_json(&path).unwrap();
        assert_eq!(back.map(f64::to_bits), numbers.map(f64::to_bits));
        fs_err::remove_file(path).unwrap();
    }

    #[test]
    fn broken_json_names_the_file() {
        let path = std::env::temp_dir().join(format!("hearth-broken-{}.json", std::process::id()));
        write(&path, b"{\"a\":").unwrap();
        let message = read_json::<serde_json::Value>(&path).unwrap_err().to_string();
        assert!(message.contains("hearth-broken"), "{message}");
        fs_err::remove_file(path).unwrap();
    }
}
