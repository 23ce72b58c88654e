//! Mapping a file into memory: the one place that does.

use std::io;
use std::path::Path;

pub use memmap2::Mmap;

/// Maps `path` read-only. Pages are read when touched and shared by all processes that map the file.
#[expect(unsafe_code, reason = "mapping a file is the point of this module")]
pub fn map(path: &Path) -> io::Result<Mmap> {
    let file = fs_err::File::open(path)?;
    // SAFETY: the mapping is private to reading and the file is only ever replaced by renaming another one
    // over it ([`crate::atomic`]), which leaves the mapped one as it is. A user who truncates the
    // file under a running process ends that process; no reader of mapped files can guard against that.
    let map = unsafe { Mmap::map(file.file()) };
    map.map_err(|error| {
        let message = format!("can't map `{}` into memory: {error}", path.display());
        io::Error::new(error.kind(), message)
    })
}
