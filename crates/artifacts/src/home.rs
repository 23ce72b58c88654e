//! The layout of `$HEARTH_HOME` (default `~/.hearth`) and the locks that keep two processes apart.
//!
//! models/ runs/ knowledge/ chats/ cache/ — each stage owns its own folder; the server's accounts are hearth.db.

use std::fs::TryLockError;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The home folder; made on first use.
#[derive(Debug, Clone)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// `$HEARTH_HOME`, or `.hearth` in the user's home folder.
    pub fn from_env() -> Result<Self> {
        if let Some(root) = std::env::var_os("HEARTH_HOME").filter(|value| !value.is_empty()) {
            return Ok(Self::at(root));
        }
        let user = std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE"));
        user.map(|user| Self::at(Path::new(&user).join(".hearth"))).ok_or(Error::NoHome)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    pub fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    pub fn knowledge(&self) -> PathBuf {
        self.root.join("knowledge")
    }

    pub fn chats(&self) -> PathBuf {
        self.root.join("chats")
    }

    /// The accounts of the server: a database file.
    pub fn accounts(&self) -> PathBuf {
        self.root.join("hearth.db")
    }

    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }
}

/// An exclusive lock on a file, held until dropped. The operating system releases it when the
/// process dies, so a kill leaves nothing to clean up.
#[derive(Debug)]
pub struct Lock {
    _file: std::fs::File,
}

impl Lock {
    /// Takes the lock or fails at once with [`Error::Locked`], naming the holder's process id.
    pub fn try_acquire(path: &Path) -> Result<Self> {
        let file = Self::open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: Self::sign(file)? }),
            Err(TryLockError::WouldBlock) => {
                let pid = fs_err::read_to_string(path).unwrap_or_default();
                Err(Error::Locked { path: path.into(), pid: pid.trim().into() })
            }
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// Waits until the lock is free.
    pub fn acquire(path: &Path) -> Result<Self> {
        let file = Self::open(path)?;
        file.lock()?;
        Ok(Self { _file: Self::sign(file)? })
    }

    fn open(path: &Path) -> Result<std::fs::File> {
        if let Some(parent) = path.parent() {
            fs_err::create_dir_all(parent)?;
        }
        let mut options = fs_err::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        Ok(options.open(path)?.into_parts().0)
    }

    fn sign(mut file: std::fs::File) -> Result<std::fs::File> {
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_dropped() {
        let path = std::env::temp_dir().join(format!("hearth-lock-{}", std::process::id()));
        let first = Lock::try_acquire(&path).unwrap();
        let error = Lock::try_acquire(&path).unwrap_err();
        assert!(matches!(&error, Error::Locked { pid, .. } if *pid == std::process::id().to_string()));
        drop(first);
        Lock::try_acquire(&path).unwrap();
        fs_err::remove_file(path).unwrap();
    }
}
