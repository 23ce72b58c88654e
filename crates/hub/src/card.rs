//! `hearth.json` in a model's folder: what the file beside it is, where it came from, and that it was verified.

use std::path::Path;
use std::time::UNIX_EPOCH;

use hearth_artifacts::atomic;
use serde::{Deserialize, Serialize};

use crate::{Failure, Kind, Result, folder};

pub(crate) const FILE_NAME: &str = "hearth.json";
pub(crate) const FORMAT_VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    pub format_version: u32,
    pub name: String,
    pub kind: Option<Kind>,
    /// Beside this card: a file, or the folder of a model that comes in several.
    pub file: String,
    pub bytes: u64,
    pub sha256: String,
    pub licence: Option<String>,
    pub source: String,
    /// Seconds since 1970-01-01, UTC.
    pub pulled_at: u64,
    /// Sources that were tried before `source` and didn't give the file.
    pub failures: Vec<Failure>,
    /// The file as it was when its hash was last computed.
    pub verified: Stamp,
}

/// What changes when a file's content does; cheap to read, unlike a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    pub bytes: u64,
    /// Nanoseconds since 1970-01-01, UTC.
    pub modified_ns: u64,
}

impl Stamp {
    /// Of a file; of a folder the sum of its files' bytes and the time of the youngest.
    pub fn of(path: &Path) -> Result<Self> {
        if path.is_dir() {
            let mut stamp = Self { bytes: 0, modified_ns: 0 };
            for file in folder::files(path)? {
                let of_file = Self::of(&file)?;
                stamp.bytes += of_file.bytes;
                stamp.modified_ns = stamp.modified_ns.max(of_file.modified_ns);
            }
            return Ok(stamp);
        }
        let metadata = fs_err::metadata(path)?;
        let modified = metadata.modified()?.duration_since(UNIX_EPOCH);
        Ok(Self { bytes: metadata.len(), modified_ns: modified.map_or(0, |since| since.as_nanos() as u64) })
    }
}

impl Card {
    /// The card in `folder`; `None` if there is none or it isn't one of this format.
    pub fn read(folder: &Path) -> Option<Self> {
        let card: Self = atomic::read_json(&folder.join(FILE_NAME)).ok()?;
        (card.format_version == FORMAT_VERSION).then_some(card)
    }

    pub fn write(&self, folder: &Path) -> Result<()> {
        Ok(atomic::write_json(&folder.join(FILE_NAME), self)?)
    }
}
