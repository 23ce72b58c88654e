//! Characters on one baseline → words → a line.

use super::CELL;
use crate::extract::pdf::content::{Glyph, Page};
use crate::picture::PictureLine;
use crate::words::is_cjk_or_punctuation;

/// Gaps, in units of the type's size: wider than a space between words, and wide enough for another column.
const WORD_GAP: f64 = 0.17;
const CJK_WORD_GAP: f64 = 0.6;
const SEGMENT_GAP: f64 = 0.9;

/// A box around a line in a picture is this much higher than the type's size.
const BOX_HEIGHT: f64 = 1.4;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) x0: f64,
    pub(super) x1: f64,
    /// The table cells that begin here, empty ones before it too; 0 within a cell.
    pub(super) cell_marks: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) words: Vec<Word>,
    /// The words with spaces, or cell marks, between them; made by [`Line::finish`].
    pub(super) text: String,
    pub(super) x0: f64,
    pub(super) x1: f64,
    pub(super) y: f64,
    pub(super) size: f64,
    pub(super) bold: bool,
}

impl Line {
    fn new(words: Vec<Word>, like: &Self) -> Self {
        let (first, last) = (words.first(), words.last());
        Self {
            x0: first.map_or(like.x0, |word| word.x0),
            x1: last.map_or(like.x1, |word| word.x1),
            words,
            text: String::new(),
            ..*like
        }
        .finished()
    }

    pub(super) fn of_picture(found: &PictureLine, scale: f64) -> Self {
        let side = |from: usize, to: usize| {
            let [x, y] = [0, 1].map(|axis| f64::from(found.quad[to][axis] - found.quad[from][axis]));
            x.hypot(y)
        };
        let xs = found.quad.map(|corner| f64::from(corner[0]) * scale);
        let ys = found.quad.map(|corner| f64::from(corner[1]) * scale);
        let (x0, x1) =
            (xs.iter().copied().fold(f64::MAX, f64::min), xs.iter().copied().fold(f64::MIN, f64::max));
        let height = f64::midpoint(side(0, 3), side(1, 2)) * scale;
        let text = found.text.trim().to_string();
        Self {
            words: vec![Word { text: text.clone(), x0, x1, cell_marks: 0 }],
            text,
            x0,
            x1,
            y: -ys.iter().copied().fold(f64::MIN, f64::max),
            // In steps of a tenth of itself, since boxes of the same type differ by a pixel or two.
            size: 1.1f64.powf((height.max(1.0) / BOX_HEIGHT).log(1.1).round()),
            bold: false,
        }
    }

    pub(super) fn finish(&mut self) {
        self.text.clear();
        for (index, word) in self.words.iter().enumerate() {
            self.text.extend(std::iter::repeat_n(CELL, word.cell_marks));
            if index > 0 && word.cell_marks == 0 {
                self.text.push(' ');
            }
            self.text.push_str(&word.text);
        }
    }

    fn finished(mut self) -> Self {
        self.finish();
        self
    }

    /// Pieces between gaps that could be those between columns.
    pub(super) fn segments(&self) -> Vec<Self> {
        let mut segments: Vec<Vec<Word>> = Vec::new();
        for word in &self.words {
            match segments.last_mut() {
                Some(open) if open.last().is_some_and(|last| word.x0 - last.x1 < SEGMENT_GAP * self.size) => {
                    open.push(word.clone());
                }
                _ => segments.push(vec![word.clone()]),
            }
        }
        segments.into_iter().map(|words| Self::new(words, self)).collect()
    }

    pub(super) fn append(&mut self, other: Self) {
        self.x1 = self.x1.max(other.x1);
        self.bold &= other.bold;
        self.words.extend(other.words);
        self.finish();
    }
}

/// In the order of the characters: a new line wherever the next isn't on the same baseline to the right.
pub(super) fn lines(page: &Page, glyphs: &[&Glyph]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut last: Option<&Glyph> = None;
    let mut after_space = false;
    for glyph in glyphs.iter().copied() {
        let text = &page.text[glyph.range.clone()];
        let blank = text.trim().is_empty();
        if let Some(last) = last {
            // Bold type is imitated by drawing a character twice.
            let twice = &page.text[last.range.clone()] == text
                && (last.x0 - glyph.x0).abs() < 0.1 * glyph.size
                && (last.y - glyph.y).abs() < 0.1 * glyph.size;
            if twice && !blank {
                continue;
            }
        }
        let same_line = |line: &&mut Line| {
            let size = line.size.max(glyph.size);
            (line.y - glyph.y).abs() < 0.45 * size && glyph.x0 > line.x1 - 0.5 * size
        };
        match lines.last_mut().filter(same_line) {
            Some(_) if blank => after_space = true,
            Some(line) => {
                extend(line, glyph, text, after_space);
                after_space = false;
            }
            None if blank => continue,
            None => {
                after_space = false;
                lines.push(Line {
                    words: vec![Word { text: text.into(), x0: glyph.x0, x1: glyph.x1, cell_marks: 0 }],
                    text: String::new(),
                    x0: glyph.x0,
                    x1: glyph.x1,
                    y: glyph.y,
                    size: glyph.size,
                    bold: glyph.bold,
                });
            }
        }
        last = Some(glyph);
    }
    lines.iter_mut().for_each(Line::finish);
    lines
}

fn extend(line: &mut Line, glyph: &Glyph, text: &str, after_space: bool) {
    let gap = (glyph.x0 - line.x1) / glyph.size.max(1e-6);
    if let Some(word) = line.words.last_mut() {
        let before = word.text.chars().next_back().unwrap_or(' ');
        let after = text.chars().next().unwrap_or(' ');
        let wide = is_cjk_or_punctuation(before) && is_cjk_or_punctuation(after);
        if after_space || gap > if wide { CJK_WORD_GAP } else { WORD_GAP } {
            line.words.push(Word { text: text.trim().into(), x0: glyph.x0, x1: glyph.x1, cell_marks: 0 });
        } else {
            word.text.push_str(text);
            word.x1 = word.x1.max(glyph.x1);
        }
    }
    // Bullets come in any size.
    if line.words.len() == 2 && line.words[1].x0 >= glyph.x0 && is_bullet(&line.words[0].text) {
        line.size = glyph.size;
        line.bold = glyph.bold;
        line.y = glyph.y;
    }
    // A line is as large as its larger part: a small footnote mark doesn't change it.
    if glyph.size > line.size * 1.02 {
        line.size = glyph.size;
        line.y = glyph.y;
    }
    line.bold &= glyph.bold;
    line.x1 = line.x1.max(glyph.x1);
}

fn is_bullet(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|first| !first.is_alphanumeric()) && chars.next().is_none()
}

/// From top to bottom in bands of half a line, then from left to right.
pub(super) fn sort_by_place(glyphs: &mut [&Glyph]) {
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
