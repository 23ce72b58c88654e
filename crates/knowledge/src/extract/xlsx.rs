//! Excel workbooks (ECMA-376 `SpreadsheetML`) → a heading for each sheet and its tables.
//!
//! Formulas give the value they had when the file was saved. Dates and percentages are written as they are shown, other
//! numbers as they are. Empty rows divide the tables of a sheet; a row of one cell above a table is a paragraph.
//! Left out on purpose: charts, comments, pictures, colours.

mod number;

use std::collections::{BTreeMap, BTreeSet};

use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use super::table::{self, Header};
use super::xml::event_text;
use super::zipped::Archive;
use super::{Extracted, one_line};
use crate::document::{Block, BlockKind};
use crate::error::ExtractError;
use number::Format;

/// Excel's own limits (its specification and limits page).
const MAX_ROW: usize = 1 << 20;
const MAX_COLUMN: usize = 1 << 14;

/// Cells that merged cells may add to all sheets together.
const MAX_MERGED_CELLS: usize = 1 << 20;

type Rows = BTreeMap<usize, BTreeMap<usize, String>>;

pub(super) fn extract(bytes: &[u8]) -> Result<Extracted, ExtractError> {
    let mut archive = Archive::open(bytes)?;
    let title = archive.core_title();
    let workbook = archive.xml("xl/workbook.xml")?;
    let workbook = workbook.ok_or_else(|| ExtractError::damaged("no `xl/workbook.xml` inside"))?;
    let relations = archive.relations("xl/workbook.xml")?;
    let of_kind =
        |kind: &str| relations.values().find(|(found, _)| found == kind).map(|(_, target)| target.clone());
    let date1904 = workbook.find("workbookPr").and_then(|properties| properties.attribute("date1904"));
    let mut book = Book {
        strings: match of_kind("sharedStrings") {
            Some(part) => archive.text(&part)?.map_or(Ok(Vec::new()), |xml| shared_strings(&xml))?,
            None => Vec::new(),
        },
        formats: match of_kind("styles") {
            Some(part) => archive.xml(&part)?.map_or(Vec::new(), |styles| number::formats(&styles)),
            None => Vec::new(),
        },
        from_1904: matches!(date1904, Some("1" | "true")),
        merged: 0,
    };
    let mut extracted = Extracted { title, ..Extracted::default() };
    let mut hidden = Vec::new();
    for sheet in workbook.child("sheets").into_iter().flat_map(|sheets| sheets.named("sheet")) {
        let name = sheet.attribute("name").unwrap_or("Sheet").to_string();
        let target = sheet.attribute("id").and_then(|id| relations.get(id));
        let Some((kind, part)) = target.filter(|(kind, _)| kind == "worksheet") else {
            extracted.notes.push(format!("sheet `{name}` has no cells (a chart?)"));
            continue;
        };
        debug_assert_eq!(kind, "worksheet");
        let Some(xml) = archive.text(part)? else {
            extracted.notes.push(format!("sheet `{name}` is missing in the file"));
            continue;
        };
        if sheet.attribute("state").is_some_and(|state| state != "visible") {
            hidden.push(name.clone());
        }
        let rows = book.sheet(&xml)?;
        extracted.blocks.push(Block::new(BlockKind::Heading(1), name));
        for region in regions(rows) {
            extracted.blocks.extend(region_blocks(region));
        }
    }
    if !hidden.is_empty() {
        extracted.notes.push(format!("hidden sheets were read too: {}", hidden.join(", ")));
    }
    if archive.names().any(|name| name.contains("comments")) {
        extracted.notes.push("comments were left out".into());
    }
    let only_headings = extracted.blocks.iter().all(|block| matches!(block.kind, BlockKind::Heading(_)));
    if only_headings { Err(ExtractError::NoText) } else { Ok(extracted) }
}

struct Book {
    strings: Vec<String>,
    formats: Vec<Format>,
    /// Days count from 1904 instead of 1900.
    from_1904: bool,
    merged: usize,
}

/// The texts that cells refer to; phonetic readings (`rPh`) are no part of them.
fn shared_strings(xml: &str) -> Result<Vec<String>, ExtractError> {
    let mut strings = Vec::new();
    let mut text = String::new();
    let (mut inside, mut phonetic) = (false, false);
    let mut reader = Reader::from_str(xml);
    loop {
        let event = reader.read_event().map_err(ExtractError::damaged)?;
        match &event {
            Event::Start(element) => match element.local_name().as_ref() {
                "t" => inside = true,
                "rPh" => phonetic = true,
                _ => {}
            },
            Event::Empty(element) if element.local_name().as_ref() == "si" => strings.push(String::new()),
            Event::End(element) => match element.local_name().as_ref() {
                "t" => inside = false,
                "rPh" => phonetic = false,
                "si" => strings.push(one_line(&std::mem::take(&mut text))),
                _ => {}
            },
            Event::Eof => return Ok(strings),
            event if inside && !phonetic => text.extend(event_text(event)),
            _ => {}
        }
    }
}

/// The cell that is being read.
#[derive(Default)]
struct Cell {
    column: usize,
    kind: String,
    style: usize,
    text: String,
}

impl Book {
    fn sheet(&mut self, xml: &str) -> Result<Rows, ExtractError> {
        let mut rows = Rows::new();
        let mut merges = Vec::new();
        let (mut row, mut column, mut inside) = (0, 0, false);
        let mut cell = Cell::default();
        let mut reader = Reader::from_str(xml);
        loop {
            let event = reader.read_event().map_err(ExtractError::damaged)?;
            match &event {
                Event::Start(element) | Event::Empty(element) => match element.local_name().as_ref() {
                    "row" => {
                        let number = attribute(element, "r").and_then(|number| number.parse::<usize>().ok());
                        row = number.unwrap_or(row + 1).min(MAX_ROW);
                        column = 0;
                    }
                    "c" => {
                        let place = attribute(element, "r").and_then(|place| place_of(&place));
                        column = place.map_or(column + 1, |(_, column)| column).min(MAX_COLUMN);
                        let style = attribute(element, "s").and_then(|style| style.parse().ok());
                        cell = Cell {
                            column,
                            kind: attribute(element, "t").unwrap_or_default(),
                            style: style.unwrap_or(0),
                            text: String::new(),
                        };
                    }
                    "v" | "t" => inside = matches!(event, Event::Start(_)),
                    "mergeCell" => {
                        merges.extend(attribute(element, "ref").and_then(|range| range_of(&range)));
                    }
                    _ => {}
                },
                Event::End(element) => match element.local_name().as_ref() {
                    "v" | "t" => inside = false,
                    "c" => {
                        let text = self.show(&cell);
                        if !text.is_empty() {
                            rows.entry(row).or_default().insert(cell.column, text);
                        }
                    }
                    _ => {}
                },
                Event::Eof => break,
                event if inside => cell.text.extend(event_text(event)),
                _ => {}
            }
        }
        self.fill_merged(&mut rows, &merges);
        Ok(rows)
    }

    fn show(&self, cell: &Cell) -> String {
        match cell.kind.as_str() {
            "s" => {
                let index = cell.text.trim().parse::<usize>().ok();
                index.and_then(|index| self.strings.get(index)).cloned().unwrap_or_default()
            }
            "b" => if cell.text.trim() == "1" { "TRUE" } else { "FALSE" }.into(),
            "inlineStr" | "str" | "e" => one_line(&cell.text),
            // ISO 8601, in files of the strict kind.
            "d" => one_line(&cell.text).trim_end_matches("T00:00:00").into(),
            _ => match cell.text.trim().parse::<f64>() {
                Ok(value) => {
                    let format = self.formats.get(cell.style).copied().unwrap_or_default();
                    format.show(value, cell.text.trim(), self.from_1904)
                }
                Err(_) => one_line(&cell.text),
            },
        }
    }

    /// A merged cell's text stands in its first cell; each row it covers that has others gets it too.
    fn fill_merged(&mut self, rows: &mut Rows, merges: &[[usize; 4]]) {
        for [top, left, bottom, _] in merges {
            let Some(text) = rows.get(top).and_then(|row| row.get(left)).cloned() else {
                continue;
            };
            for (_, row) in rows.range_mut(top + 1..=*bottom) {
                if self.merged >= MAX_MERGED_CELLS {
                    return;
                }
                self.merged += 1;
                row.entry(*left).or_insert_with(|| text.clone());
            }
        }
    }
}

/// Excel's attributes never have a namespace, but for the relationship ids, which `Element` reads.
fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let found = element.attributes().flatten().find(|attribute| attribute.key.as_ref() == name)?;
    let value = found.normalized_value(quick_xml::XmlVersion::Implicit1_0).ok()?;
    Some(value.into_owned())
}

/// `AB12` → (12, 28).
fn place_of(place: &str) -> Option<(usize, usize)> {
    let letters = place.bytes().take_while(u8::is_ascii_uppercase).count();
    let column =
        place.bytes().take(letters.min(3)).fold(0, |n, letter| n * 26 + (letter - b'A' + 1) as usize);
    let row = place[letters..].parse().ok()?;
    (column > 0 && letters <= 3).then_some((row, column))
}

/// `B2:C5` → top, left, bottom, right.
fn range_of(range: &str) -> Option<[usize; 4]> {
    let (from, to) = range.split_once(':')?;
    let ((top, left), (bottom, right)) = (place_of(from)?, place_of(to)?);
    (bottom > top).then_some([top, left, bottom, right])
}

fn regions(rows: Rows) -> Vec<Vec<BTreeMap<usize, String>>> {
    let mut regions: Vec<Vec<BTreeMap<usize, String>>> = Vec::new();
    let mut last = None;
    for (number, row) in rows {
        if last.is_none_or(|last: usize| last + 1 != number) {
            regions.push(Vec::new());
        }
        last = Some(number);
        if let Some(region) = regions.last_mut() {
            region.push(row);
        }
    }
    regions
}

fn region_blocks(region: Vec<BTreeMap<usize, String>>) -> Vec<Block> {
    let mut blocks = Vec::new();
    let widest = region.iter().map(BTreeMap::len).max().unwrap_or(0);
    let num_captions =
        region.iter().take_while(|row| row.len() == 1 && (widest > 1 || region.len() == 1)).count();
    let mut rows = region.into_iter();
    for caption in rows.by_ref().take(num_captions) {
        blocks.extend(caption.into_values().map(|text| Block::new(BlockKind::Paragraph, text)));
    }
    let rows: Vec<_> = rows.collect();
    let used: BTreeSet<usize> = rows.iter().flat_map(|row| row.keys().copied()).collect();
    let too_wide = used.len().saturating_mul(rows.len()) > 1 << 22;
    let rows = rows.into_iter().map(|mut row| {
        if too_wide {
            return row.into_values().collect();
        }
        used.iter().map(|column| row.remove(column).unwrap_or_default()).collect()
    });
    blocks.extend(table::blocks(rows.collect(), Header::Guess, None));
    blocks
}

#[cfg(test)]
mod tests;
