//! Placed characters → lines → paragraphs, in reading order.
//!
//! Programs draw text in the order it is read, columns too, so that order is kept. Where the drawing jumps up and
//! down over the same column, or goes to and fro between two, lines are put in order by their place instead (`order`).
//! Tables are found by their lines (`grid`) or by cells that stand below each other (`cells`).

mod cells;
mod grid;
mod line;
mod order;

use super::content::{Glyph, Page};
use crate::document::BlockKind;
use crate::picture::PictureLine;
use crate::words::{is_cjk, is_cjk_or_punctuation};
use line::{Line, Word};

/// A paragraph ends where the next baseline is farther away than this, in units of the type's size.
const PARAGRAPH_GAP: f64 = 1.75;

/// Ragged lines end up to this much earlier than they had to, in units of the type's size.
const SLACK: f64 = 2.5;

/// Lines that show how wide a column is.
const MAX_COLUMN_LINES: usize = 60;

/// The order of more paragraphs on a page isn't looked at.
const MAX_SETTLED: usize = 2000;

/// Marks the gap between two cells in a row's text.
pub(super) const CELL: char = '\t';

#[derive(Debug, Clone, PartialEq)]
pub(in crate::extract) struct Paragraph {
    /// The cells of a table row are separated by [`CELL`].
    pub(super) kind: BlockKind,
    pub(super) text: String,
    pub(super) size: f64,
    pub(super) bold: bool,
    pub(super) num_lines: usize,
    /// Baseline of the first line.
    pub(super) y: f64,
    pub(super) x0: f64,
    pub(super) x1: f64,
}

pub(super) fn paragraphs(page: &Page) -> Vec<Paragraph> {
    let only_artifacts = page.glyphs.iter().all(|glyph| glyph.artifact);
    let mut paragraphs = Vec::new();
    for turn in turns_by_frequency(page) {
        let mut found = Vec::new();
        let glyphs: Vec<&Glyph> = page
            .glyphs
            .iter()
            .filter(|glyph| glyph.turn == turn && glyph.size > 0.0 && (only_artifacts || !glyph.artifact))
            .collect();
        let grids = grid::find(&page.rules, turn);
        let (mut flow, mut tables) = (Vec::with_capacity(glyphs.len()), vec![Vec::new(); grids.len()]);
        // Where in the flow each table stands.
        let mut places = vec![0; grids.len()];
        for glyph in glyphs {
            match grids.iter().position(|grid| grid.holds(glyph)) {
                Some(index) => {
                    if tables[index].is_empty() {
                        places[index] = flow.len();
                    }
                    tables[index].push(glyph);
                }
                None => flow.push(glyph),
            }
        }
        let mut order: Vec<usize> = (0..grids.len()).filter(|&index| !tables[index].is_empty()).collect();
        order.sort_by_key(|&index| places[index]);
        let mut start = 0;
        for index in order {
            running_text(page, &flow[start..places[index]], &mut found);
            start = places[index];
            match grids[index].rows(page, &tables[index]) {
                Some(rows) => found.extend(rows),
                None => running_text(page, &tables[index], &mut found),
            }
        }
        running_text(page, &flow[start..], &mut found);
        let columns =
            order::has_columns(&line::lines(page, &flow).iter().flat_map(Line::segments).collect::<Vec<_>>());
        paragraphs.extend(if columns { found } else { settle(found) });
    }
    paragraphs
}

/// A paragraph that was drawn after what stands below it goes before that.
fn settle(drawn: Vec<Paragraph>) -> Vec<Paragraph> {
    if drawn.len() > MAX_SETTLED {
        return drawn;
    }
    let mut settled: Vec<Paragraph> = Vec::with_capacity(drawn.len());
    for paragraph in drawn {
        let overlaps = |other: &Paragraph| {
            let overlap = paragraph.x1.min(other.x1) - paragraph.x0.max(other.x0);
            overlap > 0.5 * (paragraph.x1 - paragraph.x0).min(other.x1 - other.x0)
        };
        let size = |other: &Paragraph| other.size.max(paragraph.size);
        let below = settled.iter().position(|other| paragraph.y > other.y + size(other) && overlaps(other));
        let above = settled.iter().rposition(|other| paragraph.y < other.y - size(other) && overlaps(other));
        let splits = |&place: &usize| {
            let is_row = |at: usize| settled[at].kind == BlockKind::TableRow;
            place > 0 && is_row(place) && is_row(place - 1)
        };
        // Where both can't be kept, the drawing's order is as good as any.
        let place = below.filter(|&below| above.is_none_or(|above| above < below));
        let place = place.filter(|place| !splits(place));
        settled.insert(place.unwrap_or(settled.len()), paragraph);
    }
    settled
}

fn running_text(page: &Page, glyphs: &[&Glyph], paragraphs: &mut Vec<Paragraph>) {
    let mut lines = line::lines(page, glyphs);
    let segments: Vec<Line> = lines.iter().flat_map(Line::segments).collect();
    if order::jumps(&lines) || order::alternates(&segments) {
        let mut sorted = glyphs.to_vec();
        line::sort_by_place(&mut sorted);
        let segments = line::lines(page, &sorted).iter().flat_map(Line::segments).collect();
        lines = order::merge_rows(order::reading_order(segments));
    }
    cells::mark(&mut lines);
    join(&lines, paragraphs);
}

/// Lines found in a picture, in its pixels; `scale` makes points of them.
pub(in crate::extract) fn paragraphs_of_picture(found: &[PictureLine], scale: f64) -> Vec<Paragraph> {
    let segments = found.iter().map(|found| Line::of_picture(found, scale));
    let mut lines = order::merge_rows(order::reading_order(segments.collect()));
    cells::mark(&mut lines);
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

fn join(lines: &[Line], paragraphs: &mut Vec<Paragraph>) {
    let mut start = 0;
    while start < lines.len() {
        // The column ends where the longest of the lines that follow each other here does.
        let mut last = &lines[start];
        let column = lines[start..].iter().take(MAX_COLUMN_LINES).take_while(|line| {
            let next = (line.x0 - lines[start].x0).abs() < 2.5 * line.size
                && (last.y - line.y).abs() < 3.0 * last.size.max(line.size);
            last = line;
            next
        });
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
    // The lines of a list item are as far in as its text behind the bullet.
    let hangs = |word: &Word| (next.x0 - word.x0).abs() < 0.6 * size && word.x0 > lines[0].x0 + 0.4 * size;
    if starts_item(&lines[0].text) && lines[0].words.get(1).is_some_and(hangs) {
        return !far;
    }
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
    // What goes on at the top of the next column doesn't widen this one.
    let num_here = lines.windows(2).take_while(|pair| pair[1].y <= pair[0].y).count() + 1;
    let column = &lines[..num_here];
    let mut text = first.text.clone();
    for line in &lines[1..] {
        join_line(&mut text, &line.text);
    }
    let kind = if text.contains(CELL) {
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
        x0: column.iter().map(|line| line.x0).fold(f64::MAX, f64::min),
        x1: column.iter().map(|line| line.x1).fold(f64::MIN, f64::max),
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
