//! The JSON of tool calls as it comes: an object, several, or a list of them.

use serde_json::Value;

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
    /// In the arguments of a call whose name is out.
    Arguments(Balance),
    /// Behind the arguments; the object's own brace is due.
    Behind,
    /// Arguments that were read whole and wait to be passed on.
    Whole(String),
}

#[derive(Debug, Clone)]
pub(crate) struct CallReader {
    /// What stood before, should this turn out to be text.
    mark: String,
    /// Only known names are calls: there was no mark.
    is_bare: bool,
    has_calls: bool,
    state: State,
}

impl Default for CallReader {
    fn default() -> Self {
        Self::bare()
    }
}

impl CallReader {
    pub(crate) fn bare() -> Self {
        Self { mark: String::new(), is_bare: true, has_calls: false, state: State::Between }
    }

    pub(crate) fn marked(mark: &str, gap: &str) -> Self {
        Self { mark: format!("{gap}{mark}"), is_bare: false, has_calls: false, state: State::Between }
    }

    /// The rest of an answer that is over, as text.
    pub(crate) fn finish(&mut self, text: &str) -> String {
        match self.has_calls {
            true => text.trim_start_matches(BEHIND).into(),
            false => std::mem::take(&mut self.mark) + text,
        }
    }

    /// Takes what it can from the beginning of `text`.
    pub(crate) fn read(&mut self, text: &mut String, knows: impl Fn(&str) -> bool) -> Read {
        match &mut self.state {
            State::Between => self.between(text, knows),
            State::Arguments(balance) => {
                let length = balance.advance(text);
                if balance.is_over() {
                    self.state = State::Behind;
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
                self.between(text, knows)
            }
            State::Whole(arguments) => {
                let arguments = std::mem::take(arguments);
                self.state = State::Between;
                Read::Arguments(arguments)
            }
        }
    }

    fn between(&mut self, text: &mut String, knows: impl Fn(&str) -> bool) -> Read {
        let rest = text.trim_start_matches(if self.has_calls { BEHIND } else { BEFORE });
        if rest.is_empty() {
            return Read::More;
        }
        if !rest.starts_with('{') {
            return self.no_call(text);
        }
        let skipped = text.len() - rest.len();
        match head(rest) {
            Head::More => Read::More,
            Head::Call { name, length } if !self.is_bare || knows(&name) => {
                text.drain(..skipped + length);
                self.has_calls = true;
                self.state = State::Arguments(Balance::default());
                Read::Name(name)
            }
            _ => self.whole(text, skipped, knows),
        }
    }

    /// Another order of the fields: read when the object is whole.
    fn whole(&mut self, text: &mut String, skipped: usize, knows: impl Fn(&str) -> bool) -> Read {
        let mut balance = Balance::default();
        let length = balance.advance(&text[skipped..]);
        if !balance.is_over() {
            return Read::More;
        }
        let end = skipped + length;
        let Some((name, arguments)) =
            call_of(&text[skipped..end]).filter(|(name, _)| !self.is_bare || knows(name))
        else {
            return self.no_call(text);
        };
        text.drain(..end);
        self.has_calls = true;
        self.state = State::Whole(arguments);
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

/// What may stand in front of the first call.
const BEFORE: &[char] = &[' ', '\n', '\r', '\t', '['];
/// What may stand behind a call.
const BEHIND: &[char] = &[' ', '\n', '\r', '\t', ',', ';', ']'];

fn call_of(object: &str) -> Option<(String, String)> {
    let value: Value = serde_json::from_str(object).ok()?;
    let name = value.get("name")?.as_str()?.to_owned();
    let arguments = value.get("arguments").or_else(|| value.get("parameters"))?;
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
