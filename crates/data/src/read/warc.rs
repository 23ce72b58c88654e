//! WARC and WET files (ISO 28500): main text of pages from `response` records, text of `conversion` records. Each
//! record's address, type and date go into the row's metadata; records without text are counted by the job as rejected
//! only where they should have had some.

use std::io::{BufRead, Read};

use super::source::{self, Line};
use super::text::page_item;
use super::{Context, Item, Rejected, Sink, decode};
use crate::Result;
use crate::row::{Origin, Row};

/// A header is no longer than this.
const MAX_HEADER_BYTES: u64 = 64 << 10;
const MAX_HEADER_LINES: usize = 200;

#[derive(Debug, Default)]
struct Header {
    kind: String,
    length: u64,
    uri: Option<String>,
    date: Option<String>,
    id: Option<String>,
}

pub(super) fn read(context: &Context<'_>, sink: &mut Sink<'_>) -> Result<()> {
    let name = &context.file.name;
    let mut reader = source::open(context)?;
    let max = context.config.max_row_bytes;
    let (mut offset, mut num_records) = (0u64, 0u64);
    loop {
        let origin = Origin::offset(name, offset);
        let damaged = |reason: String| context.damaged(&origin, num_records, reason);
        let Some(header) = header(&mut *reader, &mut offset).map_err(damaged)? else {
            return Ok(());
        };
        let mut body = Vec::new();
        let read = (&mut reader).take(header.length.min(max)).read_to_end(&mut body);
        let mut taken = read.map_err(|error| damaged(error.to_string()))? as u64;
        if header.length > max {
            let mut rest = (&mut reader).take(header.length - taken);
            taken +=
                std::io::copy(&mut rest, &mut std::io::sink()).map_err(|error| damaged(error.to_string()))?;
        }
        if taken < header.length {
            return Err(damaged(format!("the file ends {} bytes before its record", header.length - taken)));
        }
        offset += taken;
        num_records += 1;
        if header.length > max {
            let reason = format!("a record of {} bytes is longer than `max_row_bytes` {max}", header.length);
            sink(Item::Rejected(Rejected::new(origin, reason, &body)))?;
        } else if let Some(item) = item(&header, body, origin, context) {
            sink(item)?;
        }
    }
}

/// The next record's header; none at the end of the file.
fn header(reader: &mut dyn BufRead, offset: &mut u64) -> Result<Option<Header>, String> {
    let mut line = Vec::new();
    let mut header = Header::default();
    let mut begun = false;
    let mut length = None;
    for _ in 0..MAX_HEADER_LINES {
        match source::next_line(reader, &mut line, MAX_HEADER_BYTES).map_err(|error| error.to_string())? {
            Line::End if begun => return Err("the file ends in the middle of a record's header".into()),
            Line::End => return Ok(None),
            Line::TooLong(length) => return Err(format!("a header line of {length} bytes")),
            Line::Whole => *offset += line.len() as u64 + 1,
        }
        let text = String::from_utf8_lossy(line.trim_ascii());
        if !begun {
            if text.is_empty() {
                continue;
            }
            if !text.starts_with("WARC/") {
                return Err(format!(
                    "`{}` where a record should begin with `WARC/`",
                    &text[..text.floor_char_boundary(40)]
                ));
            }
            begun = true;
            continue;
        }
        if text.is_empty() {
            header.length = length.ok_or("a record without `Content-Length`")?;
            return Ok(Some(header));
        }
        let Some((name, value)) = text.split_once(':') else { continue };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "warc-type" => header.kind = value.to_ascii_lowercase(),
            "content-length" => {
                length = Some(value.parse().map_err(|_| format!("`Content-Length` is `{value}`"))?);
            }
            "warc-target-uri" => header.uri = Some(value.trim_matches(['<', '>']).to_owned()),
            "warc-date" => header.date = Some(value.to_owned()),
            "warc-record-id" => header.id = Some(value.trim_matches(['<', '>']).to_owned()),
            _ => {}
        }
    }
    Err(format!("a header of more than {MAX_HEADER_LINES} lines"))
}

/// What a record gives; nothing for requests, notes and pictures.
fn item(header: &Header, body: Vec<u8>, origin: Origin, context: &Context<'_>) -> Option<Item> {
    let whole = context.config.whole_pages;
    let mut item = match header.kind.as_str() {
        "conversion" => text(body, origin),
        "response" => {
            let (head, page) = split_http(&body)?;
            let field = |name: &str| {
                head.lines().find_map(|line| {
                    let (key, value) = line.split_once(':')?;
                    key.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_ascii_lowercase())
                })
            };
            let kind = field("content-type").unwrap_or_default();
            let encoding = field("content-encoding").unwrap_or_default();
            let page = unpacked(page, &encoding, context.config.max_row_bytes);
            let charset = kind.split("charset=").nth(1).map(|name| name.trim_matches(['"', ' ', ';']));
            match page {
                Err(reason) => Item::Rejected(Rejected::new(origin, reason, &body)),
                Ok(page) if kind.starts_with("text/plain") => text(page, origin),
                Ok(page) if kind.contains("html") => page_item(page, origin, charset, whole),
                Ok(_) => return None,
            }
        }
        "resource" => page_item(body, origin, None, whole),
        _ => return None,
    };
    if let Item::Row(row) = &mut item {
        for (name, value) in [("url", &header.uri), ("date", &header.date)] {
            if let Some(value) = value {
                row.metadata.set(name, value);
            }
        }
        if let Some(id) = &header.id {
            row.id.clone_from(id);
        }
    }
    Some(item)
}

fn text(bytes: Vec<u8>, origin: Origin) -> Item {
    let start = bytes[..bytes.len().min(200)].to_vec();
    match decode::decode(bytes, None) {
        Some(decoded) if !decoded.text.trim().is_empty() => {
            let mut row = Row::from_text(decoded.text, origin);
            if let Some(encoding) = decoded.encoding {
                row.metadata.set("encoding", encoding);
            }
            Item::Row(Box::new(row))
        }
        Some(_) => Item::Rejected(Rejected::new(origin, "no text but white space", &start)),
        None => Item::Rejected(Rejected::new(origin, "binary data and no text", &start)),
    }
}

fn split_http(body: &[u8]) -> Option<(String, &[u8])> {
    let (at, gap) = memchr::memmem::find(body, b"\r\n\r\n")
        .map(|at| (at, 4))
        .or_else(|| memchr::memmem::find(body, b"\n\n").map(|at| (at, 2)))?;
    Some((String::from_utf8_lossy(&body[..at]).into_owned(), &body[at + gap..]))
}

/// A page as its server packed it; crawlers mostly unpack before they write, and leave the header as it was.
fn unpacked(page: &[u8], encoding: &str, max: u64) -> Result<Vec<u8>, String> {
    if encoding != "gzip" || !page.starts_with(&[0x1f, 0x8b]) {
        return Ok(page.to_vec());
    }
    let mut bytes = Vec::new();
    let mut decoder = flate2::read::MultiGzDecoder::new(page).take(max + 1);
    decoder.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    match bytes.len() as u64 > max {
        true => Err(format!("a page that unpacks to more than `max_row_bytes` {max}")),
        false => Ok(bytes),
    }
}
