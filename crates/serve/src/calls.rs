//! Tool calls as they come: JSON, a name with JSON behind it, tags, or Python; one, several, or a list of them.

mod python;
mod tagged;

use serde_json::Value;

use crate::dialect::{Mark, TOOL_CODE};
use crate::tools::Tools;
use tagged::Next;

/// What reading on gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// More text is needed.
    More,
    /// A call of this tool begins.
    Name(String),
    /// More of its arguments, as JSON text.
    Arguments(String),
    /// It isn't a call: the mark that stood before it is text, and so is what follows.
    NoCall(String),
    /// Something else follows.
    End,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Between calls.
    Between,
    /// In the arguments of a call whose name is out; whether an object around them is to be closed.
    Arguments(Balance, bool),
    /// Behind the arguments; the object's own brace is due.
    Behind,
    /// Arguments that were read whole and wait to be passed on, and calls after theirs, the next one last.
    Whole(String, Vec<(String, Value)>),
    /// In the tags of a call of this tool.
    Tagged { name: String, is_first: bool },
    /// Behind Python's mark: read when it is whole.
    Python,
    /// Calls that were read whole, the next one last.
    Several(Vec<(String, Value)>),
}

#[expect(clippy::struct_excessive_bools, reason = "each says one thing, whatever the others say")]
#[derive(Debug, Clone)]
pub(crate) struct CallReader {
    /// What stood before, should this turn out to be text.
    mark: String,
    /// Only known names are calls.
    needs_known: bool,
    /// A name with JSON behind it is a call.
    is_named: bool,
    has_calls: bool,
    /// No more text will come.
    is_closed: bool,
    state: State,
}

impl CallReader {
    /// For calls without any mark.
    pub(crate) fn bare(is_named: bool) -> Self {
        let (needs_known, state) = (true, State::Between);
        Self { mark: String::new(), needs_known, is_named, has_calls: false, is_closed: false, state }
    }

    /// For what follows a mark and the white space before it.
    pub(crate) fn marked(mark: &Mark, gap: &str, is_named: bool) -> Self {
        let state = if *mark == TOOL_CODE { State::Python } else { State::Between };
        let text = if mark.is_part { "" } else { mark.open };
        Self { mark: format!("{gap}{text}"), needs_known: !mark.is_sure, state, ..Self::bare(is_named) }
    }

    /// The answer is over.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
    }

    /// The rest of an answer that is over, as text.
    pub(crate) fn finish(&mut self, text: &str) -> String {
        match self.has_calls {
            // Half a parameter is neither text nor an argument.
            true if matches!(self.state, State::Tagged { .. }) => String::new(),
            true => text.trim_start_matches(BEHIND).into(),
            false => std::mem::take(&mut self.mark) + text,
        }
    }

    /// Takes what it can from the beginning of `text`.
    pub(crate) fn read(&mut self, text: &mut String, tools: &Tools) -> Read {
        match &mut self.state {
            State::Between => self.between(text, tools),
            State::Arguments(balance, is_inside) => {
                let length = balance.advance(text);
                if balance.is_over() {
                    self.state = if *is_inside { State::Behind } else { State::Between };
                }
                match length {
                    0 => Read::More,
                    _ => Read::Arguments(text.drain(..length).collect()),
                }
            }
            State::Behind => {
                let rest = text.trim_start();
                if rest.is_empty() {
                    return Read::More;
                }
                *text = rest.strip_prefix('}').unwrap_or(rest).into();
                self.state = State::Between;
                self.between(text, tools)
            }
            State::Whole(arguments, more) => {
                let (arguments, more) = (std::mem::take(arguments), std::mem::take(more));
                self.state = if more.is_empty() { State::Between } else { State::Several(more) };
                Read::Arguments(arguments)
            }
            State::Several(calls) => {
                let calls = std::mem::take(calls);
                self.next_of(calls)
            }
            State::Tagged { name, is_first } => {
                let parameters = tools.tool(name).and_then(|tool| tool.parameters());
                let (part, is_last) = match tagged::part(text, *is_first, parameters) {
                    Next::More => return Read::More,
                    Next::Is(part, length) => {
                        text.drain(..length);
                        part
                    }
                    // What isn't a tag is no part of the call; its arguments end here.
                    Next::No => (if *is_first { "{}" } else { "}" }.into(), true),
                };
                *is_first = false;
                if is_last {
                    self.state = State::Between;
                }
                Read::Arguments(part)
            }
            State::Python => self.python(text, tools),
        }
    }

    fn next_of(&mut self, mut calls: Vec<(String, Value)>) -> Read {
        let Some((name, arguments)) = calls.pop() else { return Read::End };
        self.state = State::Whole(arguments.to_string(), calls);
        Read::Name(name)
    }

    fn python(&mut self, text: &mut String, tools: &Tools) -> Read {
        let end = match text.find("```") {
            Some(at) => at,
            None if self.is_closed => text.len(),
            None => return Read::More,
        };
        let calls = python::calls(&text[..end]).unwrap_or_default();
        if calls.is_empty() || !calls.iter().all(|(name, _)| tools.tool(name).is_some()) {
            return self.no_call(text);
        }
        text.drain(..end);
        self.has_calls = true;
        self.next_of(calls.into_iter().rev().collect())
    }

    fn between(&mut self, text: &mut String, tools: &Tools) -> Read {
        let rest = text.trim_start_matches(if self.has_calls { BEHIND } else { BEFORE });
        if rest.is_empty() {
            return Read::More;
        }
        let skipped = text.len() - rest.len();
        if rest.starts_with('<') && !self.needs_known {
            return self.tagged(text, skipped);
        }
        if self.is_named && !rest.starts_with(['{', '[']) {
            return self.named(text, skipped, tools);
        }
        if !rest.starts_with('{') {
            return self.no_call(text);
        }
        match head(rest) {
            Head::More => Read::More,
            Head::Call { name, length } if self.knows(tools, &name) => {
                text.drain(..skipped + length);
                self.has_calls = true;
                self.state = State::Arguments(Balance::default(), true);
                Read::Name(name)
            }
            _ => self.whole(text, skipped, tools),
        }
    }

    fn knows(&self, tools: &Tools, name: &str) -> bool {
        !self.needs_known || tools.tool(name).is_some()
    }

    fn tagged(&mut self, text: &mut String, skipped: usize) -> Read {
        match tagged::function(&text[skipped..]) {
            Next::More => Read::More,
            Next::No => self.no_call(text),
            Next::Is(name, length) => {
                text.drain(..skipped + length);
                self.has_calls = true;
                self.state = State::Tagged { name: name.clone(), is_first: true };
                Read::Name(name)
            }
        }
    }

    /// `name{…}`, with `[CALL_ID]…` and `[ARGS]` between where they are text.
    fn named(&mut self, text: &mut String, skipped: usize, tools: &Tools) -> Read {
        let rest = &text[skipped..];
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let name = rest[..end].to_owned();
        let Some(brace) = rest.find('{') else {
            let is_open = end == rest.len() || rest[end..].starts_with(['[', ' ']);
            let may_be = is_open && !name.is_empty() && rest.len() < MAX_HEAD;
            let is_begun = tools.list.iter().any(|tool| tool.name.starts_with(&name));
            return if may_be && (is_begun || !self.needs_known) { Read::More } else { self.no_call(text) };
        };
        let between = rest[end..brace].trim();
        let is_head = between.is_empty() || (between.starts_with('[') && between.ends_with("[ARGS]"));
        if name.is_empty() || !is_head || !self.knows(tools, &name) {
            return self.no_call(text);
        }
        text.drain(..skipped + brace);
        self.has_calls = true;
        self.state = State::Arguments(Balance::default(), false);
        Read::Name(name)
    }

    /// Another order of the fields: read when the object is whole.
    fn whole(&mut self, text: &mut String, skipped: usize, tools: &Tools) -> Read {
        let mut balance = Balance::default();
        let length = balance.advance(&text[skipped..]);
        if !balance.is_over() {
            return Read::More;
        }
        let end = skipped + length;
        let Some((name, arguments)) =
            call_of(&text[skipped..end]).filter(|(name, _)| self.knows(tools, name))
        else {
            return self.no_call(text);
        };
        text.drain(..end);
        self.has_calls = true;
        self.state = State::Whole(arguments, Vec::new());
        Read::Name(name)
    }

    fn no_call(&mut self, text: &mut String) -> Read {
        match self.has_calls {
            true => {
                *text = text.trim_start_matches(BEHIND).into();
                Read::End
            }
            false => Read::NoCall(std::mem::take(&mut self.mark)),
        }
    }
}

/// Bytes between a call's name and its arguments at most.
const MAX_HEAD: usize = 256;
/// What may stand in front of the first call.
const BEFORE: &[char] = &[' ', '\n', '\r', '\t', '['];
/// What may stand behind a call.
const BEHIND: &[char] = &[' ', '\n', '\r', '\t', ',', ';', ']'];

fn call_of(object: &str) -> Option<(String, String)> {
    let value: Value = serde_json::from_str(object).ok()?;
    let name = value.get("name")?.as_str()?.to_owned();
    let arguments = value.get("arguments").or_else(|| value.get("parameters"))?;
    // Some write the object as text, as the API has it.
    let inner = arguments.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let arguments = inner.as_ref().unwrap_or(arguments);
    Some((name, arguments.is_object().then(|| arguments.to_string())?))
}

enum Head {
    More,
    /// The usual form: everything before the arguments' brace is `length` bytes.
    Call {
        name: String,
        length: usize,
    },
    Other,
}

/// `{"name": "…", "arguments": ` with any white space.
fn head(text: &str) -> Head {
    let mut rest = text;
    let mut name = None;
    for expected in
        [&["{"][..], &["\"name\""], &[":"], &[], &[","], &["\"arguments\"", "\"parameters\""], &[":"]]
    {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Head::More;
        }
        if expected.is_empty() {
            let Some(length) = string_length(rest) else {
                return if rest.starts_with('"') { Head::More } else { Head::Other };
            };
            name = serde_json::from_str::<String>(&rest[..length]).ok();
            rest = &rest[length..];
        } else if let Some(found) = expected.iter().find(|word| rest.starts_with(**word)) {
            rest = &rest[found.len()..];
        } else {
            let is_begun = expected.iter().any(|word| word.starts_with(rest));
            return if is_begun { Head::More } else { Head::Other };
        }
    }
    let rest = rest.trim_start();
    match (rest.chars().next(), name) {
        (None, _) => Head::More,
        (Some('{'), Some(name)) => Head::Call { name, length: text.len() - rest.len() },
        _ => Head::Other,
    }
}

/// Bytes of the JSON string at the beginning of `text`, if it is whole.
fn string_length(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if at == 0 && byte != b'"' => return None,
            _ if at == 0 => {}
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Follows braces and strings to the end of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Balance {
    depth: usize,
    in_string: bool,
    is_escaped: bool,
    has_begun: bool,
}

impl Balance {
    fn is_over(&self) -> bool {
        self.has_begun && self.depth == 0
    }

    /// Bytes of `text` up to the object's end.
    fn advance(&mut self, text: &str) -> usize {
        for (at, byte) in text.bytes().enumerate() {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.in_string => self.is_escaped = true,
                b'"' => self.in_string = !self.in_string,
                b'{' if !self.in_string => {
                    self.has_begun = true;
                    self.depth += 1;
                }
                b'}' if !self.in_string => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            if self.is_over() {
                return at + 1;
            }
        }
        text.len()
    }
}
