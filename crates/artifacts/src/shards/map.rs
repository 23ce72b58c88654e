//! Mapping a file into memory: the only place here that needs `unsafe`.

use std::path::Path;

use memmap2::Mmap;

use crate::Result;

/// Maps `path` read-only. Pages are read when touched and shared by all processes that map the file.
#[expect(unsafe_code, reason = "mapping a file is the point of this module")]
pub(super) fn map(path: &Path) -> Result<Mmap> {
    let file = fs_err::File::open(path)?;
    // SAFETY: the mapping is only read, and shards are never written again once their folder has its name. A user who
    // truncates one under a running process ends that process; no reader of mapped files can guard against that.
    let map = unsafe { Mmap::map(file.file()) };
    map.map_err(|error| {
        let message = format!("can't map `{}` into memory: {error}", path.display());
        std::io::Error::new(error.kind(), message).into()
    })
}
