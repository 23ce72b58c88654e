//! JSON Lines, and JSON files that hold an array or a series of objects: an element at a time, whatever the file's size.

use std::borrow::Cow;
use std::io::BufRead;

use super::source::{self, Line};
use super::{Context, Item, Rejected, Sink, decode, shape};
use crate::Result;
use crate::row::{Origin, Row};

pub(super) fn lines(context: &Context<'_>, sink: &mut Sink<'_>) -> Result<()> {
    let name = &context.file.name;
    let max = context.config.max_row_bytes;
    let mut reader = source::open(context)?;
    let mut buffer = Vec::new();
    let mut line = context.piece.before;
    loop {
        let read = source::next_line(&mut *reader, &mut buffer, max);
        let origin = || Origin::line(name, line + 1);
        match read.map_err(|error| context.damaged(&origin(), line - context.piece.before, error))? {
            Line::End => return Ok(()),
            Line::TooLong(length) => {
                let reason = format!("a line of {length} bytes is longer than `max_row_bytes` {max}");
                sink(Item::Rejected(Rejected::new(origin(), reason, &buffer)))?;
            }
            Line::Whole => {
                let bytes = buffer.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&buffer).trim_ascii();
                if !bytes.is_empty() {
                    sink(item(bytes, origin(), context))?;
                }
            }
        }
        line += 1;
    }
}

/// One JSON object to a row, or what is wrong with it.
fn item(bytes: &[u8], origin: Origin, context: &Context<'_>) -> Item {
    match row(bytes, &origin, context) {
        Ok(row) => Item::Row(Box::new(row)),
        Err(reason) => Item::Rejected(Rejected::new(origin, reason, bytes)),
    }
}

fn row(bytes: &[u8], origin: &Origin, context: &Context<'_>) -> Result<Row, String> {
    let mut encoding = None;
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(error) => {
            let decoded = decode::decode(bytes.to_vec(), None)
                .ok_or_else(|| format!("binary data at byte {}", error.valid_up_to()))?;
            encoding = decoded.encoding;
            if decoded.num_broken > 0 {
                return Err(format!("broken UTF-8 at byte {}", error.valid_up_to()));
            }
            Cow::Owned(decoded.text)
        }
    };
    let fields = shape::fields(&text, context.config).map_err(|error| {
        // Rows are parsed one by one, so the parser's line is always the first.
        format!("not a JSON object: {}", error.to_string().replace("line 1 column", "column"))
    })?;
    let mut row = shape::row(fields, origin, context.config)?;
    if let Some(encoding) = encoding {
        row.metadata.set("encoding", encoding);
    }
    Ok(row)
}

/// Elements of an array at the top, or objects one after the other.
pub(super) fn values(context: &Context<'_>, sink: &mut Sink<'_>) -> Result<()> {
    let name = &context.file.name;
    let max = context.config.max_row_bytes as usize;
    let mut reader = source::open(context)?;
    let mut scanner = Scanner::default();
    let (mut element, mut length, mut row) = (Vec::new(), 0u64, 0u64);
    loop {
        let origin = || Origin::row(name, row + 1);
        let available = reader.fill_buf().map_err(|error| context.damaged(&origin(), row, error))?;
        if available.is_empty() {
            break;
        }
        let mut taken = 0;
        let mut whole = false;
        for &byte in available {
            taken += 1;
            let step = scanner.step(byte);
            if step != Step::Between {
                length += 1;
                if element.len() < max {
                    element.push(byte);
                }
            }
            if step == Step::Last {
                whole = true;
                break;
            }
        }
        reader.consume(taken);
        if whole {
            sink(match length as usize > max {
                true => {
                    let reason = format!("a row of {length} bytes is longer than `max_row_bytes` {max}");
                    Item::Rejected(Rejected::new(origin(), reason, &element))
                }
                false => item(&element, origin(), context),
            })?;
            element.clear();
            (length, row) = (0, row + 1);
        }
    }
    if !element.is_empty() || scanner.open_array {
        let origin = Origin::row(name, row + 1);
        return Err(context.damaged(&origin, row, "the file ends in the middle of a value"));
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Between,
    Inside,
    Last,
}

/// Finds where the elements of a JSON file end, without parsing them.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "four questions of one scanner, asked for each byte")]
struct Scanner {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The array around all elements is open.
    open_array: bool,
    begun: bool,
}

impl Scanner {
    fn step(&mut self, byte: u8) -> Step {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => {
                    self.in_string = false;
                    if self.depth == 0 {
                        return Step::Last;
                    }
                }
                _ => {}
            }
            return Step::Inside;
        }
        if self.depth == 0 {
            match byte {
                b'[' if !self.begun => {
                    (self.begun, self.open_array) = (true, true);
                    return Step::Between;
                }
                b']' if self.open_array => {
                    self.open_array = false;
                    return Step::Between;
                }
                // A mark at the start, white space, commas.
                b' ' | b'\n' | b'\r' | b'\t' | b',' | 0xef | 0xbb | 0xbf => return Step::Between,
                _ => self.begun = true,
            }
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    return Step::Last;
                }
            }
            // A number or a word at the top is no row; each of its characters is one element that says so.
            _ if self.depth == 0 => return Step::Last,
            _ => {}
        }
        Step::Inside
    }
}
