//! A file that is being put together: appended to, hashed on the way, taken up again after a kill.

use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use hearth_artifacts::hash::Hasher;

use crate::{Error, Result};

#[derive(Debug)]
pub(crate) struct Partial {
    path: PathBuf,
    file: fs_err::File,
    hasher: Hasher,
    bytes: u64,
    /// Bytes found on disk when it was opened.
    resumed: u64,
    /// What the whole will take, if known: for the message when the disk is full.
    total: Option<u64>,
}

impl Partial {
    /// Opens or makes `path` and takes up at most `keep` of the bytes that are there.
    pub(crate) fn open(path: &Path, keep: u64, total: Option<u64>) -> Result<Self> {
        if let Some(parent) = path.parent() {
            fs_err::create_dir_all(parent)?;
        }
        let mut options = fs_err::OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).open(path)?;
        if file.metadata()?.len() > keep {
            file.set_len(keep)?;
        }
        let (mut hasher, mut bytes) = (Hasher::default(), 0);
        let mut chunk = vec![0; 1 << 20];
        loop {
            match file.read(&mut chunk)? {
                0 => break,
                n => {
                    hasher.update(&chunk[..n]);
                    bytes += n as u64;
                }
            }
        }
        Ok(Self { path: path.into(), file, hasher, bytes, resumed: bytes, total })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn was_resumed(&self) -> bool {
        self.resumed > 0
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all(bytes);
        if let Err(error) = written {
            return Err(self.write_error(error));
        }
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn write_error(&self, error: std::io::Error) -> Error {
        let full = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded];
        if !full.contains(&error.kind()) {
            return error.into();
        }
        Error::DiskFull {
            path: self.path.clone(),
            needed: self.total.unwrap_or(0).saturating_sub(self.bytes),
        }
    }

    /// Throws away what is there.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.file.set_len(0)?;
        self.hasher = Hasher::default();
        self.bytes = 0;
        self.resumed = 0;
        Ok(())
    }

    /// Makes sure that what was written survives a power cut.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|error| self.write_error(error))
    }

    /// Syncs and returns the sha256 of the whole.
    pub(crate) fn finish(self) -> Result<String> {
        self.sync()?;
        Ok(self.hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_up_again_the_hash_is_that_of_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/file.partial");
        let mut first = Partial::open(&path, u64::MAX, None).unwrap();
        first.write(b"abXXX").unwrap();
        drop(first);
        let mut second = Partial::open(&path, 2, None).unwrap();
        assert!(second.was_resumed() && second.bytes() == 2);
        second.write(b"c").unwrap();
        assert_eq!(second.finish().unwrap(), hearth_artifacts::hash::sha256(b"abc"));
        assert_eq!(fs_err::read(&path).unwrap(), b"abc");
    }

    #[test]
    fn a_full_disk_says_what_is_missing_and_keeps_the_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.partial");
        let mut partial = Partial::open(&path, 0, Some(100)).unwrap();
        partial.write(&[0; 40]).unwrap();
        let error = partial.write_error(ErrorKind::StorageFull.into());
        assert!(error.to_string().contains("60 bytes more are needed"), "{error}");
        assert!(!error.is_of_the_source());
        assert_eq!(fs_err::metadata(&path).unwrap().len(), 40);
    }
}
