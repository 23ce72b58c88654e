//! HTML → blocks of the main text: navigation, headers, footers, forms and scripts are left out.
//!
//! If the page marks its main part (`<main>`, `role="main"`, a single `<article>`), only that is read. Nothing else
//! is guessed: a heuristic that scores paragraphs (readability) loses tables and lists of manuals.

use encoding_rs::Encoding;
use scraper::{ElementRef, Html, Node, Selector};

use super::{Extracted, text};
use crate::document::{Block, BlockKind};
use crate::error::ExtractError;

/// Elements nested deeper are left out: the walk uses the stack.
const MAX_DEPTH: usize = 400;

pub(super) fn extract(bytes: &[u8]) -> Result<Extracted, ExtractError> {
    let (source, note) = text::decode(bytes, declared_encoding(bytes))?;
    let page = Html::parse_document(&source);
    let select = |css: &str| Selector::parse(css).expect("selectors here are constants");
    let title = page.select(&select("title")).next();
    let title = title.map(|title| title.text().collect::<String>());
    let main = page.select(&select("main, [role=main]")).next();
    let articles: Vec<ElementRef<'_>> = page.select(&select("article")).collect();
    let root = match (main, articles.as_slice()) {
        (Some(main), _) => main,
        (None, [article]) => *article,
        _ => page.root_element(),
    };
    let mut walk = Walk::default();
    walk.children(root, 0);
    walk.flush(BlockKind::Paragraph);
    let mut notes: Vec<String> = note.into_iter().collect();
    if walk.too_deep > 0 {
        notes.push(format!("{} elements nested too deep were left out", walk.too_deep));
    }
    Ok(Extracted { title, blocks: walk.blocks, notes })
}

/// The charset a `<meta>` near the start names.
fn declared_encoding(bytes: &[u8]) -> Option<&'static Encoding> {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(2048)]).to_ascii_lowercase();
    let after = &start[start.find("charset=")? + "charset=".len()..];
    let label = after.trim_start_matches(['"', '\'']);
    let end = label.find(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c)));
    Encoding::for_label(&label.as_bytes()[..end.unwrap_or(label.len())])
}

#[derive(Default)]
struct Walk {
    blocks: Vec<Block>,
    text: String,
    /// Open lists: the number of the next item of a numbered one.
    lists: Vec<Option<u32>>,
    in_item: bool,
    too_deep: usize,
}

impl Walk {
    fn children(&mut self, element: ElementRef<'_>, depth: usize) {
        if depth > MAX_DEPTH {
            self.too_deep += 1;
            return;
        }
        for child in element.children() {
            match child.value() {
                Node::Text(text) => self.text.push_str(text),
                Node::Element(_) => {
                    if let Some(child) = ElementRef::wrap(child) {
                        self.element(child, depth + 1);
                    }
                }
                _ => {}
            }
        }
    }

    fn element(&mut self, element: ElementRef<'_>, depth: usize) {
        let name = element.value().name();
        if is_furniture(element) {
            return;
        }
        match name {
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                self.flush(self.open_kind());
                self.children(element, depth);
                self.flush(BlockKind::Heading(name.as_bytes()[1] - b'0'));
            }
            "pre" => {
                self.flush(self.open_kind());
                self.blocks.push(Block::new(BlockKind::Code, element.text().collect::<String>()));
            }
            "br" => self.text.push('\n'),
            "ul" | "ol" => {
                self.flush(self.open_kind());
                self.lists.push((name == "ol").then_some(1));
                self.children(element, depth);
                self.flush(self.open_kind());
                self.lists.pop();
            }
            "li" => self.item(element, depth),
            "tr" => self.row(element),
            // Layout tables put the whole page into cells that hold tables or headings.
            "td" | "th" | "p" | "div" | "section" | "article" | "main" | "blockquote" | "table" | "tbody"
            | "thead" | "dl" | "dt" | "dd" | "figure" | "figcaption" | "details" | "summary" | "address"
            | "caption" | "body" | "html" | "center" | "hr" => {
                self.flush(self.open_kind());
                self.children(element, depth);
                self.flush(self.open_kind());
            }
            _ => self.children(element, depth),
        }
    }

    fn item(&mut self, element: ElementRef<'_>, depth: usize) {
        self.flush(self.open_kind());
        let mark = match self.lists.last_mut() {
            Some(Some(number)) => {
                *number += 1;
                format!("{}. ", *number - 1)
            }
            _ => "- ".to_string(),
        };
        let first = self.blocks.len();
        let outer = std::mem::replace(&mut self.in_item, true);
        self.children(element, depth);
        self.flush(BlockKind::ListItem);
        self.in_item = outer;
        if let Some(block) = self.blocks.get_mut(first) {
            if block.kind == BlockKind::ListItem {
                block.text.insert_str(0, &mark);
            }
        }
    }

    /// A data row becomes one block; a row of a layout table is walked like any other element.
    fn row(&mut self, element: ElementRef<'_>) {
        self.flush(self.open_kind());
        let cells: Vec<ElementRef<'_>> = element.child_elements().collect();
        let layout = cells.iter().any(|cell| {
            let holds = |names: &[&str]| {
                cell.descendent_elements().skip(1).any(|inner| names.contains(&inner.value().name()))
            };
            holds(&["table", "h1", "h2", "h3", "ul", "ol", "pre"])
        });
        if layout {
            for cell in cells {
                self.element(cell, 1);
            }
            return;
        }
        let texts = cells.iter().map(|cell| {
            let mut inner = Walk::default();
            inner.children(*cell, 1);
            inner.flush(BlockKind::Paragraph);
            let parts: Vec<String> = inner.blocks.iter().map(|block| super::one_line(&block.text)).collect();
            parts.join(" ").trim().to_string()
        });
        let texts: Vec<String> = texts.collect();
        if texts.iter().any(|text| !text.is_empty()) {
            self.blocks.push(Block::new(BlockKind::TableRow, texts.join(" | ")));
        }
    }

    fn open_kind(&self) -> BlockKind {
        if self.in_item { BlockKind::ListItem } else { BlockKind::Paragraph }
    }

    fn flush(&mut self, kind: BlockKind) {
        let text = std::mem::take(&mut self.text);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if !lines.is_empty() {
            self.blocks.push(Block::new(kind, text::join_lines(&lines)));
        }
    }
}

/// What surrounds the text of a page, or is not shown.
fn is_furniture(element: ElementRef<'_>) -> bool {
    let value = element.value();
    let by_name = matches!(
        value.name(),
        "script"
            | "style"
            | "noscript"
            | "template"
            | "nav"
            | "aside"
            | "footer"
            | "form"
            | "button"
            | "select"
            | "textarea"
            | "input"
            | "label"
            | "svg"
            | "iframe"
            | "object"
            | "head"
            | "dialog"
    );
    let role = value.attr("role").unwrap_or_default();
    let by_role = matches!(role, "navigation" | "banner" | "contentinfo" | "search" | "complementary");
    let hidden = value.attr("hidden").is_some() || value.attr("aria-hidden") == Some("true");
    // A header inside an article holds its title; one of the page holds logo and menus.
    let page_header = value.name() == "header"
        && !element.descendent_elements().any(|inner| matches!(inner.value().name(), "h1" | "h2"));
    by_name || by_role || hidden || page_header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::DocumentKind;

    fn blocks(source: &[u8]) -> Vec<(BlockKind, String)> {
        let document = super::super::extract("x.html", DocumentKind::Html, source).unwrap();
        document.blocks.into_iter().map(|block| (block.kind, block.text)).collect()
    }

    #[test]
    fn the_main_text_stays_and_the_furniture_goes() {
        let source = "<html><head><title>T</title><style>x{}</style></head><body>\
            <header><a>Logo</a></header><nav><ul><li>Menu</li></ul></nav>\
            <h1>Setup</h1><p>Press <b>Start</b><br>twice.</p>\
            <ol><li>One<ul><li>Inner</li></ul></li><li><p>Two</p></li></ol>\
            <table><tr><th>Key</th><th>Value</th></tr><tr><td><p>Mass</p></td><td>3 kg</td></tr></table>\
            <pre>a\n  b</pre><script>alert(1)</script><footer>(c)</footer></body></html>";
        let expected = [
            (BlockKind::Heading(1), "Setup"),
            (BlockKind::Paragraph, "Press Start twice."),
            (BlockKind::ListItem, "1. One"),
            (BlockKind::ListItem, "- Inner"),
            (BlockKind::ListItem, "2. Two"),
            (BlockKind::TableRow, "Key | Value"),
            (BlockKind::TableRow, "Mass | 3 kg"),
            (BlockKind::Code, "a\n  b"),
        ];
        let found = blocks(source.as_bytes());
        let found: Vec<_> = found.iter().map(|(kind, text)| (*kind, text.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_declared_charset_is_believed() {
        let (bytes, ..) = encoding_rs::GBK.encode("<meta charset=gb2312><p>型号 X1</p>");
        assert_eq!(blocks(&bytes), [(BlockKind::Paragraph, "型号 X1".into())]);
    }

    #[test]
    fn deep_nesting_ends_without_a_crash() {
        let deep = format!("<p>top</p>{}bottom", "<div>".repeat(3_000));
        assert_eq!(blocks(deep.as_bytes())[0].1, "top");
    }
}
