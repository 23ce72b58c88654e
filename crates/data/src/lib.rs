//! Raw text to rows that are clean, each of them once, and whose origin is known.
//!
//! In the order data flows:
//! * [`row`] — a text or a conversation, its origin and metadata
//! * [`read`] — files of every format to rows; [`write`](mod@write) — rows to files
//! * [`job`] — shards on all cores, markers, resuming, counting
//! * [`units`] — text as words and characters, which every rule counts in
//! * [`clean`] — repaired, its language told, filtered for quality
//!
//! Every verb is a function `run(config, input, output, progress)`; its `Config` reads from TOML, with defaults.

mod error;

pub mod row;
pub mod read;
pub mod write;
pub mod job;
pub mod units;
pub mod clean;

pub use error::{Error, Result};
pub use job::{Output, Summary};
pub use read::Input;
