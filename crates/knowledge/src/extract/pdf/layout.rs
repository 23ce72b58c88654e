//! Placed characters → lines → paragraphs, in reading order.
//!
//! Programs draw text in the order it is read, columns too, so that order is kept. Where the drawing jumps up and
//! down over the same column, lines are sorted from top to bottom instead.

use super::content::{Glyph, Page};
use crate::document::BlockKind;
use crate::picture::PictureLine;
use crate::words::{is_cjk, is_cjk_or_punctuation};

/// Gaps, in units of the type's size: wider than a space between words, and wide enough for the next table cell.
const WORD_GAP: f64 = 0.17;
const CJK_WORD_GAP: f64 = 0.6;
const CELL_GAP: f64 = 1.8;

/// A paragraph ends where the next baseline is farther away than this, in units of the type's size.
const PARAGRAPH_GAP: f64 = 1.75;

/// Ragged lines end up to this much earlier than they had to, in units of the type's size.
const SLACK: f64 = 2.5;

/// Marks the gap between two cells in a line's text.
const CELL: char = '\t';

#[derive(Debug, Clone, PartialEq)]
pub(in crate::extract) struct Paragraph {
    pub(super) kind: BlockKind,
    pub(super) text: String,
    pub(super) size: f64,
    pub(super) bold: bool,
    pub(super) num_lines: usize,
    /// Baseline of the first line.
    pub(super) y: f64,
}

#[derive(Debug, Clone)]
struct Line {
    text: String,
    x0: f64,
    x1: f64,
    y: f64,
    size: f64,
    bold: bool,
}

pub(super) fn paragraphs(page: &Page) -> Vec<Paragraph> {
    let only_artifacts = page.glyphs.iter().all(|glyph| glyph.artifact);
    let mut paragraphs = Vec::new();
    for turn in turns_by_frequency(page) {
        let glyphs: Vec<&Glyph> = page
            .glyphs
            .iter()
            .filter(|glyph| glyph.turn == turn && (only_artifacts || !glyph.artifact))
            .collect();
        let mut lines = lines(page, &glyphs);
        if jumps(&lines) {
            let mut sorted = glyphs;
            sort_by_place(&mut sorted);
            lines = self::lines(page, &sorted);
        }
        join(&lines, &mut paragraphs);
    }
    paragraphs
}

/// Lines found in a picture, in its pixels; `scale` makes points of them.
pub(in crate::extract) fn paragraphs_of_picture(found: &[PictureLine], scale: f64) -> Vec<Paragraph> {
    let line = |line: &PictureLine| {
        let side = |from: usize, to: usize| {
            let [x, y] = [0, 1].map(|axis| f64::from(line.quad[to][axis] - line.quad[from][axis]));
            x.hypot(y)
        };
        let xs = line.quad.map(|corner| f64::from(corner[0]));
        let ys = line.quad.map(|corner| f64::from(corner[1]));
        let height = f64::midpoint(side(0, 3), side(1, 2));
        Line {
            text: line.text.trim().to_string(),
            x0: xs.iter().copied().fold(f64::MAX, f64::min) * scale,
            x1: xs.iter().copied().fold(f64::MIN, f64::max) * scale,
            y: -ys.iter().copied().fold(f64::MIN, f64::max) * scale,
            // A box is some 1.4 times as high as the type's size; halves keep the sizes of one type together.
            size: (height * scale / 1.4 * 2.0).round().max(1.0) / 2.0,
            bold: false,
        }
    };
    let lines: Vec<Line> = found.iter().map(line).collect();
    let mut paragraphs = Vec::new();
    join(&lines, &mut paragraphs);
    paragraphs
}

/// Most pages have one direction of text; a stamp along the margin comes after it.
fn turns_by_frequency(page: &Page) -> Vec<u8> {
    let count = |turn: u8| page.glyphs.iter().filter(|glyph| glyph.turn == turn).count();
    let mut turns: Vec<u8> = (0..4).filter(|&turn| count(turn) > 0).collect();
    turns.sort_by_key(|&turn| (std::cmp::Reverse(count(turn)), turn));
    turns
}

fn lines(page: &Page, glyphs: &[&Glyph]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut last: Option<&Glyph> = None;
    for glyph in glyphs.iter().copied().filter(|glyph| glyph.size > 0.0) {
        let text = &page.text[glyph.range.clone()];
        if let Some(last) = last {
            // Bold type is imitated by drawing a character twice.
            let twice = &page.text[last.range.clone()] == text
                && (last.x0 - glyph.x0).abs() < 0.1 * glyph.size
                && (last.y - glyph.y).abs() < 0.1 * glyph.size;
            if twice && !text.trim().is_empty() {
                continue;
            }
        }
        let same_line = |line: &&mut Line| {
            let size = line.size.max(glyph.size);
            (line.y - glyph.y).abs() < 0.45 * size && glyph.x0 > line.x1 - 0.5 * size
        };
        match lines.last_mut().filter(same_line) {
            Some(line) => extend(line, glyph, text),
            None if text.trim().is_empty() => continue,
            None => lines.push(Line {
                text: text.into(),
                x0: glyph.x0,
                x1: glyph.x1,
                y: glyph.y,
                size: glyph.size,
                bold: glyph.bold,
            }),
        }
        last = Some(glyph);
    }
    for line in &mut lines {
        line.text.truncate(line.text.trim_end().len());
    }
    lines
}

fn extend(line: &mut Line, glyph: &Glyph, text: &str) {
    let gap = (glyph.x0 - line.x1) / glyph.size.max(1e-6);
    let before = line.text.chars().next_back().unwrap_or(' ');
    let after = text.chars().next().unwrap_or(' ');
    let word_gap =
        if is_cjk_or_punctuation(before) && is_cjk_or_punctuation(after) { CJK_WORD_GAP } else { WORD_GAP };
    if gap > CELL_GAP && !after.is_whitespace() {
        line.text.truncate(line.text.trim_end().len());
        line.text.push(CELL);
    } else if gap > word_gap && !before.is_whitespace() && !after.is_whitespace() {
        line.text.push(' ');
    }
    let blank = text.trim().is_empty();
    if !blank {
        // A line is as large as its larger part: a small footnote mark doesn't change it.
        if glyph.size > line.size * 1.02 {
            line.size = glyph.size;
            line.y = glyph.y;
        }
        line.bold &= glyph.bold;
        line.text.push_str(text);
        line.x1 = line.x1.max(glyph.x1);
    } else if !before.is_whitespace() {
        line.text.push(' ');
    }
}

/// True if the drawing goes back up within one column on many lines: then its order isn't that of reading.
fn jumps(lines: &[Line]) -> bool {
    let back = lines.windows(2).filter(|pair| {
        let up = pair[1].y > pair[0].y + 0.5 * pair[0].size;
        let overlap = pair[1].x0 < pair[0].x1 && pair[0].x0 < pair[1].x1;
        up && overlap
    });
    let count = back.count();
    count >= 2 && count * 5 > lines.len()
}

/// From top to bottom in bands of half a line, then from left to right.
fn sort_by_place(glyphs: &mut [&Glyph]) {
    glyphs.sort_by(|a, b| b.y.total_cmp(&a.y));
    let mut start = 0;
    while start < glyphs.len() {
        let (top, size) = (glyphs[start].y, glyphs[start].size);
        let band = glyphs[start..].iter().take_while(|glyph| top - glyph.y < 0.45 * size).count();
        let end = start + band.max(1);
        glyphs[start..end].sort_by(|a, b| a.x0.total_cmp(&b.x0));
        start = end;
    }
}

fn join(lines: &[Line], paragraphs: &mut Vec<Paragraph>) {
    let mut start = 0;
    while start < lines.len() {
        // The column ends where the longest line that begins here does.
        let column = lines.iter().filter(|line| (line.x0 - lines[start].x0).abs() < 2.5 * line.size);
        let right = column.map(|line| line.x1).fold(f64::MIN, f64::max);
        let mut end = start + 1;
        while end < lines.len() && continues(&lines[start..end], &lines[end], right) {
            end += 1;
        }
        paragraphs.push(paragraph(&lines[start..end]));
        start = end;
    }
}

/// True if the first word of `next` would have fitted behind `last`: then the line was ended on purpose.
fn had_room(last: &Line, next: &Line, right: f64) -> bool {
    let first = next.text.chars().next().unwrap_or(' ');
    let num_chars = if is_cjk(first) {
        1
    } else {
        next.text.chars().take_while(|c| !c.is_whitespace() && !is_cjk(*c)).count()
    };
    let all = next.text.chars().count().max(1);
    let word = (next.x1 - next.x0) * num_chars as f64 / all as f64;
    last.x1 + word + SLACK * last.size < right
}

/// Does `next` belong to the paragraph whose lines are `lines`?
fn continues(lines: &[Line], next: &Line, right: f64) -> bool {
    let last = &lines[lines.len() - 1];
    let size = last.size.max(next.size);
    let gap = last.y - next.y;
    let same_type = (last.size - next.size).abs() <= 0.08 * size && last.bold == next.bold;
    if !same_type || next.text.contains(CELL) || last.text.contains(CELL) || starts_item(&next.text) {
        return false;
    }
    let ended = last.text.ends_with(['.', '。', '!', '！', '?', '？', ':', '：', ';', '；']);
    if gap < 0.0 {
        // The top of the next column.
        return !ended && next.x0 >= last.x1;
    }
    // Wide leading is known from the lines before.
    let usual = match lines {
        [.., before, last] => (before.y - last.y) * 1.2,
        _ => PARAGRAPH_GAP * size,
    };
    let far = gap > usual.max(1.3 * size);
    let indented = next.x0 > last.x0 + 1.2 * size && lines.len() > 1;
    let short = last.x1 < right - 0.2 * (right - last.x0);
    !(far || indented || short && ended || had_room(last, next, right))
}

fn starts_item(text: &str) -> bool {
    if text.starts_with(['•', '●', '○', '■', '▪', '◦', '–', '·']) {
        return true;
    }
    let digits = text.chars().take_while(char::is_ascii_digit).count();
    let after = &text[digits..];
    let numbered = (1..=2).contains(&digits) && (after.starts_with(". ") || after.starts_with(") "));
    numbered || text.starts_with("- ") || after.starts_with('、') && digits > 0
}

fn paragraph(lines: &[Line]) -> Paragraph {
    let first = &lines[0];
    let mut text = first.text.clone();
    for line in &lines[1..] {
        join_line(&mut text, &line.text);
    }
    let kind = if text.contains(CELL) {
        text = text.split(CELL).map(str::trim).collect::<Vec<_>>().join(" | ");
        BlockKind::TableRow
    } else if starts_item(&text) {
        if let Some(rest) = text.strip_prefix(['•', '●', '○', '■', '▪', '◦', '–', '·']) {
            text = format!("- {}", rest.trim_start());
        }
        BlockKind::ListItem
    } else {
        BlockKind::Paragraph
    };
    Paragraph {
        kind,
        text,
        size: first.size,
        bold: lines.iter().all(|line| line.bold),
        num_lines: lines.len(),
        y: first.y,
    }
}

/// A hyphen at the line's end before a small letter divides a word; Chinese lines join without a space.
fn join_line(text: &mut String, line: &str) {
    let mut ends = text.chars().rev();
    let (last, before) = (ends.next().unwrap_or(' '), ends.next().unwrap_or(' '));
    let next = line.chars().next().unwrap_or(' ');
    if (last == '-' && before.is_lowercase() && next.is_lowercase()) || last == '\u{ad}' {
        text.pop();
    } else if !(is_cjk_or_punctuation(last) && is_cjk_or_punctuation(next) || is_cjk(last) && is_cjk(next)) {
        text.push(' ');
    }
    text.push_str(line);
}
