//! Scores for answers, intervals for scores, and the report that shows both beside every answer.
//!
//! Comes in: the questions set aside and one [`compare::Record`] a question and way.
//! Goes out: a [`compare::Comparison`] (`report.json`), `report.html`, a table for the terminal.
//! Left out on purpose: generating the answers; a caller runs the ways and hands over what they said.
//!
//! * [`question`] — questions with accepted answers, read from JSON Lines
//! * [`metrics`] — exact match, token F1, answer contained, citation hit, in English and Chinese
//! * [`bootstrap`] — seeded 95 % intervals for a mean and for a paired difference
//! * [`compare`] — records of all ways → summaries, the best way, the content of `report.json`
//! * [`needle`] — a sentence hidden in a long text, and a question about it
//! * [`retrieval`] — judged queries; nDCG, recall and reciprocal rank of a ranking
//! * [`verdict`] — which way is best, in a few careful sentences
//! * [`table`] — the comparison as plain text
//! * [`report`] — the comparison as one self-contained HTML page

pub mod question;

pub mod metrics;

pub mod bootstrap;

pub mod compare;

pub mod needle;

pub mod retrieval;

pub mod verdict;

pub mod table;

pub mod report;

mod error;

pub use error::{Error, Result};
