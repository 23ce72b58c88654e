//! `json.dumps` of Python, whose separators and numbers models have seen in training.

use std::io::{Result, Write};

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

use super::python_text;

/// The arguments of `json.dumps` that templates give.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) indent: Option<usize>,
    /// Between items, and between a key and its value.
    pub(crate) separators: (String, String),
    pub(crate) ensure_ascii: bool,
    pub(crate) sort_keys: bool,
}

/// A wider indent is no template's wish.
const MAX_INDENT: usize = 16;

impl Options {
    pub(crate) fn to_string(&self, mut value: Value) -> serde_json::Result<String> {
        if self.sort_keys {
            sort_keys(&mut value);
        }
        let mut out = Vec::new();
        let formatter = PythonFormatter { options: self, depth: 0, is_empty: true };
        value.serialize(&mut Serializer::with_formatter(&mut out, formatter))?;
        let text = String::from_utf8_lossy(&out).into_owned();
        Ok(if self.ensure_ascii { escaped(&text) } else { text })
    }
}

fn sort_keys(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.sort_keys();
            fields.values_mut().for_each(sort_keys);
        }
        Value::Array(items) => items.iter_mut().for_each(sort_keys),
        _ => {}
    }
}

/// Outside strings JSON is ASCII anyway.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut units = [0; 2];
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            out.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    out
}

struct PythonFormatter<'o> {
    options: &'o Options,
    depth: usize,
    is_empty: bool,
}

impl PythonFormatter<'_> {
    fn line<W: ?Sized + Write>(&self, writer: &mut W) -> Result<()> {
        let Some(width) = self.options.indent else { return Ok(()) };
        writer.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| writer.write_all(&b" ".repeat(width.min(MAX_INDENT))))
    }

    fn open<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: u8) -> Result<()> {
        self.depth += 1;
        self.is_empty = true;
        writer.write_all(&[bracket])
    }

    fn close<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: u8) -> Result<()> {
        self.depth -= 1;
        if !self.is_empty {
            self.line(writer)?;
        }
        self.is_empty = false;
        writer.write_all(&[bracket])
    }

    fn item<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> Result<()> {
        if !first {
            // Python drops the space behind a comma where a line break follows.
            let comma = &self.options.separators.0;
            let comma = if self.options.indent.is_some() { comma.trim_end() } else { comma };
            writer.write_all(comma.as_bytes())?;
        }
        self.is_empty = false;
        self.line(writer)
    }
}

impl Formatter for PythonFormatter<'_> {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        self.open(writer, b'[')
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        self.close(writer, b']')
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> Result<()> {
        self.item(writer, first)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        self.open(writer, b'{')
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        self.close(writer, b'}')
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> Result<()> {
        self.item(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        writer.write_all(self.options.separators.1.as_bytes())
    }

    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> Result<()> {
        writer.write_all(python_text::float(value).as_bytes())
    }
}
