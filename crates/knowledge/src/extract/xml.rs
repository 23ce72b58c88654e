//! XML → a tree of elements for the readers of zipped formats, and `.xml` files → blocks.
//!
//! Names are local names; prefixes are left out. Entities a document declares itself are never expanded, so that none
//! can grow. A tree has a largest depth and size.

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use super::{Extracted, html, text};
use crate::document::{Block, BlockKind};
use crate::error::ExtractError;

/// Deeper elements are refused: trees are walked on the stack.
const MAX_DEPTH: usize = 256;

/// A tree takes some ten times its source.
const MAX_SOURCE_BYTES: u64 = 64 << 20;

#[derive(Debug, Default)]
pub(super) struct Element {
    pub(super) name: String,
    attributes: Vec<(String, String)>,
    pub(super) children: Vec<Node>,
}

#[derive(Debug)]
pub(super) enum Node {
    Element(Element),
    Text(String),
}

impl Element {
    /// The outermost element.
    pub(super) fn parse(source: &str) -> Result<Self, ExtractError> {
        if source.len() as u64 > MAX_SOURCE_BYTES {
            return Err(ExtractError::TooLarge { bytes: source.len() as u64, limit: MAX_SOURCE_BYTES });
        }
        let mut reader = Reader::from_str(source);
        let mut open = vec![Self::default()];
        loop {
            let event = reader.read_event().map_err(ExtractError::damaged)?;
            let text = event_text(&event);
            let depth = open.len();
            let top = open.last_mut().expect("the document's own element is never closed");
            match event {
                Event::Start(element) if depth <= MAX_DEPTH => open.push(Self::of(&element)),
                Event::Start(_) => {
                    return Err(ExtractError::damaged(format!("elements nest deeper than {MAX_DEPTH}")));
                }
                Event::Empty(element) => top.children.push(Node::Element(Self::of(&element))),
                Event::End(_) => close(&mut open),
                Event::Eof => break,
                _ => {
                    if let Some(text) = text {
                        match top.children.last_mut() {
                            Some(Node::Text(before)) => before.push_str(&text),
                            _ => top.children.push(Node::Text(text)),
                        }
                    }
                }
            }
        }
        if open.len() > 1 {
            return Err(ExtractError::damaged(format!("`{}` isn't closed", open[open.len() - 1].name)));
        }
        let document = open.pop().unwrap_or_default();
        let root = document.children.into_iter().find_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        });
        root.ok_or_else(|| ExtractError::damaged("no XML element inside"))
    }

    fn of(element: &BytesStart<'_>) -> Self {
        let attributes = element.attributes().flatten().map(|attribute| {
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).unwrap_or_default();
            (attribute.key.local_name().as_ref().to_string(), value.into_owned())
        });
        Self {
            name: element.local_name().as_ref().to_string(),
            attributes: attributes.collect(),
            children: Vec::new(),
        }
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All attributes of this local name; their prefixes may differ.
    pub(super) fn attributes_named(&self, name: &str) -> impl Iterator<Item = &str> {
        self.attributes.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn elements(&self) -> impl Iterator<Item = &Self> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.elements().find(|element| element.name == name)
    }

    pub(super) fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.elements().filter(move |element| element.name == name)
    }

    /// The first element of this name, this one included, however deep.
    pub(super) fn find(&self, name: &str) -> Option<&Self> {
        if self.name == name { Some(self) } else { self.elements().find_map(|element| element.find(name)) }
    }

    /// All outermost elements of this name below this one.
    pub(super) fn find_all<'a>(&'a self, name: &str, found: &mut Vec<&'a Self>) {
        for element in self.elements() {
            if element.name == name {
                found.push(element);
            } else {
                element.find_all(name, found);
            }
        }
    }

    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        self.push_text(&mut out);
        out
    }

    fn push_text(&self, out: &mut String) {
        for node in &self.children {
            match node {
                Node::Text(text) => out.push_str(text),
                Node::Element(element) => element.push_text(out),
            }
        }
    }
}

fn close(open: &mut Vec<Element>) {
    if let (Some(done), Some(parent)) = (open.pop(), open.last_mut()) {
        parent.children.push(Node::Element(done));
    }
}

/// The characters an event stands for.
pub(super) fn event_text(event: &Event<'_>) -> Option<String> {
    match event {
        Event::Text(text) => Some(text.xml_content(XmlVersion::Implicit1_0).into_owned()),
        Event::CData(text) => Some(text.xml_content(XmlVersion::Implicit1_0).into_owned()),
        Event::GeneralRef(reference) => {
            let c = match reference.as_ref() {
                "amp" => Some('&'),
                "lt" => Some('<'),
                "gt" => Some('>'),
                "quot" => Some('"'),
                "apos" => Some('\''),
                "nbsp" => Some(' '),
                _ => reference.resolve_char_ref().ok().flatten(),
            };
            c.map(String::from)
        }
        _ => None,
    }
}

pub(super) fn extract(bytes: &[u8]) -> Result<Extracted, ExtractError> {
    let (source, note) = text::decode(bytes, declared_encoding(bytes))?;
    let root = Element::parse(&source)?;
    let mut blocks = Vec::new();
    write(&root, 1, &mut blocks);
    Ok(Extracted { blocks, notes: note.into_iter().collect(), ..Extracted::default() })
}

fn declared_encoding(bytes: &[u8]) -> Option<&'static encoding_rs::Encoding> {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    let (declaration, _) = start.strip_prefix("<?xml")?.split_once("?>")?;
    let (_, label) = declaration.split_once("encoding=")?;
    let label = label.trim_start_matches(['"', '\'']).split(['"', '\'']).next()?;
    encoding_rs::Encoding::for_label(label.as_bytes())
}

/// Titles become headings, running text paragraphs, and every other element with text `name: text`.
fn write(element: &Element, level: u8, blocks: &mut Vec<Block>) {
    let own_text = |node: &Node| matches!(node, Node::Text(text) if !text.trim().is_empty());
    if !element.children.iter().any(own_text) {
        for child in element.elements() {
            write(child, (level + 1).min(6), blocks);
        }
        return;
    }
    let content = element.text();
    let name = element.name.to_lowercase();
    if content.contains("</") || content.contains("<br") || content.contains("<p>") {
        // HTML inside, as feeds have it.
        if let Ok(inner) = html::extract(content.as_bytes()) {
            blocks.extend(inner.blocks);
            return;
        }
    }
    let kind_and_text = match name.as_str() {
        "title" | "head" | "heading" => (BlockKind::Heading(level.saturating_sub(1).max(1)), content),
        "p" | "para" | "paragraph" | "text" | "body" | "description" | "abstract" | "summary" | "content" => {
            (BlockKind::Paragraph, content)
        }
        "li" | "item" | "listitem" => (BlockKind::ListItem, format!("- {}", content.trim())),
        "code" | "programlisting" | "pre" => (BlockKind::Code, content),
        _ => (BlockKind::Paragraph, format!("{}: {content}", element.name)),
    };
    blocks.push(Block::new(kind_and_text.0, kind_and_text.1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_becomes_headings_and_text() {
        let source = "<?xml version='1.0' encoding='gb2312'?><rss><channel><title>新闻 &amp; more</title>\
            <item><title>One</title><description>&lt;p&gt;a&lt;/p&gt;&lt;p&gt;b&lt;/p&gt;</description><year>1962</year>\
            <para>mixed <b>text</b>!</para></item></channel></rss>";
        let (bytes, ..) = encoding_rs::GBK.encode(source);
        let blocks = extract(&bytes).unwrap().blocks;
        let found: Vec<_> = blocks.iter().map(|block| (block.kind, block.text.as_str())).collect();
        let expected = [
            (BlockKind::Heading(2), "新闻 & more"),
            (BlockKind::Heading(3), "One"),
            (BlockKind::Paragraph, "a"),
            (BlockKind::Paragraph, "b"),
            (BlockKind::Paragraph, "year: 1962"),
            (BlockKind::Paragraph, "mixed text!"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn entity_bombs_deep_nests_and_cut_files_end() {
        let bomb =
            "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]><x>start &b; end</x>";
        assert_eq!(Element::parse(bomb).unwrap().text(), "start  end");
        let deep = "<a>".repeat(100_000) + &"</a>".repeat(100_000);
        assert!(Element::parse(&deep).unwrap_err().to_string().contains("deeper than 256"));
        assert!(Element::parse("<a><b></b>").unwrap_err().to_string().contains("isn't closed"));
        assert!(matches!(Element::parse("<a></b>"), Err(ExtractError::Damaged { .. })));
        assert!(matches!(Element::parse(""), Err(ExtractError::Damaged { .. })));
    }
}
