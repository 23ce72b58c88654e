//! A document after extraction: blocks of text with their kind and page, whatever the file type was.
//!
//! The extracted text of a document is its blocks joined by line ends. Chunks and citations point into it by
//! byte range, so the text and the offsets of the blocks come from one place, here.

use std::ops::Range;
use std::path::PathBuf;

use hearth_artifacts::hash::Hasher;
use serde::{Deserialize, Serialize};

/// The place of a document in its corpus, in the order of paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct DocumentId(pub u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DocumentKind {
    Markdown,
    Text,
    Html,
    Pdf,
    Docx,
    Csv,
    Json,
    JsonLines,
    Xlsx,
    Pptx,
    Epub,
    Email,
    OpenDocument,
    Xml,
    Code,
    Picture,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockKind {
    /// A heading with its level, 1 the highest.
    Heading(u8),
    Paragraph,
    ListItem,
    /// A row that names the columns of the table rows after it, cells joined by ` | `. A table may have several, or
    /// none. With a line of `---` cells after it, a header and its rows are a Markdown table.
    TableHeader,
    /// One table row, cells joined by ` | `.
    TableRow,
    Code,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    pub kind: BlockKind,
    pub text: String,
    /// Counted from 1; only where the file has pages.
    pub page: Option<u32>,
}

impl Block {
    pub fn new(kind: BlockKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), page: None }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    pub id: DocumentId,
    /// Relative to the folder that was read, with `/` between the parts. A row of a file of rows has its id after a `#`.
    pub path: String,
    pub title: String,
    pub kind: DocumentKind,
    pub blocks: Vec<Block>,
    /// What was lost on the way: broken characters, pages without text.
    pub notes: Vec<String>,
}

impl Document {
    /// The extracted text: all blocks, a line end between two.
    pub fn text(&self) -> String {
        let texts: Vec<&str> = self.blocks.iter().map(|block| block.text.as_str()).collect();
        texts.join("\n")
    }

    /// Where each block stands in [`Document::text`].
    pub fn block_ranges(&self) -> Vec<Range<usize>> {
        let mut start = 0;
        let ranges = self.blocks.iter().map(|block| {
            let range = start..start + block.text.len();
            start = range.end + 1;
            range
        });
        ranges.collect()
    }

    /// The number of pages that hold text; 1 where the file has no pages.
    pub fn num_pages(&self) -> u32 {
        let last = self.blocks.iter().filter_map(|block| block.page).max();
        last.unwrap_or(1)
    }
}

/// A file that gave no document, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    pub path: PathBuf,
    pub reason: String,
}

/// What a folder gave: the documents in the order of their paths, and what was left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Corpus {
    pub documents: Vec<Document>,
    pub skipped: Vec<Skipped>,
}

impl Corpus {
    /// Gives the documents their ids; the order is the caller's.
    pub fn new(mut documents: Vec<Document>, skipped: Vec<Skipped>) -> Self {
        for (index, document) in documents.iter_mut().enumerate() {
            document.id = DocumentId(index as u32);
        }
        Self { documents, skipped }
    }

    /// sha256 over paths and extracted blocks: equal exactly when a knowledge base would be.
    pub fn hash(&self) -> String {
        let mut hasher = Hasher::default();
        for document in &self.documents {
            let json = serde_json::to_vec(document).expect("strings and numbers become JSON");
            hasher.update(&json);
            hasher.update(b"\n");
        }
        hasher.finish()
    }
}
