//! Raw text to rows that are clean, each of them once, and whose origin is known.
//!
//! In the order data flows:
//! * [`row`] — a text or a conversation, its origin and metadata
//! * [`read`] — files of every format to rows; [`write`](mod@write) — rows to files
//! * [`job`] — shards on all cores, markers, resuming, counting
//! * [`units`] — text as words and characters, which every rule counts in
//! * [`clean`] — repaired, its language told, filtered for quality
//! * [`dedup`] — each text once: whole, by paragraphs, and nearly
//! * [`pii`] — what names or reaches a person becomes a placeholder
//! * [`decontaminate`] — without stretches of evaluation sets
//! * [`classify`] — topic or quality by a small trained model
//! * [`mix`] — several sources in the shares that are asked for
//! * [`stats`] — what a corpus holds, as a page
//!
//! Every verb is a function `run(config, input, output, progress)`; its `Config` reads from TOML, with defaults.

mod error;

pub mod row;
pub mod read;
pub mod write;
pub mod job;
pub mod units;
pub mod clean;
pub mod dedup;
pub mod pii;
pub mod decontaminate;
pub mod classify;
pub mod mix;
pub mod stats;

pub use error::{Error, Result};
pub use job::{Output, Summary};
pub use read::Input;
