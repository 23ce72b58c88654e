//! Runs a page's drawing program (ISO 32000-1, section 9) and notes every character with its place.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use lopdf::content::Content;
use lopdf::{Dictionary, Document, Object, ObjectId};
use unicode_normalization::UnicodeNormalization;

use super::MAX_STREAM_BYTES;
use super::font::{Font, entry, number};
use super::path::{Path, Rule};
use crate::error::ExtractError;
use crate::extract::MAX_UNPACKED_BYTES;

/// Characters on one page. A newspaper has some 30,000.
const MAX_GLYPHS: usize = 300_000;

/// A program is decoded in pieces of at least this size.
const PIECE_BYTES: usize = 1 << 20;

/// Pictures that are remembered of one page.
const MAX_PICTURES: usize = 256;

/// Forms that draw forms; more is a loop.
const MAX_FORM_DEPTH: usize = 8;

/// One shown character, in the page's space with the baseline running to the right.
#[derive(Debug, Clone)]
pub(super) struct Glyph {
    pub(super) x0: f64,
    pub(super) x1: f64,
    pub(super) y: f64,
    pub(super) size: f64,
    pub(super) bold: bool,
    /// Quarter turns of its baseline.
    pub(super) turn: u8,
    /// Marked by the program that made the page as running head, foot or decoration.
    pub(super) artifact: bool,
    /// Where its text stands in [`Page::text`].
    pub(super) range: Range<usize>,
}

/// A picture on a page: its own width and height as they are drawn, in points, and quarter turns against the clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Drawn {
    pub(super) id: ObjectId,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) turn: u8,
}

#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) glyphs: Vec<Glyph>,
    pub(super) rules: Vec<Rule>,
    pub(super) pictures: Vec<Drawn>,
    pub(super) text: String,
    /// There were more characters than are kept.
    pub(super) cut: bool,
    /// Codes whose meaning the font doesn't tell.
    pub(super) unknown: usize,
}

/// `[a b c d e f]`: x' = a·x + c·y + e, y' = b·x + d·y + f.
pub(super) type Matrix = [f64; 6];
const IDENTITY: Matrix = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0];

fn multiply(m: &Matrix, n: &Matrix) -> Matrix {
    [
        m[0] * n[0] + m[1] * n[2],
        m[0] * n[1] + m[1] * n[3],
        m[2] * n[0] + m[3] * n[2],
        m[2] * n[1] + m[3] * n[3],
        m[4] * n[0] + m[5] * n[2] + n[4],
        m[4] * n[1] + m[5] * n[3] + n[5],
    ]
}

#[derive(Clone)]
struct State {
    ctm: Matrix,
    font: Option<Rc<Font>>,
    size: f64,
    char_space: f64,
    word_space: f64,
    scale: f64,
    leading: f64,
    rise: f64,
}

/// Reads pages of one document; fonts are loaded once.
pub(super) struct Reader<'a> {
    document: &'a Document,
    /// By the address of the font's dictionary, which stays while the document does.
    fonts: HashMap<*const Dictionary, Rc<Font>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(document: &'a Document) -> Self {
        Self { document, fonts: HashMap::new() }
    }

    /// `budget` is what all pages together may still unpack to.
    pub(super) fn read_page(&mut self, id: ObjectId, budget: &mut u64) -> Result<Page, ExtractError> {
        let bomb = ExtractError::Bomb { limit: MAX_UNPACKED_BYTES };
        let program = self.document.get_page_content_with_limit(id, MAX_STREAM_BYTES);
        let program = program.map_err(|_| bomb.clone())?;
        *budget = budget.checked_sub(program.len() as u64).ok_or(bomb)?;
        let mut resources = Vec::new();
        if let Ok((direct, ids)) = self.document.get_page_resources(id) {
            resources.extend(direct);
            resources.extend(ids.into_iter().filter_map(|id| self.document.get_dictionary(id).ok()));
        }
        let mut run = Run {
            reader: self,
            page: Page::default(),
            state: State {
                ctm: IDENTITY,
                font: None,
                size: 0.0,
                char_space: 0.0,
                word_space: 0.0,
                scale: 1.0,
                leading: 0.0,
                rise: 0.0,
            },
            stack: Vec::new(),
            text_matrix: IDENTITY,
            line_matrix: IDENTITY,
            path: Path::default(),
            marks: Vec::new(),
            budget,
        };
        run.program(&program, &resources, 0);
        Ok(run.page)
    }

    fn font(&mut self, dictionary: &'a Dictionary) -> Rc<Font> {
        let load = || Rc::new(Font::load(self.document, dictionary));
        self.fonts.entry(std::ptr::from_ref(dictionary)).or_insert_with(load).clone()
    }
}

struct Run<'r, 'a> {
    reader: &'r mut Reader<'a>,
    page: Page,
    state: State,
    stack: Vec<State>,
    text_matrix: Matrix,
    line_matrix: Matrix,
    path: Path,
    /// Open marked content: true where it is an artifact.
    marks: Vec<bool>,
    budget: &'r mut u64,
}

impl<'a> Run<'_, 'a> {
    /// In pieces, since a decoded operation takes some fifty times its source.
    fn program(&mut self, program: &[u8], resources: &[&'a Dictionary], depth: usize) {
        let mut rest = program;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(piece_end(rest));
            self.piece(piece, resources, depth);
            rest = after;
        }
    }

    fn piece(&mut self, program: &[u8], resources: &[&'a Dictionary], depth: usize) {
        // A program that breaks off in the middle still has its beginning.
        let Ok(content) = Content::decode(program) else {
            return;
        };
        for operation in &content.operations {
            let operands = operation.operands.as_slice();
            match operation.operator.as_str() {
                "q" => self.stack.push(self.state.clone()),
                "Q" => self.state = self.stack.pop().unwrap_or_else(|| self.state.clone()),
                "cm" => {
                    if let Some(matrix) = matrix(operands) {
                        self.state.ctm = multiply(&matrix, &self.state.ctm);
                    }
                }
                "BMC" | "BDC" => {
                    let tag = operands.first().and_then(|tag| tag.as_name().ok());
                    self.marks.push(tag == Some(b"Artifact"));
                }
                "EMC" => {
                    self.marks.pop();
                }
                "Tf" => self.set_font(operands, resources),
                "Do" => self.form(operands, resources, depth),
                "m" | "l" | "c" | "v" | "y" | "h" | "re" => {
                    self.path.step(&operation.operator, operands, &self.state.ctm);
                }
                "S" | "s" | "f" | "F" | "f*" | "B" | "B*" | "b" | "b*" | "n" => {
                    self.path.paint(&operation.operator, &mut self.page.rules);
                }
                operator => self.text_operator(operator, operands),
            }
        }
    }

    fn text_operator(&mut self, operator: &str, operands: &[Object]) {
        let first = operands.first().and_then(number);
        match operator {
            "BT" => {
                self.text_matrix = IDENTITY;
                self.line_matrix = IDENTITY;
            }
            "Tc" => self.state.char_space = first.unwrap_or(0.0),
            "Tw" => self.state.word_space = first.unwrap_or(0.0),
            "Tz" => self.state.scale = first.unwrap_or(100.0) / 100.0,
            "TL" => self.state.leading = first.unwrap_or(0.0),
            "Ts" => self.state.rise = first.unwrap_or(0.0),
            "Tm" => {
                if let Some(matrix) = matrix(operands) {
                    self.text_matrix = matrix;
                    self.line_matrix = matrix;
                }
            }
            "Td" | "TD" => {
                if let (Some(x), Some(y)) = (first, operands.get(1).and_then(number)) {
                    if operator == "TD" {
                        self.state.leading = -y;
                    }
                    self.next_line(x, y);
                }
            }
            "T*" => self.next_line(0.0, -self.state.leading),
            "Tj" => self.show(operands.first()),
            "'" => {
                self.next_line(0.0, -self.state.leading);
                self.show(operands.first());
            }
            "\"" => {
                self.state.word_space = first.unwrap_or(0.0);
                self.state.char_space = operands.get(1).and_then(number).unwrap_or(0.0);
                self.next_line(0.0, -self.state.leading);
                self.show(operands.get(2));
            }
            "TJ" => {
                let parts = operands.first().and_then(|parts| parts.as_array().ok());
                for part in parts.into_iter().flatten() {
                    if let Some(back) = number(part) {
                        let x = -back / 1000.0 * self.state.size * self.state.scale;
                        self.advance(x);
                    } else {
                        self.show(Some(part));
                    }
                }
            }
            _ => {}
        }
    }

    fn next_line(&mut self, x: f64, y: f64) {
        self.line_matrix = multiply(&[1.0, 0.0, 0.0, 1.0, x, y], &self.line_matrix);
        self.text_matrix = self.line_matrix;
    }

    fn advance(&mut self, x: f64) {
        self.text_matrix = multiply(&[1.0, 0.0, 0.0, 1.0, x, 0.0], &self.text_matrix);
    }

    fn set_font(&mut self, operands: &[Object], resources: &[&'a Dictionary]) {
        let Some(name) = operands.first().and_then(|name| name.as_name().ok()) else {
            return;
        };
        let dictionary = resource(self.reader.document, resources, b"Font", name);
        self.state.size = operands.get(1).and_then(number).unwrap_or(0.0);
        let dictionary = dictionary.and_then(|object| object.as_dict().ok());
        self.state.font = dictionary.map(|dictionary| self.reader.font(dictionary));
    }

    /// Draws a form `XObject`: a page's part with its own resources.
    fn form(&mut self, operands: &[Object], resources: &[&'a Dictionary], depth: usize) {
        let document = self.reader.document;
        let name = operands.first().and_then(|name| name.as_name().ok());
        let object = name.and_then(|name| resource(document, resources, b"XObject", name));
        let Some(stream) = object.and_then(|object| object.as_stream().ok()) else {
            return;
        };
        let subtype = stream.dict.get(b"Subtype").and_then(Object::as_name).ok();
        if subtype == Some(b"Image") {
            let ctm = self.state.ctm;
            if let Some(id) = name.and_then(|name| resource_id(document, resources, b"XObject", name)) {
                if self.page.pictures.len() < MAX_PICTURES {
                    let (width, height) = (ctm[0].hypot(ctm[1]), ctm[2].hypot(ctm[3]));
                    self.page.pictures.push(Drawn { id, width, height, turn: quarter_turns(&ctm) });
                }
            }
            return;
        }
        if subtype != Some(b"Form") || depth >= MAX_FORM_DEPTH {
            return;
        }
        let Ok(program) = stream.decompressed_content_with_limit(MAX_STREAM_BYTES) else {
            return;
        };
        let Some(left) = self.budget.checked_sub(program.len() as u64) else {
            return;
        };
        *self.budget = left;
        let own = entry(document, &stream.dict, b"Resources").and_then(|object| object.as_dict().ok());
        let inner: Vec<&'a Dictionary> = own.into_iter().chain(resources.iter().copied()).collect();
        let saved = (self.state.clone(), self.text_matrix, self.line_matrix, self.stack.len());
        let form_matrix = entry(document, &stream.dict, b"Matrix").and_then(|object| object.as_array().ok());
        if let Some(matrix) = form_matrix.and_then(|array| matrix(array)) {
            self.state.ctm = multiply(&matrix, &self.state.ctm);
        }
        self.program(&program, &inner, depth + 1);
        self.stack.truncate(saved.3);
        (self.state, self.text_matrix, self.line_matrix) = (saved.0, saved.1, saved.2);
    }

    fn show(&mut self, string: Option<&Object>) {
        let Some(bytes) = string.and_then(|string| string.as_str().ok()) else {
            return;
        };
        let Some(font) = self.state.font.clone() else {
            return;
        };
        let state = self.state.clone();
        let artifact = self.marks.contains(&true);
        font.decode(bytes, |shown| {
            let spacing = state.char_space + if shown.is_space_code { state.word_space } else { 0.0 };
            let advance = (shown.width * state.size + spacing) * state.scale;
            let place = multiply(&[1.0, 0.0, 0.0, 1.0, 0.0, state.rise], &self.text_matrix);
            let place = multiply(&place, &state.ctm);
            let end = multiply(&[1.0, 0.0, 0.0, 1.0, shown.width * state.size * state.scale, 0.0], &place);
            match shown.text {
                Some(_) if self.page.glyphs.len() >= MAX_GLYPHS => self.page.cut = true,
                Some(text) => {
                    let start = self.page.text.len();
                    push_plain(&mut self.page.text, &text);
                    let range = start..self.page.text.len();
                    self.page.glyphs.push(glyph(&place, &end, &state, &font, artifact, range));
                }
                None => self.page.unknown += 1,
            }
            self.text_matrix = multiply(&[1.0, 0.0, 0.0, 1.0, advance, 0.0], &self.text_matrix);
        });
    }
}

/// Where the next piece of a program ends: after an operator that ends a text or a path.
fn piece_end(program: &[u8]) -> usize {
    let Some(tail) = program.get(PIECE_BYTES..) else {
        return program.len();
    };
    let blank = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_whitespace);
    let ends = |(at, pair): (usize, &[u8])| {
        let two = pair == b"ET" && blank(tail.get(at + 2));
        let one = matches!(pair[0], b'Q' | b'S' | b'f' | b'n') && blank(Some(&pair[1]));
        let length = if two { 2 } else { 1 };
        (at > 0 && blank(tail.get(at - 1)) && (one || two)).then_some(PIECE_BYTES + at + length)
    };
    tail.windows(2).enumerate().find_map(ends).unwrap_or(program.len())
}

/// Ligatures and the radicals that fonts show for whole characters become the letters and characters themselves.
fn push_plain(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\u{fb00}'..='\u{fb06}' | '\u{2e80}'..='\u{2fdf}' => {
                out.extend(std::iter::once(c).nfkc());
            }
            _ => out.push(c),
        }
    }
}

fn glyph(
    place: &Matrix,
    end: &Matrix,
    state: &State,
    font: &Font,
    artifact: bool,
    range: Range<usize>,
) -> Glyph {
    // Turn the page so that this baseline runs to the right.
    let turn = quarter_turns(place);
    let (x0, y) = turned(turn, place[4], place[5]);
    let (x1, _) = turned(turn, end[4], end[5]);
    Glyph {
        x0,
        x1: x1.max(x0),
        y,
        size: (state.size * place[2].hypot(place[3])).abs(),
        bold: font.bold,
        turn,
        artifact,
        range,
    }
}

/// How often a matrix turns what runs to the right, against the clock.
fn quarter_turns(m: &Matrix) -> u8 {
    match m[0].abs() >= m[1].abs() {
        true if m[0] >= 0.0 => 0,
        true => 2,
        false if m[1] > 0.0 => 1,
        false => 3,
    }
}

/// A place on the page after `turn` quarter turns make the baseline run to the right.
pub(super) fn turned(turn: u8, x: f64, y: f64) -> (f64, f64) {
    match turn {
        0 => (x, y),
        1 => (y, -x),
        2 => (-x, -y),
        _ => (-y, x),
    }
}

fn resource_id(
    document: &Document,
    resources: &[&Dictionary],
    category: &[u8],
    name: &[u8],
) -> Option<ObjectId> {
    resources.iter().find_map(|dictionary| {
        let category = entry(document, dictionary, category)?.as_dict().ok()?;
        category.get(name).and_then(Object::as_reference).ok()
    })
}

fn matrix(operands: &[Object]) -> Option<Matrix> {
    let mut matrix = IDENTITY;
    for (index, value) in matrix.iter_mut().enumerate() {
        *value = number(operands.get(index)?)?;
    }
    Some(matrix)
}

fn resource<'a>(
    document: &'a Document,
    resources: &[&'a Dictionary],
    category: &[u8],
    name: &[u8],
) -> Option<&'a Object> {
    resources.iter().find_map(|dictionary| {
        let category = entry(document, dictionary, category)?.as_dict().ok()?;
        entry(document, category, name)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn ligatures_and_radicals_become_plain() {
        let mut out = String::new();
        super::push_plain(&mut out, "o\u{fb03}ce \u{2f54}泵 ①");
        assert_eq!(out, "office 水泵 ①");
    }
}
