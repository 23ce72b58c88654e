//! Parquet: rows of any columns, a row group a piece. A damaged file is an error and never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use parquet::data_type::AsBytes as _;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use serde_json::{Map, Value};

use super::plan::{InputFile, Piece};
use super::{Context, Item, Rejected, Sink, shape};
use crate::row::Origin;
use crate::{Error, Result};

type Reader = SerializedFileReader<std::fs::File>;

fn open(file: &InputFile) -> Result<Reader> {
    let opened = fs_err::File::open(&file.path)?.into_parts().0;
    caught(|| SerializedFileReader::new(opened).map_err(|error| error.to_string()))
        .map_err(|reason| Error::Damaged { origin: format!("`{}`", file.name), num_rows: 0, reason })
}

/// The library checks most of what it reads; what it doesn't ends here.
fn caught<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(format!("the reader gave up: {}", crate::job::panic_text(&*panic))))
}

/// Row groups as pieces, with their sizes.
pub(super) fn pieces(at: usize, file: &InputFile) -> Result<Vec<(Piece, u64)>> {
    let reader = open(file)?;
    let mut before = 0;
    let mut pieces = Vec::new();
    for (index, group) in reader.metadata().row_groups().iter().enumerate() {
        let index = index as u64;
        let num_bytes = group.compressed_size().max(0) as u64;
        pieces.push((Piece { file: at, start: index, end: index + 1, before }, num_bytes));
        before += group.num_rows().max(0) as u64;
    }
    Ok(pieces)
}

pub(super) fn read(context: &Context<'_>, sink: &mut Sink<'_>) -> Result<()> {
    let name = &context.file.name;
    let reader = open(context.file)?;
    let mut at = context.piece.before;
    let damaged = |at: u64, reason: String| {
        context.damaged(&Origin::row(name, at + 1), at - context.piece.before, reason)
    };
    for index in context.piece.start..context.piece.end {
        let group = caught(|| reader.get_row_group(index as usize).map_err(|error| error.to_string()))
            .map_err(|reason| damaged(at, reason))?;
        let num_bytes = group.metadata().compressed_size().max(0) as u64;
        let mut rows = caught(|| group.get_row_iter(None).map_err(|error| error.to_string()))
            .map_err(|reason| damaged(at, reason))?;
        loop {
            let next = caught(|| rows.next().transpose().map_err(|error| error.to_string()));
            let Some(row) = next.map_err(|reason| damaged(at, reason))? else {
                break;
            };
            let columns = row.into_columns();
            let values = columns.into_iter().filter_map(|(name, field)| Some((name, value(field)?)));
            let origin = Origin::row(name, at + 1);
            let fields = shape::from_values(values.map(parsed), context.config);
            sink(match shape::row(fields, &origin, context.config) {
                Ok(row) => Item::Row(Box::new(row)),
                Err(reason) => Item::Rejected(Rejected::new(origin, reason, b"")),
            })?;
            at += 1;
        }
        context.read_bytes.fetch_add(num_bytes, Ordering::Relaxed);
    }
    Ok(())
}

/// Columns that hearth wrote as JSON are JSON again.
fn parsed((name, value): (String, Value)) -> (String, Value) {
    if let Value::String(text) = &value
        && (name == "origin" || name == "messages")
        && let Ok(value) = serde_json::from_str(text)
    {
        return (name, value);
    }
    (name, value)
}

/// A field as JSON; nothing for null.
fn value(field: Field) -> Option<Value> {
    Some(match field {
        Field::Null => return None,
        Field::Str(text) => Value::String(text),
        Field::Bytes(bytes) => Value::String(String::from_utf8_lossy(bytes.as_bytes()).into_owned()),
        Field::Group(row) => {
            let fields = row.into_columns().into_iter();
            Value::Object(
                fields.filter_map(|(name, field)| Some((name, value(field)?))).collect::<Map<_, _>>(),
            )
        }
        Field::ListInternal(list) => Value::Array(
            list.elements().iter().map(|field| value(field.clone()).unwrap_or(Value::Null)).collect(),
        ),
        Field::MapInternal(map) => {
            let entries = map.entries().iter();
            let entries = entries.filter_map(|(key, field)| Some((key.to_string(), value(field.clone())?)));
            Value::Object(entries.collect::<Map<_, _>>())
        }
        // Numbers and truth values are JSON as the library shows them; times are text.
        other => {
            let text = other.to_string();
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        }
    })
}
