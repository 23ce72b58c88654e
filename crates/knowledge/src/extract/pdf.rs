//! PDF (ISO 32000) → blocks with page numbers: text where it is drawn, headings by size of type.
//!
//! `content` runs a page's drawing program and notes each character with its place, `font` says which characters
//! the codes mean, `layout` makes lines, tables and paragraphs. Pages that are pictures go to the reader of pictures
//! (`scan`). Left out on purpose: pictures within text, forms, annotations.

mod cmap;
mod content;
mod font;
pub(super) mod layout;
mod path;
mod scan;

use std::collections::{BTreeMap, BTreeSet};

use lopdf::{Document, LoadOptions};

use super::table::{self, Header};
use super::{ExtractOptions, Extracted, MAX_UNPACKED_BYTES, one_line};
use crate::document::{Block, BlockKind};
use crate::error::ExtractError;
use layout::Paragraph;

/// One stream may unpack to this; a page of dense text needs a thousandth.
const MAX_STREAM_BYTES: usize = 64 << 20;

/// Objects take some 1.4 kB each while they are loaded, all at once (measured on a file of a million). A manual of a thousand
/// pages with all its tags has some 150,000.
const MAX_OBJECTS: usize = 500_000;

/// Above this share of characters without meaning a document is refused, below it the loss is noted.
const MAX_UNKNOWN_SHARE: f64 = 0.3;

/// Type this much larger than the body's is a heading.
const HEADING_SCALE: f64 = 1.12;

/// Longer lines are no headings, whatever their type.
const MAX_HEADING_CHARS: usize = 120;

pub(super) fn extract(bytes: &[u8], options: &ExtractOptions<'_>) -> Result<Extracted, ExtractError> {
    let document = load(bytes)?;
    let mut reader = content::Reader::new(&document);
    let mut pages: Vec<(u32, Vec<Paragraph>)> = Vec::new();
    let (mut unread_pages, mut unknown, mut total) = (Vec::new(), 0, 0);
    let mut notes = Vec::new();
    let mut budget = MAX_UNPACKED_BYTES;
    for (number, page_id) in document.get_pages() {
        let page = reader.read_page(page_id, &mut budget)?;
        if page.cut {
            notes.push(format!("page {number} holds more than can be read; the rest was left out"));
        }
        unknown += page.unknown;
        total += page.unknown + page.glyphs.len();
        let mut paragraphs = layout::paragraphs(&page);
        let (size, turns) = match document.get_dictionary(page_id) {
            Ok(dictionary) => scan::page_box(&document, dictionary),
            Err(_) => ((0.0, 0.0), 0),
        };
        let pictures = scan::pictures_to_read(&page, size);
        if let Some(reader) = options.pictures {
            for drawn in &pictures {
                match scan::read(&document, drawn, turns, reader, &mut notes) {
                    Ok(found) => paragraphs.extend(found),
                    Err(reason) => notes.push(format!("page {number}: {reason}")),
                }
            }
        }
        if paragraphs.is_empty() || options.pictures.is_none() && !pictures.is_empty() {
            unread_pages.push(number);
        }
        if !paragraphs.is_empty() {
            pages.push((number, paragraphs));
        }
    }
    if unknown as f64 > MAX_UNKNOWN_SHARE * total as f64 {
        return Err(ExtractError::UnknownCharacters { unknown, total });
    }
    if pages.is_empty() {
        return Err(if document.xref_recovery.is_some() {
            ExtractError::damaged("the file is cut off or broken, and no text could be recovered")
        } else if let Some(reason) = notes.into_iter().next() {
            ExtractError::PictureReader { reason }
        } else if options.pictures.is_some() {
            ExtractError::NoText
        } else {
            ExtractError::Scan
        });
    }
    if document.xref_recovery.is_some() {
        notes.push("the file is damaged; what could be recovered was read".to_string());
    }
    if unknown > 0 {
        notes.push(format!("{unknown} of {total} characters have no meaning in their font"));
    }
    if !unread_pages.is_empty() {
        notes.push(format!("no text, or hardly any, on pages {unread_pages:?} (scans?)"));
    }
    let repeated = drop_repeated_margins(&mut pages);
    if repeated > 0 {
        notes.push(format!("{repeated} running heads, feet and page numbers left out"));
    }
    let outline = outline(&document);
    Ok(Extracted { title: title(&document), blocks: blocks(pages, &outline), notes, ..Extracted::default() })
}

/// The titles of the outline with their levels.
fn outline(document: &Document) -> BTreeMap<String, u8> {
    let entries = document.get_toc().map(|toc| toc.toc).unwrap_or_default();
    let level = |level: usize| (level as u8).clamp(1, 6);
    entries.into_iter().map(|entry| (one_line(&entry.title), level(entry.level))).collect()
}

fn load(bytes: &[u8]) -> Result<Document, ExtractError> {
    let count = count_objects(bytes);
    if count > MAX_OBJECTS {
        return Err(ExtractError::TooManyObjects { count, limit: MAX_OBJECTS });
    }
    let options = LoadOptions { max_decompressed_size: Some(MAX_STREAM_BYTES), ..LoadOptions::default() };
    let document = Document::load_mem_with_options(bytes, options).map_err(|error| match error {
        lopdf::Error::Decryption(_) | lopdf::Error::InvalidPassword => ExtractError::Encrypted,
        error => ExtractError::damaged(error),
    })?;
    if document.is_encrypted() {
        return Err(ExtractError::Encrypted);
    }
    if document.get_pages().is_empty() {
        return Err(ExtractError::damaged("no pages can be found inside"));
    }
    Ok(document)
}

/// The objects that stand in the file and those that its object streams (ISO 32000-1, 7.5.7) say they hold.
fn count_objects(bytes: &[u8]) -> usize {
    let mut count = 0usize;
    for (at, window) in bytes.windows(4).enumerate() {
        if window == b" obj" {
            count += 1;
        } else if window == b"/Obj" && bytes[at..].starts_with(b"/ObjStm") {
            // `/N` stands in the same dictionary, before or after the type.
            let dictionary = &bytes[at.saturating_sub(200)..(at + 200).min(bytes.len())];
            let numbers = dictionary.windows(3).enumerate().filter(|(_, key)| *key == b"/N ");
            let number = numbers.map(|(at, _)| {
                let digits = dictionary[at + 3..].iter().take_while(|byte| byte.is_ascii_digit());
                digits.fold(0usize, |number, byte| {
                    number.saturating_mul(10).saturating_add((byte - b'0').into())
                })
            });
            count = count.saturating_add(number.max().unwrap_or(0));
        }
    }
    count
}

fn title(document: &Document) -> Option<String> {
    let info = document.trailer.get(b"Info").ok()?;
    let (_, info) = document.dereference(info).ok()?;
    let title = lopdf::decode_text_string(info.as_dict().ok()?.get(b"Title").ok()?).ok()?;
    // Programs put the name of the source file here, which says less than the first heading.
    let is_file_name = [".doc", ".docx", ".html", ".tex", ".indd", ".odt"]
        .iter()
        .any(|extension| title.to_lowercase().ends_with(extension));
    let meaningless = ["untitled", "about:blank", "(anonymous)"].contains(&title.to_lowercase().as_str());
    (!is_file_name && !meaningless).then_some(title)
}

/// Takes out first and last lines that stand, but for their digits, on at least three pages and half of all, or on both of
/// two.
fn drop_repeated_margins(pages: &mut [(u32, Vec<Paragraph>)]) -> usize {
    let mask = |paragraph: &Paragraph| -> String {
        let mut mask = String::new();
        for c in paragraph.text.chars() {
            match c.is_numeric() {
                false => mask.push(c),
                true if mask.ends_with('#') => {}
                true => mask.push('#'),
            }
        }
        mask
    };
    let margin = |paragraphs: &[Paragraph]| -> BTreeSet<usize> {
        let by_height = |index: &usize| ordered(paragraphs[*index].y);
        let top = (0..paragraphs.len()).max_by_key(by_height);
        let bottom = (0..paragraphs.len()).min_by_key(by_height);
        top.into_iter().chain(bottom).collect()
    };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (_, paragraphs) in pages.iter() {
        let masks: BTreeSet<String> =
            margin(paragraphs).into_iter().map(|index| mask(&paragraphs[index])).collect();
        for mask in masks {
            *counts.entry(mask).or_default() += 1;
        }
    }
    let needed = (pages.len() / 2).max(if pages.len() == 2 { 2 } else { 3 });
    // A running head and a foot: two lines a page at most.
    let repeated = |paragraphs: &[Paragraph]| -> Vec<usize> {
        let margin = margin(paragraphs).into_iter().rev();
        margin.filter(|&index| counts[&mask(&paragraphs[index])] >= needed).collect()
    };
    // Where nothing else is on any page, that is the text.
    if pages.iter().all(|(_, paragraphs)| repeated(paragraphs).len() == paragraphs.len()) {
        return 0;
    }
    let mut dropped = 0;
    for (_, paragraphs) in pages.iter_mut() {
        for index in repeated(paragraphs) {
            paragraphs.remove(index);
            dropped += 1;
        }
    }
    dropped
}

fn ordered(value: f64) -> i64 {
    (value * 1000.0) as i64
}

pub(super) fn blocks(pages: Vec<(u32, Vec<Paragraph>)>, outline: &BTreeMap<String, u8>) -> Vec<Block> {
    let levels = Levels::new(pages.iter().flat_map(|(_, paragraphs)| paragraphs));
    let mut blocks = Vec::new();
    for (number, paragraphs) in pages {
        let mut rows: Vec<Vec<String>> = Vec::new();
        for paragraph in paragraphs {
            if paragraph.kind == BlockKind::TableRow {
                rows.push(paragraph.text.split(layout::CELL).map(String::from).collect());
                continue;
            }
            blocks.extend(table::blocks(std::mem::take(&mut rows), Header::Guess, Some(number)));
            let kind = match paragraph.kind {
                BlockKind::Paragraph => match outline.get(&one_line(&paragraph.text)) {
                    Some(level) => BlockKind::Heading(*level),
                    None => levels.kind(&paragraph),
                },
                kind => kind,
            };
            blocks.push(Block { kind, text: paragraph.text, page: Some(number) });
        }
        blocks.extend(table::blocks(rows, Header::Guess, Some(number)));
    }
    blocks
}

/// The sizes of type in a document, in tenths of a point.
struct Levels {
    body: i64,
    /// Sizes of headings, the largest first.
    headings: Vec<i64>,
}

impl Levels {
    fn new<'a>(paragraphs: impl Iterator<Item = &'a Paragraph> + Clone) -> Self {
        let mut chars: BTreeMap<i64, usize> = BTreeMap::new();
        for paragraph in paragraphs.clone() {
            *chars.entry(tenths(paragraph.size)).or_default() += paragraph.text.chars().count();
        }
        let body = chars.iter().max_by_key(|(_, count)| **count).map_or(0, |(size, _)| *size);
        let large = paragraphs.filter(|paragraph| is_short(paragraph)).map(|p| tenths(p.size));
        let large: BTreeSet<i64> = large.filter(|&size| size as f64 > HEADING_SCALE * body as f64).collect();
        Self { body, headings: large.into_iter().rev().collect() }
    }

    fn kind(&self, paragraph: &Paragraph) -> BlockKind {
        let size = tenths(paragraph.size);
        if !is_short(paragraph) {
            return BlockKind::Paragraph;
        }
        if let Some(rank) = self.headings.iter().position(|&heading| heading == size) {
            return BlockKind::Heading((rank as u8).min(4) + 1);
        }
        let ends = paragraph.text.ends_with(['.', '。', ':', '：', ',', '，', ';', '；', '!', '?']);
        if paragraph.bold && size >= self.body && !ends && paragraph.num_lines == 1 {
            return BlockKind::Heading((self.headings.len() as u8).min(4) + 1);
        }
        BlockKind::Paragraph
    }
}

fn is_short(paragraph: &Paragraph) -> bool {
    paragraph.num_lines <= 3
        && paragraph.text.chars().count() <= MAX_HEADING_CHARS
        && paragraph.text.chars().any(char::is_alphabetic)
}

fn tenths(size: f64) -> i64 {
    (size * 10.0).round() as i64
}

#[cfg(test)]
mod tests;
