//! Word documents (ECMA-376 `WordprocessingML`) → blocks: headings by their style's outline level, paragraphs,
//! list items, table rows.
//!
//! Left out on purpose: headers, footers, comments, deleted text and field codes. Page numbers are those
//! of the last time the document was laid out, if the program that saved it left its page breaks.

use std::collections::{HashMap, HashSet};

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use super::Extracted;
use super::table::{self, Header};
use super::xml::event_text;
use super::zipped::Archive;
use crate::document::{Block, BlockKind};
use crate::error::ExtractError;

pub(super) fn extract(bytes: &[u8]) -> Result<Extracted, ExtractError> {
    let mut archive = Archive::open(bytes)?;
    let styles = match archive.text("word/styles.xml")? {
        Some(xml) => heading_styles(&xml)?,
        None => Styles::default(),
    };
    let title = archive.core_title();
    let body = archive.text("word/document.xml")?;
    let body = body.ok_or_else(|| ExtractError::damaged("no `word/document.xml` inside"))?;
    let mut reading = Body::new(styles);
    reading.read(&body)?;
    let mut notes = Vec::new();
    let mut blocks = reading.finish();
    for part in ["word/footnotes.xml", "word/endnotes.xml"] {
        if let Some(xml) = archive.text(part)? {
            let mut reading = Body::new(Styles::default());
            reading.read(&xml)?;
            blocks.extend(reading.finish());
        }
    }
    if archive.names().any(|name| name == "word/comments.xml") {
        notes.push("comments were left out".to_string());
    }
    Ok(Extracted { title, blocks, notes, ..Extracted::default() })
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let found =
        element.attributes().flatten().find(|attribute| attribute.key.local_name().as_ref() == name)?;
    let value = found.normalized_value(XmlVersion::Implicit1_0).ok()?;
    Some(value.into_owned())
}

/// What paragraph styles say, by their ids.
#[derive(Default)]
struct Styles {
    levels: HashMap<String, u8>,
    lists: HashSet<String>,
}

/// Style id → heading level, from `w:outlineLvl` (0 is level 1), the style's name, or the style it is based on.
fn heading_styles(xml: &str) -> Result<Styles, ExtractError> {
    let mut levels: HashMap<String, u8> = HashMap::new();
    let mut lists: HashSet<String> = HashSet::new();
    let mut parents: Vec<(String, String)> = Vec::new();
    let mut id = String::new();
    let mut reader = Reader::from_str(xml);
    loop {
        match reader.read_event().map_err(ExtractError::damaged)? {
            Event::Start(element) | Event::Empty(element) => {
                let value = || attribute(&element, "val").unwrap_or_default();
                match element.local_name().as_ref() {
                    "style" => id = attribute(&element, "styleId").unwrap_or_default(),
                    "name" => {
                        if let Some(level) = level_of_name(&value()) {
                            levels.insert(id.clone(), level);
                        } else if is_list_name(&value()) {
                            lists.insert(id.clone());
                        }
                    }
                    "numId" if value() != "0" => drop(lists.insert(id.clone())),
                    "outlineLvl" => {
                        if let Some(level) = value().parse().ok().filter(|level: &u8| *level < 9) {
                            levels.insert(id.clone(), level + 1);
                        }
                    }
                    "basedOn" => parents.push((id.clone(), value())),
                    _ => {}
                }
            }
            Event::Eof => break,
            _ => {}
        }
    }
    // A chain of styles is rarely longer than three.
    for _ in 0..4 {
        for (child, parent) in &parents {
            if let (false, Some(level)) = (levels.contains_key(child), levels.get(parent).copied()) {
                levels.insert(child.clone(), level);
            }
            if lists.contains(parent) {
                lists.insert(child.clone());
            }
        }
    }
    Ok(Styles { levels, lists })
}

/// `List Bullet 2`, `List Number`; but `List Paragraph` is any text beside a list, and `List Continue` has no bullet.
fn is_list_name(name: &str) -> bool {
    let name = name.to_lowercase();
    name.starts_with("list bullet") || name.starts_with("list number")
}

/// `heading 1` (Word), `Heading 1` (`LibreOffice`), `标题 1` (Chinese Word), `Title`.
fn level_of_name(name: &str) -> Option<u8> {
    let name = name.to_lowercase();
    if name == "title" || name == "标题" {
        return Some(1);
    }
    let number = name.strip_prefix("heading ").or_else(|| name.strip_prefix("标题 "))?;
    number.parse().ok().filter(|level| (1..=9).contains(level))
}

/// One table that is being read; tables nest.
#[derive(Default)]
struct Table {
    rows: Vec<Vec<String>>,
    cells: Vec<String>,
    cell: Vec<String>,
    /// Rows the file marks as headers, from the first on.
    num_headers: usize,
    /// Grid columns the cell covers, and whether it goes on from the row above.
    span: usize,
    goes_on: bool,
}

/// Columns a cell may claim to cover; Word's tables have 63.
const MAX_SPAN: usize = 64;

impl Table {
    /// A cell that covers several columns leaves the others empty; one that covers several rows is in each of them.
    fn end_cell(&mut self) {
        let text = super::one_line(&std::mem::take(&mut self.cell).join(" "));
        let column = self.cells.len();
        let above = self.rows.last().and_then(|row| row.get(column)).cloned();
        let text = if std::mem::take(&mut self.goes_on) { above.unwrap_or(text) } else { text };
        self.cells.push(text);
        self.cells.resize(column + std::mem::take(&mut self.span).clamp(1, MAX_SPAN), String::new());
    }

    fn text(self) -> String {
        let rows = self.rows.iter().map(|row| row.join(" "));
        super::one_line(&rows.collect::<Vec<_>>().join(" "))
    }
}

struct Body {
    styles: Styles,
    blocks: Vec<Block>,
    tables: Vec<Table>,
    text: String,
    style: Option<u8>,
    in_list: bool,
    /// Inside `w:t`: only there characters are text.
    in_text: bool,
    /// Depth of elements whose text isn't shown (deleted runs, the fallback of a drawing).
    hidden: usize,
    page: u32,
    has_pages: bool,
}

impl Body {
    fn new(styles: Styles) -> Self {
        Self {
            styles,
            blocks: Vec::new(),
            tables: Vec::new(),
            text: String::new(),
            style: None,
            in_list: false,
            in_text: false,
            hidden: 0,
            page: 1,
            has_pages: false,
        }
    }

    fn read(&mut self, xml: &str) -> Result<(), ExtractError> {
        let mut reader = Reader::from_str(xml);
        loop {
            match reader.read_event().map_err(ExtractError::damaged)? {
                Event::Start(element) => self.start(&element, false),
                Event::Empty(element) => self.start(&element, true),
                Event::End(element) => self.end(element.local_name().as_ref()),
                Event::Eof => return Ok(()),
                event if self.in_text && self.hidden == 0 => self.text.extend(event_text(&event)),
                _ => {}
            }
        }
    }

    fn start(&mut self, element: &BytesStart<'_>, empty: bool) {
        match element.local_name().as_ref() {
            "del" | "moveFrom" | "Fallback" | "instrText" | "delText" if !empty => self.hidden += 1,
            "t" => self.in_text = !empty,
            "tab" | "ptab" if !self.text.is_empty() => self.text.push(' '),
            "br" | "cr" => {
                self.text.push(' ');
                if attribute(element, "type").as_deref() == Some("page") {
                    self.page += 1;
                }
            }
            "lastRenderedPageBreak" => {
                self.has_pages = true;
                // The saved layout counts explicit breaks too; they come right before it.
                if !self.text.ends_with(' ') || self.text.trim().len() > 1 {
                    self.page += 1;
                }
            }
            "pStyle" => {
                let id = attribute(element, "val").unwrap_or_default();
                self.style = self.styles.levels.get(&id).copied();
                self.in_list |= self.styles.lists.contains(&id);
            }
            "numId" => self.in_list = attribute(element, "val").as_deref() != Some("0"),
            "tbl" if !empty => self.tables.push(Table::default()),
            "tblHeader" | "gridSpan" | "vMerge" | "gridBefore" => self.table_property(element),
            _ => {}
        }
    }

    fn table_property(&mut self, element: &BytesStart<'_>) {
        let Some(table) = self.tables.last_mut() else {
            return;
        };
        let value = attribute(element, "val");
        match element.local_name().as_ref() {
            // Only rows at the start are headers.
            "tblHeader"
                if !matches!(value.as_deref(), Some("0" | "false"))
                    && table.num_headers == table.rows.len() =>
            {
                table.num_headers += 1;
            }
            "gridSpan" => table.span = value.and_then(|value| value.parse().ok()).unwrap_or(1),
            "gridBefore" => {
                let skipped: usize = value.and_then(|value| value.parse().ok()).unwrap_or(0);
                table.cells.resize(skipped.min(MAX_SPAN), String::new());
            }
            "vMerge" => table.goes_on = value.as_deref().is_none_or(|value| value == "continue"),
            _ => {}
        }
    }

    fn end(&mut self, name: &str) {
        match name {
            "del" | "moveFrom" | "Fallback" | "instrText" | "delText" => {
                self.hidden = self.hidden.saturating_sub(1);
            }
            "t" => self.in_text = false,
            "p" => self.end_paragraph(),
            "tc" => {
                if let Some(table) = self.tables.last_mut() {
                    table.end_cell();
                }
            }
            "tr" => {
                if let Some(table) = self.tables.last_mut() {
                    let row = std::mem::take(&mut table.cells);
                    table.rows.push(row);
                }
            }
            "tbl" => self.end_table(),
            _ => {}
        }
    }

    /// A table in a table's cell is text there; one of a single column is layout.
    fn end_table(&mut self) {
        let Some(table) = self.tables.pop() else {
            return;
        };
        if let Some(outer) = self.tables.last_mut() {
            outer.cell.push(table.text());
            return;
        }
        let header = if table.num_headers > 0 { Header::Rows(table.num_headers) } else { Header::Guess };
        self.blocks.extend(table::blocks(table.rows, header, Some(self.page)));
    }

    fn end_paragraph(&mut self) {
        let text = std::mem::take(&mut self.text);
        let (style, in_list) = (self.style.take(), std::mem::take(&mut self.in_list));
        if let Some(table) = self.tables.last_mut() {
            table.cell.push(text);
            return;
        }
        match (style, in_list) {
            (Some(level), _) => self.push(BlockKind::Heading(level), text),
            (None, true) if !text.trim().is_empty() => {
                self.push(BlockKind::ListItem, format!("- {}", text.trim()));
            }
            _ => self.push(BlockKind::Paragraph, text),
        }
    }

    fn push(&mut self, kind: BlockKind, text: String) {
        if text.chars().any(|c| !c.is_whitespace() && c != '|') {
            self.blocks.push(Block { kind, text, page: Some(self.page) });
        }
    }

    fn finish(mut self) -> Vec<Block> {
        if !self.has_pages {
            self.blocks.iter_mut().for_each(|block| block.page = None);
        }
        self.blocks
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use super::*;
    use crate::document::DocumentKind;
    use crate::extract::MAX_UNPACKED_BYTES;
    use crate::extract::zipped::tests::archive as docx;

    const STYLES: &str = r#"<w:styles xmlns:w="x"><w:style w:styleId="a1"><w:name w:val="heading 1"/></w:style>
        <w:style w:styleId="own"><w:name w:val="Mine"/><w:basedOn w:val="a1"/></w:style>
        <w:style w:styleId="lb"><w:name w:val="List Bullet"/></w:style>
        <w:style w:styleId="o2"><w:name w:val="Other"/><w:pPr><w:outlineLvl w:val="1"/></w:pPr></w:style></w:styles>"#;

    #[test]
    fn headings_lists_and_tables_come_out_as_blocks() {
        let body = r#"<w:document xmlns:w="x"><w:body>
            <w:p><w:pPr><w:pStyle w:val="own"/></w:pPr><w:r><w:t>Safety &amp; care</w:t></w:r></w:p>
            <w:p><w:pPr><w:pStyle w:val="o2"/></w:pPr><w:r><w:t>电源</w:t></w:r></w:p>
            <w:p><w:r><w:t xml:space="preserve">Use </w:t></w:r><w:del><w:r><w:delText>no </w:delText></w:r></w:del>
              <w:r><w:t>230&#160;V.</w:t></w:r></w:p>
            <w:p><w:pPr><w:numPr><w:ilvl w:val="0"/><w:numId w:val="1"/></w:numPr></w:pPr><w:r><w:t>first</w:t></w:r></w:p>
            <w:p><w:pPr><w:pStyle w:val="lb"/></w:pPr><w:r><w:t>second</w:t></w:r></w:p>
            <w:tbl><w:tr><w:tc><w:p><w:r><w:t>Mass</w:t></w:r></w:p></w:tc>
              <w:tc><w:p><w:r><w:t>3</w:t></w:r></w:p><w:p><w:r><w:t>kg</w:t></w:r></w:p></w:tc></w:tr></w:tbl>
            </w:body></w:document>"#;
        let bytes = docx(&[("word/styles.xml", STYLES), ("word/document.xml", body)]);
        let document = super::super::extract("x.docx", DocumentKind::Docx, &bytes).unwrap();
        let blocks: Vec<_> = document.blocks.iter().map(|b| (b.kind, b.text.as_str())).collect();
        assert_eq!(
            blocks,
            [
                (BlockKind::Heading(1), "Safety & care"),
                (BlockKind::Heading(2), "电源"),
                (BlockKind::Paragraph, "Use 230 V."),
                (BlockKind::ListItem, "- first"),
                (BlockKind::ListItem, "- second"),
                (BlockKind::TableRow, "Mass | 3 kg"),
            ]
        );
        assert_eq!(document.title, "Safety & care");
        assert_eq!(document.blocks[0].page, None);
    }

    #[test]
    fn a_compression_bomb_is_refused_before_it_is_unpacked() {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        writer.start_file("word/document.xml", zip::write::SimpleFileOptions::default()).unwrap();
        let zeros = vec![b' '; 1 << 20];
        for _ in 0..=(MAX_UNPACKED_BYTES >> 20) {
            writer.write_all(&zeros).unwrap();
        }
        let bytes = writer.finish().unwrap().into_inner();
        assert!(bytes.len() < 4 << 20);
        assert_eq!(extract(&bytes), Err(ExtractError::Bomb { limit: MAX_UNPACKED_BYTES }));
    }

    #[test]
    fn a_broken_archive_says_so() {
        assert!(matches!(extract(b"PK\x03\x04 nothing"), Err(ExtractError::Damaged { .. })));
        assert_eq!(extract(&[0xd0, 0xcf, 0x11, 0xe0, 0xa1]), Err(ExtractError::Encrypted));
        let cut = docx(&[("word/document.xml", "<w:document><w:p")]);
        assert!(matches!(extract(&cut), Err(ExtractError::Damaged { .. })));
        let other = docx(&[("other.xml", "<x/>")]);
        assert!(extract(&other).unwrap_err().to_string().contains("word/document.xml"));
    }
}
