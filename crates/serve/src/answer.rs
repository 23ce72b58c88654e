//! An answer's text, piece by piece, to what clients are told: text, reasoning, tool calls.
//!
//! Whatever the pieces, what comes out joined is the same. A call's arguments are passed on as they come where the
//! JSON has the usual order (name, then arguments); JSON that isn't a call after all is text, as it was.

use crate::calls::{CallReader, Read};
use crate::dialect::{Dialect, Mark};
use crate::tools::Tools;

const THINK: &str = "<think>";
const THINK_END: &str = "</think>";

/// What a piece of text means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    Reasoning(String),
    /// A call begins; calls of an answer are counted from 0.
    Call {
        index: usize,
        id: String,
        name: String,
    },
    Arguments {
        index: usize,
        text: String,
    },
}

/// A call that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// An answer that is whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) reasoning: String,
    pub(crate) calls: Vec<Call>,
}

impl Answer {
    pub(crate) fn add(&mut self, piece: Piece) {
        match piece {
            Piece::Text(text) => self.text += &text,
            Piece::Reasoning(text) => self.reasoning += &text,
            Piece::Call { id, name, .. } => self.calls.push(Call { id, name, arguments: String::new() }),
            Piece::Arguments { index, text } => {
                if let Some(call) = self.calls.get_mut(index) {
                    call.arguments += &text;
                }
            }
        }
    }
}

/// What is looked for in an answer.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    /// The prompt's end has opened the reasoning already.
    pub(crate) is_thinking: bool,
    /// Whether the model marks its reasoning.
    pub(crate) has_thinking: bool,
    pub(crate) tools: Option<(Tools, Dialect)>,
    /// Ids of calls begin with this.
    pub(crate) call_id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing but white space came so far.
    Start,
    Reasoning,
    Text,
    Calls,
    /// The mark behind a call's JSON is due.
    Close,
    /// White space behind a mark, which isn't part of the answer.
    Gap,
}

#[derive(Debug, Clone)]
pub(crate) struct Splitter {
    marks: Marks,
    place: Place,
    /// What isn't decided yet.
    held: String,
    reader: CallReader,
    /// What ends the calls under way.
    close: &'static str,
    num_calls: usize,
    has_thought: bool,
}

impl Splitter {
    pub(crate) fn new(marks: Marks) -> Self {
        let place = if marks.is_thinking { Place::Reasoning } else { Place::Start };
        Self {
            marks,
            place,
            held: String::new(),
            reader: CallReader::bare(false),
            close: "",
            num_calls: 0,
            has_thought: false,
        }
    }

    pub(crate) fn has_calls(&self) -> bool {
        self.num_calls > 0
    }

    /// A whole answer at once.
    pub(crate) fn whole(mut self, text: &str) -> Answer {
        let mut answer = Answer::default();
        for piece in self.push(text).into_iter().chain(self.finish()) {
            answer.add(piece);
        }
        answer
    }

    /// What this text completes.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Piece> {
        self.held += text;
        let mut pieces = Vec::new();
        while self.step(&mut pieces) {}
        pieces
    }

    /// What is left when the answer is over.
    pub(crate) fn finish(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        if self.place == Place::Calls {
            self.reader.close();
            while self.step(&mut pieces) {}
        }
        let rest = match self.place {
            Place::Calls => self.reader.finish(&std::mem::take(&mut self.held)),
            _ => std::mem::take(&mut self.held),
        };
        match self.place {
            Place::Reasoning => push_text(&mut pieces, rest, Piece::Reasoning),
            _ => push_text(
                &mut pieces,
                if self.has_calls() { rest.trim_end().into() } else { rest },
                Piece::Text,
            ),
        }
        pieces
    }

    fn dialect(&self) -> Option<Dialect> {
        self.marks.tools.as_ref().map(|(_, dialect)| *dialect)
    }

    /// Goes on by one decision; false when more text is needed.
    fn step(&mut self, pieces: &mut Vec<Piece>) -> bool {
        match self.place {
            Place::Start => self.start(),
            Place::Reasoning => self.reasoning(pieces),
            Place::Text => self.text(pieces),
            Place::Calls => self.calls(pieces),
            Place::Close => self.close(),
            Place::Gap => self.gap(),
        }
    }

    fn start(&mut self) -> bool {
        if self.has_thought {
            self.held = self.held.trim_start().into();
        }
        let trimmed = self.held.trim_start();
        if trimmed.is_empty() {
            // White space alone says nothing yet, unless nothing else could come of it.
            if !self.held.is_empty() && !self.marks.has_thinking && self.marks.tools.is_none() {
                self.place = Place::Text;
                return true;
            }
            return false;
        }
        if self.marks.has_thinking {
            if let Some(rest) = trimmed.strip_prefix(THINK) {
                self.held = rest.into();
                self.place = Place::Reasoning;
                return true;
            }
            if THINK.starts_with(trimmed) {
                return false;
            }
        }
        self.place = match self.is_bare_call(trimmed) {
            None => return false,
            Some(false) => Place::Text,
            Some(true) => {
                self.reader = CallReader::bare(self.dialect().is_some_and(|dialect| dialect.is_named));
                self.close = "";
                Place::Calls
            }
        };
        true
    }

    /// Whether an answer that begins so may be calls without their mark; `None` isn't known yet.
    fn is_bare_call(&self, text: &str) -> Option<bool> {
        let Some((tools, dialect)) = self.marks.tools.as_ref().filter(|(_, dialect)| dialect.is_bare) else {
            return Some(false);
        };
        if dialect.marks.iter().any(|mark| text.starts_with(mark.open)) {
            return Some(false);
        }
        if dialect.marks.iter().any(|mark| mark.open.starts_with(text)) {
            return None;
        }
        if text.starts_with(['{', '[']) {
            return Some(true);
        }
        let is_begun = |name: &str| name.starts_with(text) || text.starts_with(name);
        let may_be = dialect.is_named && tools.list.iter().any(|tool| is_begun(&tool.name));
        Some(may_be)
    }

    fn reasoning(&mut self, pieces: &mut Vec<Piece>) -> bool {
        if !self.has_thought {
            self.held = self.held.trim_start_matches('\n').into();
            self.has_thought = !self.held.is_empty();
        }
        if let Some(at) = self.held.find(THINK_END) {
            let rest = self.held.split_off(at);
            let thought = std::mem::take(&mut self.held);
            push_text(pieces, thought.trim_end_matches('\n').into(), Piece::Reasoning);
            self.held = rest[THINK_END.len()..].into();
            self.marks.has_thinking = false;
            self.place = Place::Start;
            return true;
        }
        // Line breaks before the mark aren't part of what was thought.
        let keep = self.held.len() - undecided(&self.held, THINK_END, |c| c == '\n');
        let ready: String = self.held.drain(..keep).collect();
        push_text(pieces, ready, Piece::Reasoning);
        false
    }

    fn text(&mut self, pieces: &mut Vec<Piece>) -> bool {
        let Some(dialect) = self.dialect() else {
            push_text(pieces, std::mem::take(&mut self.held), Piece::Text);
            return false;
        };
        // The first of all marks; where two begin at one place, the longer.
        let found = |mark: &'static Mark| Some((self.held.find(mark.open)?, mark));
        let first = dialect.marks.iter().filter_map(found);
        if let Some((at, mark)) = first.min_by_key(|(at, mark)| (*at, std::cmp::Reverse(mark.open.len()))) {
            let rest = self.held.split_off(at);
            let before = std::mem::take(&mut self.held);
            push_text(pieces, before.trim_end().into(), Piece::Text);
            self.held = rest[if mark.is_part { 0 } else { mark.open.len() }..].into();
            self.reader = CallReader::marked(mark, &before[before.trim_end().len()..], dialect.is_named);
            self.close = mark.close;
            self.place = Place::Calls;
            return true;
        }
        let held = dialect.marks.iter().map(|mark| undecided(&self.held, mark.open, char::is_whitespace));
        let keep = self.held.len() - held.max().unwrap_or(0);
        let ready: String = self.held.drain(..keep).collect();
        push_text(pieces, ready, Piece::Text);
        false
    }

    fn calls(&mut self, pieces: &mut Vec<Piece>) -> bool {
        let Some((tools, _)) = &self.marks.tools else { return false };
        match self.reader.read(&mut self.held, tools) {
            Read::More => false,
            Read::Name(name) => {
                let id = format!("{}{}", self.marks.call_id, self.num_calls);
                pieces.push(Piece::Call { index: self.num_calls, id, name });
                self.num_calls += 1;
                true
            }
            Read::Arguments(text) => {
                pieces.push(Piece::Arguments { index: self.num_calls - 1, text });
                true
            }
            Read::NoCall(text) => {
                push_text(pieces, text, Piece::Text);
                self.place = Place::Text;
                true
            }
            Read::End => {
                self.place = Place::Close;
                true
            }
        }
    }

    fn close(&mut self) -> bool {
        let close = self.close;
        let trimmed = self.held.trim_start();
        if !close.is_empty() && trimmed.len() < close.len() && close.starts_with(trimmed) {
            return false;
        }
        self.held = trimmed.strip_prefix(close).unwrap_or(trimmed).into();
        self.place = Place::Gap;
        true
    }

    fn gap(&mut self) -> bool {
        self.held = self.held.trim_start().into();
        let is_over = !self.held.is_empty();
        if is_over {
            self.place = Place::Text;
        }
        is_over
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: String, piece: impl Fn(String) -> Piece) {
    if !text.is_empty() {
        pieces.push(piece(text));
    }
}

/// Bytes at the end of `text` that may be the beginning of `mark`, with the `gap` before them.
fn undecided(text: &str, mark: &str, gap: impl Fn(char) -> bool) -> usize {
    let longest = (1..mark.len().min(text.len() + 1)).rev();
    let begun = longest.into_iter().find(|&n| text.ends_with(&mark[..n])).unwrap_or(0);
    let before = &text[..text.len() - begun];
    text.len() - before.trim_end_matches(gap).len()
}

#[cfg(test)]
#[path = "answer/tests.rs"]
mod tests;
