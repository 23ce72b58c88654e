//! HTML → blocks of the main text: navigation, headers, footers, forms and scripts are left out.
//!
//! If the page marks its main part (`<main>`, `role="main"`, a single `<article>`), only that is read. Nothing else
//! is guessed: a heuristic that scores paragraphs (readability) loses tables and lists of manuals.

use std::borrow::Cow;

use encoding_rs::Encoding;
use html5ever::tendril::TendrilSink;
use scraper::{ElementRef, Html, HtmlTreeSink, Node, Selector};

use super::table::{self, Header};
use super::{Extracted, text};
use crate::document::{Block, BlockKind};
use crate::error::ExtractError;

/// Elements nested deeper are left out: the walk uses the stack.
const MAX_DEPTH: usize = 400;

/// The page is parsed in steps of this size, and not further where more elements than this are open.
const STEP_BYTES: usize = 4096;
const MAX_OPEN: usize = 2000;

/// Every page may have this many nodes, and a larger one as many as it has bytes.
const MIN_NODES: usize = 1 << 17;

/// The standard's limits of `colspan` and `rowspan` (HTML, 4.9.11), and one for all cells of a table.
const MAX_SPAN: usize = 1000;
const MAX_ROW_SPAN: usize = 65_534;
const MAX_CELLS: usize = 1 << 20;

pub(super) fn extract(bytes: &[u8]) -> Result<Extracted, ExtractError> {
    let (source, note) = text::decode(bytes, declared_encoding(bytes))?;
    let (page, mut notes) = parse(&expand_self_closing(&source));
    notes.extend(note);
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
    if walk.too_deep > 0 {
        notes.push(format!("{} elements nested too deep were left out", walk.too_deep));
    }
    Ok(Extracted { title, blocks: walk.blocks, notes, ..Extracted::default() })
}

/// Parses in small steps, and stops where a page nests so deep or repeats its tags so often that it must be hostile:
/// the time and memory of the standard's algorithm grow with the square of that.
fn parse(source: &str) -> (Html, Vec<String>) {
    let sink = HtmlTreeSink::new(Html::new_document());
    let mut parser = html5ever::parse_document(sink, html5ever::ParseOpts::default());
    let mut notes = Vec::new();
    let mut at = 0;
    while at < source.len() {
        let end = source.ceil_char_boundary((at + STEP_BYTES).min(source.len()));
        parser.process(source[at..end].into());
        at = end;
        let page = parser.tokenizer.sink.sink.0.borrow();
        let num_nodes = page.tree.values().len();
        let depth =
            page.tree.nodes().next_back().map_or(0, |node| node.ancestors().take(MAX_OPEN + 1).count());
        if depth > MAX_OPEN || num_nodes > MIN_NODES.max(at) {
            notes
                .push(format!("nested too deep after {at} of {} bytes; the rest was left out", source.len()));
            break;
        }
    }
    (parser.finish(), notes)
}

/// XML may close any element in its own tag (`<title/>`), which HTML takes for an opening.
fn expand_self_closing(source: &str) -> Cow<'_, str> {
    let is_xml = source.trim_start().starts_with("<?xml") || source.contains("http://www.w3.org/1999/xhtml");
    if !is_xml || !source.contains("/>") {
        return Cow::Borrowed(source);
    }
    let mut out = String::with_capacity(source.len() + 64);
    let mut rest = source;
    while let Some(end) = rest.find("/>") {
        let (before, after) = (&rest[..end], &rest[end + 2..]);
        let tag = before.rfind('<').map_or("", |start| &before[start + 1..]);
        let name: &str = tag.split(|c: char| c.is_whitespace()).next().unwrap_or_default();
        let expands = matches!(
            name,
            "title"
                | "script"
                | "style"
                | "a"
                | "span"
                | "div"
                | "p"
                | "i"
                | "b"
                | "em"
                | "strong"
                | "td"
                | "th"
                | "li"
                | "h1"
                | "h2"
                | "h3"
                | "iframe"
                | "textarea"
                | "video"
                | "audio"
                | "object"
                | "section"
        );
        out.push_str(before);
        if expands && !tag.contains('>') {
            out.push_str("></");
            out.push_str(name);
            out.push('>');
        } else {
            out.push_str("/>");
        }
        rest = after;
    }
    out.push_str(rest);
    Cow::Owned(out)
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
            "dt" | "dd" => self.definition(element, depth),
            "table" if !is_layout(element) => {
                self.flush(self.open_kind());
                self.table(element, depth);
            }
            // Layout tables put the whole page into cells that hold tables or headings.
            "tr" | "td" | "th" | "p" | "div" | "section" | "article" | "main" | "blockquote" | "table"
            | "tbody" | "thead" | "tfoot" | "dl" | "figure" | "figcaption" | "details" | "summary"
            | "address" | "caption" | "body" | "html" | "center" | "hr" => {
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

    /// A term and its explanation stand in one block.
    fn definition(&mut self, element: ElementRef<'_>, depth: usize) {
        if element.value().name() == "dt" {
            self.flush(self.open_kind());
            self.children(element, depth);
            if self.text.trim().is_empty() {
                return;
            }
            self.text.truncate(self.text.trim_end().len());
            // Several terms may share an explanation.
            let next = element.next_siblings().find_map(ElementRef::wrap);
            if next.is_some_and(|next| next.value().name() == "dd") && !self.text.ends_with(':') {
                self.text.push_str(": ");
            } else {
                self.text.push('\n');
            }
        } else {
            self.children(element, depth);
            self.flush(self.open_kind());
        }
    }

    /// A table of data; a cell over several rows is in each of them.
    fn table(&mut self, table: ElementRef<'_>, depth: usize) {
        if depth > MAX_DEPTH {
            self.too_deep += 1;
            return;
        }
        let mut rows: Vec<Vec<String>> = Vec::new();
        let (mut num_headers, mut num_cells) = (0, 0);
        // For each column the rows its last cell still covers, and that cell's text.
        let mut covered: Vec<(usize, String)> = Vec::new();
        for row in table_rows(table) {
            if row.value().name() == "caption" {
                self.children(row, depth + 1);
                self.flush(BlockKind::Paragraph);
                continue;
            }
            let mut cells: Vec<String> = Vec::new();
            let fill = |cells: &mut Vec<String>, covered: &mut Vec<(usize, String)>| {
                while let Some((left, text)) = covered.get_mut(cells.len()).filter(|(left, _)| *left > 0) {
                    *left -= 1;
                    cells.push(text.clone());
                }
            };
            let in_head =
                row.parent().and_then(ElementRef::wrap).is_some_and(|p| p.value().name() == "thead");
            let mut all_headers = true;
            let is_cell = |cell: &ElementRef<'_>| matches!(cell.value().name(), "td" | "th");
            for cell in row.child_elements().filter(is_cell) {
                fill(&mut cells, &mut covered);
                all_headers &= cell.value().name() == "th";
                let span =
                    |name: &str| cell.value().attr(name).and_then(|n| n.trim().parse().ok()).unwrap_or(1);
                let (width, height): (usize, usize) = (span("colspan"), span("rowspan"));
                let text = self.cell(cell, depth);
                let column = cells.len();
                cells.push(text.clone());
                cells.resize(column + width.clamp(1, MAX_SPAN), String::new());
                covered.resize(covered.len().max(cells.len()), (0, String::new()));
                covered[column] = (height.clamp(1, MAX_ROW_SPAN) - 1, text);
            }
            fill(&mut cells, &mut covered);
            num_cells += cells.len();
            if (in_head || all_headers && !cells.is_empty()) && num_headers == rows.len() {
                num_headers += 1;
            }
            rows.push(cells);
            if num_cells > MAX_CELLS {
                self.too_deep += 1;
                break;
            }
        }
        let header = if num_headers > 0 { Header::Rows(num_headers) } else { Header::Guess };
        self.blocks.extend(table::blocks(rows, header, None));
    }

    fn cell(&mut self, cell: ElementRef<'_>, depth: usize) -> String {
        let mut inner = Walk::default();
        inner.children(cell, depth + 2);
        inner.flush(BlockKind::Paragraph);
        self.too_deep += inner.too_deep;
        let parts: Vec<String> = inner.blocks.iter().map(|block| super::one_line(&block.text)).collect();
        parts.join(" ").trim().to_string()
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

/// A table whose cells hold tables, headings or code, or that has a single cell, arranges a page.
fn is_layout(table: ElementRef<'_>) -> bool {
    if matches!(table.value().attr("role"), Some("presentation" | "none")) {
        return true;
    }
    let mut num_cells = 0;
    for inner in table.descendent_elements().skip(1) {
        match inner.value().name() {
            "table" | "h1" | "h2" | "h3" | "pre" => return true,
            "td" | "th" => num_cells += 1,
            _ => {}
        }
    }
    num_cells <= 1
}

/// The rows and the caption of a table in their order, whatever groups them.
fn table_rows(table: ElementRef<'_>) -> impl Iterator<Item = ElementRef<'_>> {
    table.child_elements().flat_map(|child| {
        let group = matches!(child.value().name(), "thead" | "tbody" | "tfoot");
        let rows = group.then(|| child.child_elements()).into_iter().flatten();
        let own = matches!(child.value().name(), "tr" | "caption").then_some(child);
        rows.filter(|row| row.value().name() == "tr").chain(own)
    })
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
    let style = value.attr("style").unwrap_or_default().replace(' ', "").to_ascii_lowercase();
    // Help pages hide the names of keys and menus of the other systems in spans; those are words of the sentence.
    let hidden = value.attr("hidden").is_some() && value.name() != "span"
        || value.attr("aria-hidden") == Some("true")
        || style.contains("display:none")
        || style.contains("visibility:hidden");
    let named = |names: &[&str]| {
        let of = |attribute: &str| value.attr(attribute).unwrap_or_default().to_ascii_lowercase();
        let (id, class) = (of("id"), of("class"));
        let mut words =
            id.split(|c: char| !c.is_alphanumeric()).chain(class.split(|c: char| !c.is_alphanumeric()));
        words.any(|word| names.contains(&word))
    };
    // Banners that ask for consent, menus, and the small links of Wikis.
    let banner = matches!(value.name(), "div" | "section" | "span" | "ul" | "p" | "table")
        && named(&[
            "cookie",
            "cookies",
            "consent",
            "gdpr",
            "cookiebanner",
            "breadcrumb",
            "breadcrumbs",
            "navbar",
            "navbox",
            "sidebar",
            "skip",
            "editsection",
            "noprint",
            "catlinks",
            "toc",
            "pagination",
        ]);
    // A header inside an article holds its title; one of the page holds logo and menus.
    let page_header = value.name() == "header"
        && !element.descendent_elements().any(|inner| matches!(inner.value().name(), "h1" | "h2"));
    by_name || by_role || hidden || banner || page_header
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
            (BlockKind::TableHeader, "Key | Value"),
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
