//! One file's bytes → blocks of text. Each format has its own module; this one chooses by file name.
//!
//! Readers get bytes, never paths, and are bounded: what a file may unpack to is limited, and a reader
//! that panics on a broken file is caught, so that one file never stops the others.

mod docx;
mod html;
mod markdown;
mod pdf;
mod text;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::document::{Block, BlockKind, Document, DocumentId, DocumentKind};
use crate::error::ExtractError;

/// The types that are read, as an error message shows them.
pub const READABLE: &str =
    "Markdown (.md, .markdown), text (.txt, .text), HTML (.html, .htm, .xhtml), PDF (.pdf) and Word (.docx)";

/// A larger file is skipped. 256 MiB of text is some 100 times the longest novel.
pub const MAX_FILE_BYTES: u64 = 256 << 20;

/// What a compressed file (DOCX, a PDF's stream) may unpack to.
pub const MAX_UNPACKED_BYTES: u64 = 256 << 20;

/// What a reader gives: a title where the file names one, the blocks, and what was lost.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Extracted {
    pub(crate) title: Option<String>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) notes: Vec<String>,
}

/// The type a file name promises, or `None` if hearth doesn't read it.
pub fn kind_of(path: &Path) -> Option<DocumentKind> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    match extension.as_str() {
        "md" | "markdown" => Some(DocumentKind::Markdown),
        "txt" | "text" => Some(DocumentKind::Text),
        "html" | "htm" | "xhtml" => Some(DocumentKind::Html),
        "pdf" => Some(DocumentKind::Pdf),
        "docx" => Some(DocumentKind::Docx),
        _ => None,
    }
}

/// Reads one file's bytes. `path` is relative and becomes the document's name.
pub fn extract(path: &str, kind: DocumentKind, bytes: &[u8]) -> Result<Document, ExtractError> {
    let read = || match kind {
        DocumentKind::Markdown => markdown::extract(bytes),
        DocumentKind::Text => text::extract(bytes),
        DocumentKind::Html => html::extract(bytes),
        DocumentKind::Pdf => pdf::extract(bytes),
        DocumentKind::Docx => docx::extract(bytes),
    };
    let extracted = catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let reason = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("unknown")
            .to_string();
        Err(ExtractError::Panicked { reason })
    })?;
    let blocks = clean(extracted.blocks);
    if blocks.is_empty() {
        return Err(ExtractError::NoText);
    }
    let title = extracted
        .title
        .map(|title| one_line(&title))
        .filter(|title| !title.is_empty())
        .or_else(|| first_heading(&blocks))
        .unwrap_or_else(|| file_stem(path));
    Ok(Document { id: DocumentId::default(), path: path.into(), title, kind, blocks, notes: extracted.notes })
}

/// Drops empty blocks; white space inside a block becomes single spaces, except in code.
fn clean(blocks: Vec<Block>) -> Vec<Block> {
    let cleaned = blocks.into_iter().map(|mut block| {
        block.text.retain(|c| !matches!(c, '\0' | '\u{feff}' | '\u{ad}'));
        block.text = match block.kind {
            BlockKind::Code => block.text.trim_matches(['\n', '\r']).trim_end().to_string(),
            _ => one_line(&block.text),
        };
        block
    });
    cleaned.filter(|block| !block.text.trim().is_empty()).collect()
}

/// All white space, line ends too, as single spaces.
pub(crate) fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

fn first_heading(blocks: &[Block]) -> Option<String> {
    let heading = |block: &&Block| matches!(block.kind, BlockKind::Heading(_));
    blocks.iter().find(heading).map(|block| block.text.clone())
}

fn file_stem(path: &str) -> String {
    let stem = Path::new(path).file_stem().and_then(|stem| stem.to_str());
    stem.unwrap_or(path).to_string()
}
