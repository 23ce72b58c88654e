//! A cursor over the file's bytes: every read says what it reads, and fails with that when the file ends.

use std::path::Path;

use crate::files::{Error, Result};

#[derive(Debug)]
pub(super) struct Reader<'a> {
    path: &'a Path,
    file: &'a [u8],
    /// Never beyond `file.len()`.
    position: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(path: &'a Path, file: &'a [u8]) -> Self {
        Self { path, file, position: 0 }
    }

    pub(super) fn path(&self) -> &'a Path {
        self.path
    }

    pub(super) fn file(&self) -> &'a [u8] {
        self.file
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn bytes(&mut self, len: u64, what: &str) -> Result<&'a [u8]> {
        let end = (self.position as u64).saturating_add(len);
        let bytes = usize::try_from(end)
            .ok()
            .and_then(|end| self.file.get(self.position..end))
            .ok_or_else(|| self.truncated(what, end))?;
        self.position += bytes.len();
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N as u64, what)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A length in 8 bytes, then UTF-8.
    pub(super) fn string(&mut self, what: &str) -> Result<&'a str> {
        let len = self.u64(what)?;
        let bytes = self.bytes(len, what)?;
        std::str::from_utf8(bytes).map_err(|error| {
            let problem = format!("isn't UTF-8 after byte {}", error.valid_up_to());
            self.malformed(what.into(), problem)
        })
    }

    /// Fails if `count` things of at least `min_bytes` each can't stand in what is left of the file.
    pub(super) fn check_count(&self, count: u64, min_bytes: u64, what: &str) -> Result<()> {
        let needed = count.saturating_mul(min_bytes).saturating_add(self.position as u64);
        if needed > self.file.len() as u64 {
            return Err(self.truncated(&format!("{what} ({count} entries)"), needed));
        }
        Ok(())
    }

    pub(super) fn truncated(&self, what: &str, expected: u64) -> Error {
        Error::Truncated {
            path: self.path.into(),
            what: what.into(),
            expected,
            actual: self.file.len() as u64,
        }
    }

    pub(super) fn malformed(&self, what: String, problem: impl Into<String>) -> Error {
        Error::Malformed { path: self.path.into(), what, problem: problem.into() }
    }
}
