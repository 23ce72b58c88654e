//! Progress for people: a bar with rate and time left on a terminal, plain lines elsewhere.
//!
//! Everything here goes to standard error; standard output belongs to results.
#![expect(clippy::print_stderr, reason = "the one place that talks to the terminal")]

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hearth_artifacts::progress::{Event, Progress, Unit};
use hearth_engine::Canceller;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Prints an error with what caused it.
pub(crate) fn print_error(error: &anyhow::Error) {
    let mut shown = error.to_string();
    eprintln!("error: {}", readable(&shown));
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Transparent wrappers repeat their source's words.
        if !shown.contains(&cause) {
            eprintln!("  because: {}", readable(&cause));
        }
        shown = cause;
    }
}

/// Characters of a message that are shown, half of them from each end.
const MAX_MESSAGE_CHARS: usize = 2000;

/// Messages quote files, which may hold a megabyte in one name, or what moves a terminal's cursor.
fn readable(message: &str) -> String {
    let is_plain = |c: char| !c.is_control() || c == '\n';
    let num_chars = message.chars().count();
    let escape = |text: &str| -> String {
        text.chars()
            .map(|c| if is_plain(c) { c.to_string() } else { c.escape_default().to_string() })
            .collect()
    };
    if num_chars <= MAX_MESSAGE_CHARS {
        return escape(message);
    }
    let half = MAX_MESSAGE_CHARS / 2;
    let at = |index: usize| message.char_indices().nth(index).map_or(message.len(), |(byte, _)| byte);
    let (start, end) = (&message[..at(half)], &message[at(num_chars - half)..]);
    format!("{} … ({} characters left out) … {}", escape(start), num_chars - 2 * half, escape(end))
}

/// A line of the server's log.
pub(crate) fn print_log(line: &serde_json::Value) {
    eprintln!("{line}");
}

/// Shows events; knows whether Ctrl-C was pressed.
#[derive(Debug)]
pub(crate) struct Terminal {
    interactive: bool,
    bars: Mutex<BTreeMap<String, Bar>>,
    cancelled: Arc<AtomicBool>,
    /// What the next Ctrl-C ends instead of the program.
    answer: Arc<Mutex<Option<Canceller>>>,
}

/// What work behind the scenes has to say, as lines.
#[derive(Debug)]
pub(crate) struct Notes;

impl Progress for Notes {
    fn event(&self, event: Event<'_>) {
        if let Event::Note { stage, text } = event {
            eprintln!("{stage}: {text}");
        }
    }
}

#[derive(Debug)]
struct Bar {
    bar: ProgressBar,
    started: Instant,
}

impl Terminal {
    /// Takes over Ctrl-C: the first asks running stages to save and stop, the second ends the process.
    pub(crate) fn new() -> Self {
        let cancelled = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&cancelled);
        let answer = Arc::<Mutex<Option<Canceller>>>::default();
        let current = Arc::clone(&answer);
        let handler = ctrlc::set_handler(move || {
            if let Some(canceller) = current.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return canceller.cancel();
            }
            if flag.swap(true, Ordering::SeqCst) {
                // A second Ctrl-C means now; every file is written atomically.
                std::process::exit(130);
            }
            eprintln!("\nstopping; what is done so far is kept (Ctrl-C again to end at once)");
        });
        if let Err(error) = handler {
            eprintln!("note: Ctrl-C can't be caught here ({error})");
        }
        Self { interactive: std::io::stderr().is_terminal(), bars: Mutex::default(), cancelled, answer }
    }

    /// A line's beginning, to be gone on by the user.
    #[expect(clippy::unused_self, reason = "everything that reaches the terminal goes through here")]
    pub(crate) fn ask(&self, text: &str) {
        eprint!("{text}");
        // A terminal that is gone is noticed when its next line is read.
        let _ = std::io::stderr().flush();
    }

    /// Lets the next Ctrl-C end this answer and not the program; `None` lets it end the program again.
    pub(crate) fn watch_answer(&self, canceller: Option<Canceller>) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = canceller;
    }

    /// Forgets a Ctrl-C that nothing came of.
    pub(crate) fn forget_interrupt(&self) {
        self.cancelled.store(false, Ordering::SeqCst);
    }

    /// A line for the user.
    pub(crate) fn say(&self, text: &str) {
        let bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        match bars.values().next() {
            Some(bar) if self.interactive => bar.bar.println(text),
            _ => eprintln!("{text}"),
        }
    }

    fn start(&self, stage: &str, total: Option<u64>, unit: Unit) {
        let target = match self.interactive {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(total, target).with_style(style(total, unit));
        bar.set_prefix(stage.to_owned());
        if !self.interactive {
            eprintln!("{stage} …");
        }
        let bar = Bar { bar, started: Instant::now() };
        self.bars.lock().unwrap_or_else(PoisonError::into_inner).insert(stage.into(), bar);
    }
}

fn style(total: Option<u64>, unit: Unit) -> ProgressStyle {
    let template = match (total, unit) {
        (Some(_), Unit::Bytes) => {
            "{prefix:>10} {bar:24} {bytes}/{total_bytes} {bytes_per_sec} {eta} left {msg}"
        }
        (None, Unit::Bytes) => "{prefix:>10} {spinner} {bytes} {bytes_per_sec} {msg}",
        (Some(_), _) => "{prefix:>10} {bar:24} {pos}/{len} {per_sec} {eta} left {msg}",
        (None, _) => "{prefix:>10} {spinner} {pos} {per_sec} {msg}",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Progress for Terminal {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Start { stage, total, unit } => self.start(stage, total, unit),
            Event::Advance { stage, done } => {
                let bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(bar) = bars.get(stage) {
                    bar.bar.set_position(done);
                }
            }
            Event::Status { stage, text } => {
                let bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(bar) = bars.get(stage) {
                    bar.bar.set_message(text.to_owned());
                }
            }
            Event::Note { stage, text } => self.say(&format!("{stage}: {text}")),
            Event::Finish { stage, summary } => {
                let bar = self.bars.lock().unwrap_or_else(PoisonError::into_inner).remove(stage);
                let seconds = bar.map_or(0.0, |bar| {
                    bar.bar.finish_and_clear();
                    bar.started.elapsed().as_secs_f64()
                });
                self.say(&format!("{stage}: {summary} ({seconds:.1} s)"));
            }
        }
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_stay_readable_whatever_they_quote() {
        assert_eq!(readable("`a` isn't\nb"), "`a` isn't\nb");
        assert_eq!(readable("\u{1b}[2Jé\u{9b}"), "\\u{1b}[2Jé\\u{9b}");
        let long = format!("model `{}` isn't there", "é".repeat(1_000_000));
        let shown = readable(&long);
        assert!(shown.starts_with("model `é") && shown.ends_with("é` isn't there"), "{shown}");
        assert!(shown.contains("(998020 characters left out)") && shown.chars().count() < 2100, "{shown}");
    }
}
