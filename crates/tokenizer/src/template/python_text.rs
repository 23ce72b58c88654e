//! Values as Python prints them: templates were written for Jinja2, where `true` is `True` and a list has its quotes.

use std::fmt::Write;

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// No schema of a tool is nested deeper.
const MAX_DEPTH: usize = 64;
/// Bytes that a value may be written in: what a template's budget of instructions stands for.
pub(crate) const MAX_BYTES: usize = 64 << 20;
/// What an item costs beside its text: its quotes and comma, and the walk over it.
const ITEM_BYTES: usize = 16;

/// `str(value)`
pub(crate) fn text(value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    let mut out = String::new();
    if !value.is_undefined() {
        check_size(value)?;
        write_repr(value, &mut out);
    }
    Ok(out)
}

/// Lists and objects are written by recursion, which has its limit; and a list may hold another many times over.
pub(crate) fn check_size(value: &Value) -> Result<(), Error> {
    let mut bytes = MAX_BYTES;
    spend(value, 0, &mut bytes)
}

/// What is left of `bytes` when the value is written is nearly what is left afterwards.
fn spend(value: &Value, depth: usize, bytes: &mut usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        let detail = format!("a value nested more than {MAX_DEPTH} deep can't be printed");
        return Err(Error::new(ErrorKind::InvalidOperation, detail));
    }
    let cost = ITEM_BYTES + value.as_str().map_or(0, str::len);
    *bytes = bytes.checked_sub(cost).ok_or(ErrorKind::OutOfFuel)?;
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            value.try_iter()?.try_for_each(|item| spend(&item, depth + 1, bytes))
        }
        ValueKind::Map => value.try_iter()?.try_for_each(|key| {
            spend(&key, depth + 1, bytes)?;
            spend(&value.get_item(&key).unwrap_or_default(), depth + 1, bytes)
        }),
        _ => Ok(()),
    }
}

/// `repr(value)`
fn write_repr(value: &Value, out: &mut String) {
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number if !value.is_integer() => {
            out.push_str(&f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float));
        }
        ValueKind::String => write_quoted(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            for (index, item) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                write_repr(&item, out);
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (index, key) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                write_repr(&key, out);
                out.push_str(": ");
                write_repr(&value.get_item(&key).unwrap_or_default(), out);
            }
            out.push('}');
        }
        _ => out.push_str(&value.to_string()),
    }
}

/// Single quotes, unless only those occur in the text.
fn write_quoted(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() => write!(out, "\\x{:02x}", c as u32).expect("a string takes all text"),
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// The shortest digits that give the number back, with an exponent below 1e-4 and from 1e16.
pub(crate) fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if number != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = number.to_string();
    if plain.contains('.') { plain } else { format!("{plain}.0") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_quotes_as_python_writes_them() {
        for (number, expected) in [
            (0.0, "0.0"),
            (-1.5, "-1.5"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.25e-7, "1.25e-07"),
            (0.0001, "0.0001"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(float(number), expected);
        }
        for (text, expected) in
            [("a", "'a'"), ("it's", "\"it's\""), ("'\"", "'\\'\"'"), ("\n\\\u{1}", "'\\n\\\\\\x01'")]
        {
            let mut out = String::new();
            write_quoted(text, &mut out);
            assert_eq!(out, expected);
        }
    }
}
