//! Progress for the terminal and the chat page at once.

use std::sync::atomic::{AtomicU64, Ordering};

use hearth_artifacts::progress::{Event, Progress};
use hearth_serve::{Behind, State};

use crate::terminal::Terminal;

/// Sends every event to the terminal, and what it means to the server's status line.
#[derive(Debug)]
pub(super) struct Announcer<'a> {
    terminal: &'a Terminal,
    state: &'a State,
    total: AtomicU64,
}

impl<'a> Announcer<'a> {
    pub(super) fn new(terminal: &'a Terminal, state: &'a State) -> Self {
        Self { terminal, state, total: AtomicU64::new(0) }
    }

    fn show(&self, stage: &str, done: u64) {
        self.state.set_behind(Some(Behind {
            stage: "comparison".into(),
            text: stage.into(),
            done,
            total: self.total.load(Ordering::Relaxed),
        }));
    }
}

impl Progress for Announcer<'_> {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Start { stage, total, .. } => {
                self.total.store(total.unwrap_or(0), Ordering::Relaxed);
                self.show(stage, 0);
            }
            Event::Advance { stage, done } => self.show(stage, done),
            Event::Status { .. } | Event::Note { .. } | Event::Finish { .. } => {}
        }
        self.terminal.event(event);
    }

    fn cancelled(&self) -> bool {
        self.terminal.cancelled()
    }
}
