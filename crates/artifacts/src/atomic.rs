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
    if let Some(parent) = path.parent() {
        fs_err::create_dir_all(parent)?;
    }
    let partial = partial_path(path);
    let written = (|| {
        let mut file = fs_err::File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs_err::rename(&partial, path)
    })();
    if written.is_err() {
        // The reason for the failure matters more than a left-over that cannot be removed.
        let _ = fs_err::remove_file(&partial);
    }
    Ok(written?)
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
