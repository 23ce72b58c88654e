//! Progress events: how a stage tells what it does, without knowing who shows it.
//!
//! In: nothing. Out: events for a terminal, a server or a test. A stage never prints; it sends events
//! and asks [`Progress::cancelled`] between units of work, so that Ctrl-C leaves a resumable state.

use std::fmt;

/// What a stage counts, for the rate that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Tokens,
    Items,
    Steps,
}

/// One thing that happened in a stage. Stage names are short nouns such as `pull` or `embed`.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<'a> {
    /// The stage begins; `total` is in `unit`s where it is known.
    Start { stage: &'a str, total: Option<u64>, unit: Unit },
    /// `done` units so far (not the difference to the last event).
    Advance { stage: &'a str, done: u64 },
    /// What stands beside the bar until the next one: a loss, a rate, memory.
    Status { stage: &'a str, text: &'a str },
    /// Something the user should read: a skipped file, a fallback, a loss.
    Note { stage: &'a str, text: &'a str },
    /// The stage is over; `summary` says what came out.
    Finish { stage: &'a str, summary: &'a str },
}

/// Receives events. Implementations must be cheap: `Advance` may come thousands of times a second.
pub trait Progress: Send + Sync {
    fn event(&self, event: Event<'_>);

    /// True once the user asked to stop; a stage then saves its state and returns its `Cancelled` error.
    fn cancelled(&self) -> bool {
        false
    }
}

impl fmt::Debug for dyn Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dyn Progress")
    }
}

/// Drops every event: for tests and library users that show nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: Event<'_>) {}
}
