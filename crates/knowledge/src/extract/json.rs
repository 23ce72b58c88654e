//! JSON and JSON Lines → a document for each row of text, else blocks of keys and values; notebooks → their cells.
//!
//! A row of text is an object with a `text` (or `contents`, `content`, `passage`, `body`), as collections for
//! search keep them: `{"_id": "7", "title": "…", "text": "…"}`. Keys stay in the order of the file.

mod value;

use std::collections::{BTreeMap, BTreeSet};

use super::table::{self, Header};
use super::{Extracted, Row, markdown, text};
use crate::document::{Block, BlockKind};
use crate::error::ExtractError;
use value::Json;

/// A larger file of one value is refused, since all of it is in memory at once; JSON Lines are read line by line.
const MAX_VALUE_BYTES: u64 = 64 << 20;

const ID_KEYS: &[&str] = &["_id", "id", "doc_id", "docid", "docno"];
const TEXT_KEYS: &[&str] = &["text", "contents", "content", "passage", "body"];

pub(super) fn extract(bytes: &[u8]) -> Result<Extracted, ExtractError> {
    if bytes.len() as u64 > MAX_VALUE_BYTES {
        return Err(ExtractError::TooLarge { bytes: bytes.len() as u64, limit: MAX_VALUE_BYTES });
    }
    let (source, note) = text::decode(bytes, None)?;
    let value: Json = serde_json::from_str(&source).map_err(ExtractError::damaged)?;
    let mut extracted = match value {
        Json::Object(entries) if entries.iter().any(|(key, _)| key == "nbformat") => notebook(&entries)?,
        Json::Array(items) if !items.is_empty() && items.iter().all(is_row) => rows(items),
        value => Extracted { blocks: blocks(&value), ..Extracted::default() },
    };
    extracted.notes.extend(note);
    Ok(extracted)
}

pub(super) fn extract_lines(bytes: &[u8]) -> Result<Extracted, ExtractError> {
    let (source, note) = text::decode(bytes, None)?;
    let mut values: Vec<Json> = Vec::new();
    let (mut broken, mut first_broken) = (0, String::new());
    for (index, line) in source.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match serde_json::from_str(line) {
            Ok(value) => values.push(value),
            Err(error) => {
                if broken == 0 {
                    first_broken = format!("line {}: {error}", index + 1);
                }
                broken += 1;
            }
        }
    }
    if values.is_empty() && broken > 0 {
        return Err(ExtractError::damaged(first_broken));
    }
    let is_rows = !values.is_empty() && values.iter().all(is_row);
    let mut extracted = if is_rows {
        rows(values)
    } else {
        Extracted { blocks: blocks(&Json::Array(values)), ..Extracted::default() }
    };
    if broken > 0 {
        extracted
            .notes
            .push(format!("{broken} lines are no JSON and were left out; the first is {first_broken}"));
    }
    extracted.notes.extend(note);
    Ok(extracted)
}

fn is_row(value: &Json) -> bool {
    value.first_of(TEXT_KEYS).is_some_and(|text| matches!(text, Json::Text(_)))
}

fn rows(values: Vec<Json>) -> Extracted {
    let mut ids = BTreeSet::new();
    let mut rows = Vec::with_capacity(values.len());
    let (mut left_out, mut twice): (BTreeMap<String, usize>, usize) = (BTreeMap::new(), 0);
    for (index, value) in values.into_iter().enumerate() {
        let id = value.first_of(ID_KEYS).and_then(Json::scalar).filter(|id| !id.is_empty());
        let mut id = id.unwrap_or_else(|| format!("#{}", index + 1));
        if !ids.insert(id.clone()) {
            twice += 1;
            id = format!("{id} (row {})", index + 1);
        }
        let title = value.get("title").and_then(Json::scalar);
        let body = value.first_of(TEXT_KEYS).and_then(Json::scalar).unwrap_or_default();
        for key in
            value.keys().filter(|key| !ID_KEYS.contains(key) && !TEXT_KEYS.contains(key) && *key != "title")
        {
            *left_out.entry(key.to_string()).or_default() += 1;
        }
        rows.push(Row { id, title, blocks: text::blocks(&body) });
    }
    let mut notes = Vec::new();
    if !left_out.is_empty() {
        let fields: Vec<String> = left_out.iter().map(|(key, count)| format!("`{key}` ({count})")).collect();
        notes.push(format!("fields of the rows that were left out: {}", fields.join(", ")));
    }
    if twice > 0 {
        notes.push(format!("{twice} ids occur more than once"));
    }
    Extracted { notes, rows, ..Extracted::default() }
}

fn blocks(value: &Json) -> Vec<Block> {
    let mut blocks = Vec::new();
    write(None, value, 1, &mut blocks);
    blocks
}

/// Nested keys become headings; lists of alike flat objects become tables.
fn write(key: Option<&str>, value: &Json, level: u8, blocks: &mut Vec<Block>) {
    let inner = if key.is_some() { (level + 1).min(9) } else { level };
    if let Some(scalar) = value.scalar() {
        match key {
            Some(key) => blocks.push(Block::new(BlockKind::Paragraph, format!("{key}: {scalar}"))),
            None => blocks.extend(text::blocks(&scalar)),
        }
        return;
    }
    if let (Json::Array(items), Some(key)) = (value, key) {
        let scalars: Option<Vec<String>> = items.iter().map(Json::scalar).collect();
        if let Some(list) = scalars.map(|scalars| scalars.join(", ")).filter(|list| list.len() < 200) {
            blocks.push(Block::new(BlockKind::Paragraph, format!("{key}: {list}")));
            return;
        }
    }
    if let Some(key) = key {
        blocks.push(Block::new(BlockKind::Heading(level), key));
    }
    match value {
        Json::Object(entries) => {
            for (key, value) in entries {
                write(Some(key), value, inner, blocks);
            }
        }
        Json::Array(items) => match flat_table(items) {
            Some(rows) => blocks.extend(table::blocks(rows, Header::Rows(1), None)),
            None => {
                for (index, item) in items.iter().enumerate() {
                    let name = item.first_of(&["title", "name", "id", "_id", "key"]).and_then(Json::scalar);
                    match item.scalar() {
                        Some(scalar) => blocks.push(Block::new(BlockKind::ListItem, format!("- {scalar}"))),
                        None => {
                            let name = name.unwrap_or_else(|| format!("{}", index + 1));
                            write(Some(&name), item, inner, blocks);
                        }
                    }
                }
            }
        },
        _ => {}
    }
}

/// Keys as the header row, then a row an object; `None` if they aren't flat or have too many different keys.
fn flat_table(items: &[Json]) -> Option<Vec<Vec<String>>> {
    let mut columns: Vec<&str> = Vec::new();
    for item in items {
        let Json::Object(entries) = item else {
            return None;
        };
        for (key, value) in entries {
            value.scalar()?;
            if !columns.contains(&key.as_str()) {
                columns.push(key);
            }
        }
        if columns.len() > 64 {
            return None;
        }
    }
    let rows = items.iter().map(|item| {
        let cell = |key: &&str| item.get(key).and_then(Json::scalar).unwrap_or_default();
        columns.iter().map(cell).collect()
    });
    let header = columns.iter().map(ToString::to_string).collect();
    (items.len() > 1).then(|| std::iter::once(header).chain(rows).collect())
}

/// A Jupyter notebook (nbformat 3 and 4): text and code in their order, without what the code printed.
fn notebook(entries: &[(String, Json)]) -> Result<Extracted, ExtractError> {
    let find = |key: &str| entries.iter().find(|(name, _)| name == key).map(|(_, value)| value);
    let mut extracted = Extracted::default();
    let mut outputs = 0;
    let Some(Json::Array(cells)) = find("cells") else {
        return Err(ExtractError::damaged("a notebook without `cells`"));
    };
    for cell in cells {
        let source = match cell.get("source") {
            Some(Json::Array(lines)) => lines.iter().filter_map(Json::scalar).collect(),
            Some(source) => source.scalar().unwrap_or_default(),
            None => String::new(),
        };
        match cell.get("cell_type").and_then(Json::scalar).as_deref() {
            Some("markdown") => extracted.blocks.extend(markdown::extract(source.as_bytes())?.blocks),
            _ => extracted.blocks.push(Block::new(BlockKind::Code, source)),
        }
        outputs +=
            usize::from(matches!(cell.get("outputs"), Some(Json::Array(outputs)) if !outputs.is_empty()));
    }
    if outputs > 0 {
        extracted.notes.push(format!("the outputs of {outputs} cells were left out"));
    }
    Ok(extracted)
}

#[cfg(test)]
mod tests;
