//! `OpenDocument` text, spreadsheets and presentations (ODF 1.3) → headings, paragraphs, lists, tables; slides are pages.
//!
//! Left out on purpose: comments, tracked changes, headers and footers, drawings without text.

use super::Extracted;
use super::table::{self, Header};
use super::xml::{Element, Node};
use super::zipped::Archive;
use crate::document::{Block, BlockKind};
use crate::error::ExtractError;

/// Spreadsheets repeat a row or cell to fill the page; more copies than this are filling.
const MAX_COPIES: usize = 1000;

/// Cells of one table, copies included.
const MAX_CELLS: usize = 1 << 22;

pub(super) fn extract(bytes: &[u8]) -> Result<Extracted, ExtractError> {
    let mut archive = Archive::open(bytes)?;
    if let Some(manifest) = archive.xml("META-INF/manifest.xml")? {
        if manifest.find("encryption-data").is_some() {
            return Err(ExtractError::Encrypted);
        }
    }
    let title = archive.xml("meta.xml")?.and_then(|meta| meta.find("title").map(Element::text));
    let content = archive.xml("content.xml")?;
    let content = content.ok_or_else(|| ExtractError::damaged("no `content.xml` inside"))?;
    let body = content.child("body").ok_or_else(|| ExtractError::damaged("no body inside"))?;
    let mut walk = Walk::default();
    for part in body.elements() {
        walk.children(part);
    }
    Ok(Extracted { title, blocks: walk.blocks, notes: walk.notes, ..Extracted::default() })
}

#[derive(Default)]
struct Walk {
    blocks: Vec<Block>,
    notes: Vec<String>,
    page: Option<u32>,
    lists: usize,
}

impl Walk {
    fn children(&mut self, element: &Element) {
        element.elements().for_each(|child| self.element(child));
    }

    fn element(&mut self, element: &Element) {
        match element.name.as_str() {
            "h" => {
                let level = element.attribute("outline-level").and_then(|level| level.parse().ok());
                self.push(BlockKind::Heading(level.unwrap_or(1).clamp(1, 9)), inline_text(element));
            }
            "p" => {
                let text = inline_text(element);
                let style = element.attribute("style-name");
                if self.lists > 0 {
                    self.push(BlockKind::ListItem, format!("- {}", text.trim()));
                } else if matches!(style, Some("Title")) {
                    self.push(BlockKind::Heading(1), text);
                } else {
                    self.push(BlockKind::Paragraph, text);
                }
                // Text boxes are anchored in paragraphs.
                self.boxes(element);
            }
            "list" => {
                self.lists += 1;
                self.children(element);
                self.lists -= 1;
            }
            "table" => self.table(element),
            "page" => {
                self.page = Some(self.page.unwrap_or(0) + 1);
                self.children(element);
            }
            "notes" => {
                let mut paragraphs = Vec::new();
                element.find_all("p", &mut paragraphs);
                let text = paragraphs.into_iter().map(inline_text).collect::<Vec<_>>().join(" ");
                if !text.trim().is_empty() {
                    self.push(BlockKind::Paragraph, format!("Notes: {text}"));
                }
            }
            "frame" if element.attribute("class") == Some("title") => {
                let mut paragraphs = Vec::new();
                element.find_all("p", &mut paragraphs);
                let text = paragraphs.into_iter().map(inline_text).collect::<Vec<_>>().join(" ");
                self.push(BlockKind::Heading(1), text);
            }
            "annotation" | "tracked-changes" | "forms" | "table-of-content-source" | "header" | "footer" => {}
            _ => self.children(element),
        }
    }

    fn boxes(&mut self, element: &Element) {
        for child in element.elements() {
            match child.name.as_str() {
                "text-box" => self.children(child),
                "annotation" | "note" => {}
                _ => self.boxes(child),
            }
        }
    }

    fn table(&mut self, table: &Element) {
        let name = table.attribute("name").unwrap_or_default();
        let mut rows = Rows::default();
        rows.read(table, false);
        if rows.cut {
            self.notes.push(format!("table `{name}` is larger than {MAX_CELLS} cells and was cut"));
        }
        let header = if rows.num_headers > 0 { Header::Rows(rows.num_headers) } else { Header::Guess };
        let blocks = table::blocks(rows.cells, header, self.page);
        // Sheets have names people see; tables in a text don't.
        if rows.is_sheet && !blocks.is_empty() {
            self.push(BlockKind::Heading(1), name.to_string());
        }
        self.blocks.extend(blocks);
    }

    fn push(&mut self, kind: BlockKind, text: String) {
        if text.chars().any(|c| !c.is_whitespace() && c != '-') {
            self.blocks.push(Block { kind, text, page: self.page });
        }
    }
}

#[derive(Default)]
struct Rows {
    cells: Vec<Vec<String>>,
    num_headers: usize,
    num_cells: usize,
    cut: bool,
    /// Cells of spreadsheets have a type of value.
    is_sheet: bool,
}

impl Rows {
    fn read(&mut self, table: &Element, in_header: bool) {
        for child in table.elements() {
            match child.name.as_str() {
                "table-header-rows" => self.read(child, true),
                "table-rows" | "table-row-group" => self.read(child, in_header),
                "table-row" => self.row(child, in_header),
                _ => {}
            }
        }
    }

    fn row(&mut self, row: &Element, in_header: bool) {
        let mut cells: Vec<String> = Vec::new();
        for (column, cell) in row.elements().enumerate() {
            let text = if cell.name == "covered-table-cell" {
                // Covered from above if the row above has a text there, which then belongs to this row too.
                let above = self.cells.last().and_then(|above| above.get(column)).cloned();
                above.filter(|_| {
                    column == 0 || row.elements().nth(column - 1).is_none_or(|left| !spans_columns(left))
                })
            } else {
                self.is_sheet |= cell.attribute("value-type").is_some();
                Some(cell_text(cell))
            };
            let text = text.unwrap_or_default();
            let copies = copies(cell, "number-columns-repeated");
            let copies = if text.is_empty() { copies.min(MAX_COPIES) } else { copies.min(1 << 14) };
            cells.extend(std::iter::repeat_n(text, copies));
            if cells.len() > MAX_CELLS {
                break;
            }
        }
        cells.truncate(cells.iter().rposition(|cell| !cell.is_empty()).map_or(0, |last| last + 1));
        let copies = if cells.is_empty() { 1 } else { copies(row, "number-rows-repeated").min(MAX_COPIES) };
        for _ in 0..copies {
            if self.num_cells + cells.len() > MAX_CELLS {
                self.cut = true;
                return;
            }
            self.num_cells += cells.len();
            self.cells.push(cells.clone());
            self.num_headers += usize::from(in_header);
        }
    }
}

fn spans_columns(cell: &Element) -> bool {
    copies(cell, "number-columns-spanned") > 1
}

fn copies(element: &Element, name: &str) -> usize {
    element.attribute(name).and_then(|count| count.parse().ok()).unwrap_or(1)
}

fn cell_text(cell: &Element) -> String {
    let mut walk = Walk::default();
    walk.children(cell);
    let texts: Vec<&str> = walk.blocks.iter().map(|block| block.text.as_str()).collect();
    let text = texts.join(" ");
    // Dates stand in the file as they are written everywhere.
    match (cell.attribute("value-type"), cell.attribute("date-value")) {
        (Some("date"), Some(date)) => date.replace('T', " "),
        _ => text,
    }
}

fn inline_text(element: &Element) -> String {
    let mut out = String::new();
    push_inline(element, &mut out);
    out
}

fn push_inline(element: &Element, out: &mut String) {
    for node in &element.children {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Element(child) => match child.name.as_str() {
                "s" | "tab" | "line-break" => out.push(' '),
                "annotation" | "text-box" | "ruby-text" | "note-citation" => {}
                "note" => {
                    out.push_str(" (");
                    out.push_str(child.child("note-body").map(inline_text).unwrap_or_default().trim());
                    out.push(')');
                }
                _ => push_inline(child, out),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::DocumentKind;
    use crate::extract::zipped::tests::archive;

    #[track_caller]
    fn check(body: &str, expected: &[(BlockKind, &str)]) {
        let content =
            format!("<office:document-content><office:body>{body}</office:body></office:document-content>");
        let bytes = archive(&[("content.xml", &content)]);
        let document = super::super::extract("x.odt", DocumentKind::OpenDocument, &bytes).unwrap();
        let found: Vec<_> = document.blocks.iter().map(|block| (block.kind, block.text.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn text_documents() {
        check(
            "<office:text><text:h text:outline-level=\"2\">Care</text:h>\
             <text:p>Wipe<text:s/>it<office:annotation><text:p>no</text:p></office:annotation> weekly\
             <text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>dry</text:p></text:note-body></text:note>.</text:p>\
             <text:list><text:list-item><text:p>one</text:p></text:list-item></text:list>\
             <table:table><table:table-header-rows><table:table-row><table:table-cell><text:p>K</text:p></table:table-cell>\
             <table:table-cell><text:p>V</text:p></table:table-cell></table:table-row></table:table-header-rows>\
             <table:table-row><table:table-cell table:number-rows-spanned=\"2\"><text:p>a</text:p></table:table-cell><table:table-cell><text:p>1</text:p></table:table-cell></table:table-row>\
             <table:table-row><table:covered-table-cell/><table:table-cell><text:p>2</text:p></table:table-cell></table:table-row></table:table></office:text>",
            &[
                (BlockKind::Heading(2), "Care"),
                (BlockKind::Paragraph, "Wipe it weekly (dry)."),
                (BlockKind::ListItem, "- one"),
                (BlockKind::TableHeader, "K | V"),
                (BlockKind::TableRow, "a | 1"),
                (BlockKind::TableRow, "a | 2"),
            ],
        );
    }

    #[test]
    fn sheets_that_claim_a_million_cells_stay_small() {
        let cell = "<table:table-cell office:value-type=\"date\" office:date-value=\"2024-02-29\"><text:p>29.2.</text:p></table:table-cell>";
        check(
            &format!(
                "<office:spreadsheet><table:table table:name=\"S\"><table:table-row>{cell}\
                 <table:table-cell table:number-columns-repeated=\"16383\"/></table:table-row>\
                 <table:table-row table:number-rows-repeated=\"1048575\"><table:table-cell table:number-columns-repeated=\"16384\"/></table:table-row>\
                 </table:table></office:spreadsheet>"
            ),
            &[(BlockKind::Heading(1), "S"), (BlockKind::TableRow, "2024-02-29")],
        );
    }

    #[test]
    fn a_password_is_seen() {
        let manifest = "<manifest:manifest><manifest:file-entry><manifest:encryption-data/></manifest:file-entry></manifest:manifest>";
        let bytes = archive(&[("META-INF/manifest.xml", manifest), ("content.xml", "noise")]);
        assert_eq!(extract(&bytes), Err(ExtractError::Encrypted));
    }
}
