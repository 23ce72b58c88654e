//! Qwen3-Coder's calls: `<function=name>`, a `<parameter=name>` for each argument, and their ends.
//!
//! What comes out is JSON, a parameter at a time. A value is text unless the tool's schema says otherwise.

use serde_json::Value;

use crate::dialect::is_text;

const FUNCTION: &str = "<function=";
const FUNCTION_END: &str = "</function>";
const PARAMETER: &str = "<parameter=";
const PARAMETER_END: &str = "</parameter>";

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<T> {
    /// More text is needed.
    More,
    /// So many bytes hold it.
    Is(T, usize),
    /// Something else.
    No,
}

/// A name between `mark` and `>`, at the beginning of `text`.
fn name(text: &str, mark: &str) -> Next<String> {
    let Some(rest) = text.strip_prefix(mark) else {
        return if mark.starts_with(text) { Next::More } else { Next::No };
    };
    match rest.find(['>', '<', '\n']) {
        None => Next::More,
        Some(at) if rest[at..].starts_with('>') && at > 0 => {
            Next::Is(rest[..at].trim().into(), mark.len() + at + 1)
        }
        Some(_) => Next::No,
    }
}

/// The beginning of a call.
pub(super) fn function(text: &str) -> Next<String> {
    name(text, FUNCTION)
}

/// A part of the arguments' JSON, and whether it was the last.
pub(super) fn part(text: &str, is_first: bool, parameters: Option<&Value>) -> Next<(String, bool)> {
    let rest = text.trim_start();
    let skipped = text.len() - rest.len();
    if rest.starts_with(FUNCTION_END) {
        let end = if is_first { "{}" } else { "}" };
        return Next::Is((end.into(), true), skipped + FUNCTION_END.len());
    }
    if FUNCTION_END.starts_with(rest) {
        return Next::More;
    }
    let (key, length) = match name(rest, PARAMETER) {
        Next::Is(key, length) => (key, length),
        Next::More => return Next::More,
        Next::No => return Next::No,
    };
    let value = &rest[length..];
    // The end may be forgotten: then the next tag ends the value.
    let ends = [PARAMETER_END, "\n<parameter=", "\n</function>"].map(|end| value.find(end));
    let Some(end) = ends.into_iter().flatten().min() else { return Next::More };
    let closes = if value[end..].starts_with(PARAMETER_END) { PARAMETER_END.len() } else { 0 };
    let text = &value[..end];
    let text = text.strip_prefix('\n').unwrap_or(text);
    let text = text.strip_suffix('\n').unwrap_or(text);
    let schema = parameters.and_then(|all| all.get("properties")?.get(&key));
    let open = if is_first { "{" } else { ", " };
    let part = format!("{open}{}: {}", Value::from(key), typed(text, schema));
    Next::Is((part, false), skipped + length + end + closes)
}

fn typed(text: &str, schema: Option<&Value>) -> Value {
    let parsed = || serde_json::from_str(text.trim()).ok();
    match schema {
        None => text.into(),
        Some(schema) if is_text(schema) => {
            let may_be_null =
                schema["type"].as_array().is_some_and(|all| all.iter().any(|kind| kind == "null"));
            if may_be_null && text == "null" { Value::Null } else { text.into() }
        }
        Some(_) => match text.trim() {
            "True" => true.into(),
            "False" => false.into(),
            "None" => Value::Null,
            _ => parsed().unwrap_or_else(|| text.into()),
        },
    }
}
