//! A folder of a test's own, removed when the test ends.

use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Derefs to its path.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes an empty folder; `name` only serves the reader who finds one left over.
    pub fn new(name: &str) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("hearth-{name}-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs_err::create_dir_all(&path)?;
        Ok(Self { path })
    }
}

impl Deref for Scratch {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A folder that can't be removed is the operating system's to clean up.
        let _ = fs_err::remove_dir_all(&self.path);
    }
}
