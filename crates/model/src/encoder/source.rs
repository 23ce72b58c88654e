//! A file read field by field: every read says what it reads, and nothing is allocated that the file doesn't back.

use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::files::{Error, Result};

#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    file: BufReader<fs_err::File>,
    len: u64,
    position: u64,
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = fs_err::File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Self { path: path.into(), file: BufReader::new(file), len, position: 0 })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn seek(&mut self, position: u64) -> Result<()> {
        self.file.seek(SeekFrom::Start(position))?;
        self.position = position;
        Ok(())
    }

    pub(super) fn bytes(&mut self, len: u64, what: &str) -> Result<Vec<u8>> {
        let end = self.position.saturating_add(len);
        if end > self.len {
            return Err(self.truncated(what, end));
        }
        let mut bytes = vec![0; len as usize];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let end = self.position.saturating_add(N as u64);
        if end > self.len {
            return Err(self.truncated(what, end));
        }
        let mut array = [0; N];
        self.fill(&mut array)?;
        Ok(array)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.file.read_exact(bytes)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn u8(&mut self, what: &str) -> Result<u8> {
        self.array(what).map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self, what: &str) -> Result<u16> {
        self.array(what).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub(super) fn f32(&mut self, what: &str) -> Result<f32> {
        self.array(what).map(f32::from_le_bytes)
    }

    /// A signed field that counts something: at least `min`.
    pub(super) fn count(&mut self, min: usize, what: &str) -> Result<usize> {
        let found = self.array(what).map(i32::from_le_bytes)?;
        match usize::try_from(found) {
            Ok(count) if count >= min => Ok(count),
            _ => Err(self.malformed(what, format!("is `{found}`, expected at least {min}"))),
        }
    }

    fn truncated(&self, what: &str, expected: u64) -> Error {
        Error::Truncated { path: self.path.clone(), what: what.into(), expected, actual: self.len }
    }

    pub(super) fn malformed(&self, what: &str, problem: impl Into<String>) -> Error {
        Error::Malformed { path: self.path.clone(), what: what.into(), problem: problem.into() }
    }
}
