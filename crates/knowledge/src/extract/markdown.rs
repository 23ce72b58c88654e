//! Markdown (`CommonMark` with tables) → blocks; markup is dropped, the text of links and images stays.
//!
//! A YAML block at the start gives the title and is no text.

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use super::table::{self, Header};
use super::{Extracted, html, text};
use crate::document::{Block, BlockKind};
use crate::error::ExtractError;

pub(super) fn extract(bytes: &[u8]) -> Result<Extracted, ExtractError> {
    let (source, note) = text::decode(bytes, None)?;
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS;
    let mut writer = Writer::default();
    for event in Parser::new_ext(&source, options) {
        writer.event(event);
    }
    writer.flush(BlockKind::Paragraph);
    Ok(Extracted {
        title: writer.title,
        blocks: writer.blocks,
        notes: note.into_iter().collect(),
        ..Extracted::default()
    })
}

#[derive(Default)]
struct Writer {
    title: Option<String>,
    blocks: Vec<Block>,
    /// The text of the block that is being read.
    text: String,
    cells: Vec<String>,
    rows: Vec<Vec<String>>,
    /// For each open list the number of its next item, if it is numbered.
    lists: Vec<Option<u64>>,
    metadata: bool,
    /// HTML between blank lines, as tables and boxes that unfold are often written.
    html: String,
}

impl Writer {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(&tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) if self.metadata => {
                let title = text.lines().find_map(|line| line.strip_prefix("title:"));
                self.title = title.map(|title| title.trim().trim_matches(['"', '\'']).to_string());
            }
            Event::Text(text) | Event::Code(text) => self.text.push_str(&text),
            Event::InlineMath(text) | Event::DisplayMath(text) => self.text.push_str(&text),
            Event::Html(html) => self.html.push_str(&html),
            Event::InlineHtml(html) => {
                // Tags alone carry no text; `<br>` separates words.
                if html.trim_start().to_ascii_lowercase().starts_with("<br") {
                    self.text.push(' ');
                }
            }
            Event::SoftBreak => self.soft_break(),
            Event::HardBreak => self.text.push(' '),
            Event::TaskListMarker(done) => self.text.push_str(if done { "[x] " } else { "[ ] " }),
            Event::Rule | Event::FootnoteReference(_) => {}
        }
    }

    fn start(&mut self, tag: &Tag<'_>) {
        match tag {
            Tag::Heading { .. } | Tag::CodeBlock(_) | Tag::Table(_) => {
                self.flush(self.open_kind());
            }
            Tag::List(first) => {
                self.flush(self.open_kind());
                self.lists.push(*first);
            }
            Tag::Item => {
                let mark = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        *number += 1;
                        format!("{}. ", *number - 1)
                    }
                    _ => "- ".to_string(),
                };
                self.text.push_str(&mark);
            }
            Tag::HtmlBlock if self.lists.is_empty() => self.flush(self.open_kind()),
            Tag::MetadataBlock(_) => self.metadata = true,
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => self.flush(BlockKind::Heading(level_number(level))),
            TagEnd::Paragraph => self.flush(self.open_kind()),
            TagEnd::CodeBlock => self.flush(BlockKind::Code),
            TagEnd::Item => self.flush(BlockKind::ListItem),
            TagEnd::List(_) => {
                self.lists.pop();
            }
            TagEnd::TableCell => self.cells.push(super::one_line(&std::mem::take(&mut self.text))),
            TagEnd::TableHead | TagEnd::TableRow => self.rows.push(std::mem::take(&mut self.cells)),
            TagEnd::Table => {
                let rows = std::mem::take(&mut self.rows);
                self.blocks.extend(table::blocks(rows, Header::Rows(1), None));
            }
            TagEnd::HtmlBlock => {
                let source = std::mem::take(&mut self.html);
                let inner = html::extract(source.as_bytes()).map(|inner| inner.blocks).unwrap_or_default();
                if self.lists.is_empty() {
                    self.blocks.extend(inner);
                } else {
                    let texts: Vec<String> = inner.into_iter().map(|block| block.text).collect();
                    self.text.push_str(&texts.join(" "));
                }
            }
            TagEnd::MetadataBlock(_) => self.metadata = false,
            _ => {}
        }
    }

    fn open_kind(&self) -> BlockKind {
        if self.lists.is_empty() { BlockKind::Paragraph } else { BlockKind::ListItem }
    }

    fn soft_break(&mut self) {
        self.text.push('\n');
    }

    fn flush(&mut self, kind: BlockKind) {
        let text = std::mem::take(&mut self.text);
        let text = if kind == BlockKind::Code {
            text
        } else {
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            text::join_lines(&lines)
        };
        self.blocks.push(Block::new(kind, text));
    }
}

fn level_number(level: HeadingLevel) -> u8 {
    match level {
        HeadingLevel::H1 => 1,
        HeadingLevel::H2 => 2,
        HeadingLevel::H3 => 3,
        HeadingLevel::H4 => 4,
        HeadingLevel::H5 => 5,
        HeadingLevel::H6 => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::DocumentKind;

    #[test]
    fn blocks_of_html_are_read_as_html() {
        let source = "# A\n\n<table><tr><th>K</th><th>V</th></tr>\n<tr><td>Mass</td><td>3 kg</td></tr></table>\n\n\
            <!-- no --> <p align=center><img src=x></p>\n\nx <b>y</b><br>z\n\n- <div>deep</div>\n";
        let document = super::super::extract("x.md", DocumentKind::Markdown, source.as_bytes()).unwrap();
        let blocks: Vec<_> = document.blocks.iter().map(|b| (b.kind, b.text.as_str())).collect();
        assert_eq!(
            blocks,
            [
                (BlockKind::Heading(1), "A"),
                (BlockKind::TableHeader, "K | V"),
                (BlockKind::TableRow, "Mass | 3 kg"),
                (BlockKind::Paragraph, "x y z"),
                (BlockKind::ListItem, "- deep"),
            ]
        );
    }

    #[test]
    fn headings_lists_tables_and_code_keep_their_kind() {
        let source = "---\ntitle: \"A guide\"\n---\n# One\nSome *bold*\ntext with [a link](http://x).\n\n\
            - first\n- second\n  - inner\n\n3. three\n\n| a | b |\n|---|---|\n| 1 | `2` |\n\n\
            ```\nlet x = 1;\n  y\n```\n## 二级\n中文\n换行\n";
        let document = super::super::extract("x.md", DocumentKind::Markdown, source.as_bytes()).unwrap();
        let blocks: Vec<_> = document.blocks.iter().map(|b| (b.kind, b.text.as_str())).collect();
        assert_eq!(document.title, "A guide");
        assert_eq!(
            blocks,
            [
                (BlockKind::Heading(1), "One"),
                (BlockKind::Paragraph, "Some bold text with a link."),
                (BlockKind::ListItem, "- first"),
                (BlockKind::ListItem, "- second"),
                (BlockKind::ListItem, "- inner"),
                (BlockKind::ListItem, "3. three"),
                (BlockKind::TableHeader, "a | b"),
                (BlockKind::TableRow, "1 | 2"),
                (BlockKind::Code, "let x = 1;\n  y"),
                (BlockKind::Heading(2), "二级"),
                (BlockKind::Paragraph, "中文换行"),
            ]
        );
    }
}
