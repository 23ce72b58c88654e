//! Files between the stages: what one stage writes and the next one reads.
//!
//! * [`progress`] — events a stage sends while it works
//! * [`atomic`] — whole files or none: write beside, sync, rename
//! * [`hash`] — sha256 of bytes, files and folders
//! * [`home`] — the layout of `$HEARTH_HOME` and its locks
//! * [`mod@map`] — a file as memory
//! * [`shards`] — token shards, mapped into memory, and their packing into rows

pub mod atomic;
pub mod hash;
pub mod home;
pub mod map;
pub mod progress;
pub mod shards;

mod error;

pub use error::{Error, Result};
