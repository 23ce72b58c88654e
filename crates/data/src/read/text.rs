//! Files that are one document: text, Markdown with its front matter taken apart, HTML pages.
//!
//! A text that is longer than a row may be becomes several rows, cut at line ends, each with its place in the unpacked
//! file; an HTML page that is longer is set aside.

use std::io::{BufRead, Read};

use super::decode::{self, Decoded};
use super::{Context, Item, Rejected, Sink, html, source};
use crate::Result;
use crate::row::{Content, Origin, Row};

pub(super) fn plain(context: &Context<'_>, sink: &mut Sink<'_>) -> Result<()> {
    documents(context, sink, |row| row)
}

pub(super) fn markdown(context: &Context<'_>, sink: &mut Sink<'_>) -> Result<()> {
    documents(context, sink, |mut row| {
        let parts = row.texts().next().and_then(front_matter);
        if let Some((front, rest)) = parts.map(|(front, rest)| (front.to_owned(), rest.to_owned())) {
            row.metadata.set("front_matter", &front);
            row.content = Content::Text(rest);
        }
        row
    })
}

/// YAML between two lines of dashes at the start.
fn front_matter(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix("---\n")?;
    let end = rest.find("\n---\n")?;
    Some((&rest[..end], rest[end + 5..].trim_start_matches('\n')))
}

fn documents(context: &Context<'_>, sink: &mut Sink<'_>, finish: impl Fn(Row) -> Row) -> Result<()> {
    let name = &context.file.name;
    let origin = Origin { file: name.clone(), ..Origin::default() };
    let mut reader = source::open(context)?;
    let max = context.config.max_row_bytes;
    let mut bytes = Vec::new();
    let read = (&mut reader).take(max + 1).read_to_end(&mut bytes);
    read.map_err(|error| context.damaged(&origin, 0, error))?;
    if bytes.len() as u64 > max {
        return long(context, bytes, &mut *reader, sink, finish);
    }
    if bytes.is_empty() {
        return Ok(());
    }
    let start = bytes[..bytes.len().min(200)].to_vec();
    let Some(decoded) = decode::decode(bytes, None) else {
        return sink(Item::Rejected(Rejected::new(origin, "binary data and no text", &start)));
    };
    if decoded.text.trim().is_empty() {
        return sink(Item::Rejected(Rejected::new(origin, "no text but white space", &start)));
    }
    sink(Item::Row(Box::new(finish(row(decoded, origin)))))
}

fn row(decoded: Decoded, origin: Origin) -> Row {
    let mut row = Row::from_text(decoded.text, origin);
    if let Some(encoding) = decoded.encoding {
        row.metadata.set("encoding", encoding);
    }
    if decoded.num_broken > 0 {
        row.metadata.set("broken_characters", &decoded.num_broken);
    }
    row
}

/// A file that is longer than a row may be.
fn long(
    context: &Context<'_>,
    start: Vec<u8>,
    reader: &mut dyn BufRead,
    sink: &mut Sink<'_>,
    finish: impl Fn(Row) -> Row,
) -> Result<()> {
    let name = &context.file.name;
    let sample = &start[..start.len().min(decode::SAMPLE_BYTES)];
    let Some((encoding, mark)) = decode::encoding_of(sample, None) else {
        let origin = Origin { file: name.clone(), ..Origin::default() };
        return sink(Item::Rejected(Rejected::new(origin, "binary data and no text", &start)));
    };
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let max = context.config.max_row_bytes as usize;
    let (mut text, mut offset, mut num_rows) = (String::new(), 0u64, 0u64);
    let mut bytes = start[mark..].to_vec();
    drop(start);
    loop {
        let last = bytes.is_empty();
        let room = decoder.max_utf8_buffer_length(bytes.len()).unwrap_or(bytes.len() * 3 + 16);
        text.reserve(room);
        let _ = decoder.decode_to_string(&bytes, &mut text, last);
        while text.len() > max || (last && !text.is_empty()) {
            let end = if text.len() > max { cut(&text, max) } else { text.len() };
            let rest = text.split_off(end);
            let decoded = Decoded {
                num_broken: text.matches('\u{fffd}').count(),
                text: std::mem::replace(&mut text, rest),
                encoding: (encoding != encoding_rs::UTF_8).then(|| encoding.name()),
            };
            let length = decoded.text.len() as u64;
            sink(Item::Row(Box::new(finish(row(decoded, Origin::offset(name, offset))))))?;
            offset += length;
            num_rows += 1;
        }
        if last {
            return Ok(());
        }
        bytes.resize(1 << 20, 0);
        let read = reader.read(&mut bytes);
        let read = read.map_err(|error| context.damaged(&Origin::offset(name, offset), num_rows, error))?;
        bytes.truncate(read);
    }
}

/// Where to cut a text that is longer than `max`: behind a paragraph, a line, or at least a character.
fn cut(text: &str, max: usize) -> usize {
    let end = text.floor_char_boundary(max);
    let head = &text[..end];
    let at = head.rfind("\n\n").map(|at| at + 2).or_else(|| head.rfind('\n').map(|at| at + 1));
    at.filter(|&at| at > 0).unwrap_or(end.max(text.chars().next().map_or(1, char::len_utf8)))
}

pub(super) fn page(context: &Context<'_>, sink: &mut Sink<'_>) -> Result<()> {
    let origin = Origin { file: context.file.name.clone(), ..Origin::default() };
    let mut reader = source::open(context)?;
    let max = context.config.max_row_bytes;
    let bytes = source::read_whole(&mut *reader, max).map_err(|error| context.damaged(&origin, 0, error))?;
    let item = match bytes {
        None => Item::Rejected(Rejected::new(origin, format!("a page of more than {max} bytes"), b"")),
        Some(bytes) => page_item(bytes, origin, None, context.config.whole_pages),
    };
    sink(item)
}

/// The row of an HTML page.
pub(super) fn page_item(bytes: Vec<u8>, origin: Origin, charset: Option<&str>, whole: bool) -> Item {
    let start = bytes[..bytes.len().min(200)].to_vec();
    let label = charset.map(str::as_bytes).map(<[u8]>::to_vec).or_else(|| html::charset(&bytes));
    let label = label.and_then(|label| encoding_rs::Encoding::for_label(&label));
    let Some(decoded) = decode::decode(bytes, label) else {
        return Item::Rejected(Rejected::new(origin, "binary data and no text", &start));
    };
    let page = html::read(&decoded.text, whole);
    if page.text.is_empty() {
        return Item::Rejected(Rejected::new(origin, "a page without main text", &start));
    }
    let mut row = row(Decoded { text: page.text, ..decoded }, origin);
    if let Some(title) = page.title {
        row.metadata.set("title", &title);
    }
    Item::Row(Box::new(row))
}
