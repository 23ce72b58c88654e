//! CSV and TSV: a row for each record, by the names of the first line. A record is bounded, an open quote too.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::rc::Rc;

use csv::{ByteRecord, ReaderBuilder};
use serde_json::Value;

use super::{Context, Item, Rejected, Sink, decode, shape, source};
use crate::row::{Origin, Row};
use crate::{Error, Result};

/// Fails when too much was read since the last record: a quote that never closes.
struct Bounded<'a> {
    inner: Box<dyn BufRead + 'a>,
    since: Rc<Cell<u64>>,
    max: u64,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.since.get() > self.max {
            let reason =
                format!("a record is longer than `max_row_bytes` {}; is a quote left open?", self.max);
            return Err(io::Error::other(reason));
        }
        let read = self.inner.read(buffer)?;
        self.since.set(self.since.get() + read as u64);
        Ok(read)
    }
}

pub(super) fn read(context: &Context<'_>, delimiter: u8, sink: &mut Sink<'_>) -> Result<()> {
    let name = &context.file.name;
    let since = Rc::new(Cell::new(0));
    let max = context.config.max_row_bytes;
    let bounded = Bounded { inner: source::open(context)?, since: Rc::clone(&since), max };
    let mut reader = ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(bounded);
    let headers = reader.byte_headers().map_err(|error| context.damaged(&Origin::line(name, 1), 0, error))?;
    let headers: Vec<String> = headers
        .iter()
        .map(|header| decode::decode(header.to_vec(), None).map_or_else(String::new, |name| name.text))
        .map(|header| header.trim().to_owned())
        .collect();
    if headers.iter().all(String::is_empty) {
        let reason = "no names in the first line".into();
        return Err(Error::Unreadable { path: context.file.path.clone(), reason });
    }
    let mut record = ByteRecord::new();
    let mut num_rows = 0;
    loop {
        let more = reader.read_byte_record(&mut record);
        let line = record.position().map_or(0, csv::Position::line);
        let origin = Origin::line(name, line);
        if !more.map_err(|error| context.damaged(&origin, num_rows, error))? {
            return Ok(());
        }
        since.set(0);
        num_rows += 1;
        sink(match row(&headers, &record, &origin, context) {
            Ok(row) => Item::Row(Box::new(row)),
            Err(reason) => Item::Rejected(Rejected::new(origin, reason, record.as_slice())),
        })?;
    }
}

fn row(
    headers: &[String],
    record: &ByteRecord,
    origin: &Origin,
    context: &Context<'_>,
) -> Result<Row, String> {
    if record.len() != headers.len() {
        return Err(format!("{} fields where the first line names {}", record.len(), headers.len()));
    }
    let mut values = Vec::with_capacity(headers.len());
    let mut encoding = None;
    for (header, field) in headers.iter().zip(record) {
        let decoded =
            decode::decode(field.to_vec(), None).ok_or_else(|| format!("`{header}` holds no text"))?;
        encoding = encoding.or(decoded.encoding);
        values.push((header.clone(), Value::String(decoded.text)));
    }
    let mut row = shape::row(shape::from_values(values, context.config), origin, context.config)?;
    if let Some(encoding) = encoding {
        row.metadata.set("encoding", encoding);
    }
    Ok(row)
}
