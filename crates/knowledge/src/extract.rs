//! One file's bytes → blocks of text. Each format has its own module; this one chooses by file name.
//!
//! Readers get bytes, never paths, and are bounded: what a file may unpack to is limited, and so is how deep it nests.
//! They run on a thread of their own with a large stack, and one that panics on a broken file is caught, so that one file
//! never stops the others.

mod code;
mod csv;
mod docx;
mod email;
mod epub;
mod html;
mod json;
mod markdown;
mod opendocument;
mod pdf;
mod picture;
mod pptx;
mod table;
mod text;
mod xlsx;
mod xml;
mod zipped;

use std::path::Path;

use crate::document::{Block, BlockKind, Document, DocumentId, DocumentKind};
use crate::error::ExtractError;
use crate::picture::PictureReader;

/// The types that are read, as an error message shows them.
pub const READABLE: &str = "PDF (.pdf), Word (.docx), PowerPoint (.pptx), Excel (.xlsx), OpenDocument (.odt, .ods, .odp), \
    HTML (.html, .htm, .xhtml), Markdown (.md, .markdown), EPUB (.epub), e-mail (.eml), CSV (.csv, .tsv), \
    JSON (.json, .jsonl), XML (.xml), text (.txt, .rst, .org, .tex, .log), source code (.py, .rs, .js, .c, ...) and, with a \
    reader of pictures, images (.png, .jpg, .bmp, .webp, .tif)";

/// A larger file is skipped. 256 MiB of text is some 100 times the longest novel.
pub const MAX_FILE_BYTES: u64 = 256 << 20;

/// Characters of a title that is made of a text's beginning.
const TITLE_CHARS: usize = 60;

/// What a compressed file (DOCX, a PDF's stream) may unpack to.
pub const MAX_UNPACKED_BYTES: u64 = 256 << 20;

/// Stack of the thread that reads one file; only what is used takes memory.
const STACK_BYTES: usize = 64 << 20;

/// What readers are given besides the file.
#[derive(Clone, Copy, Default)]
pub struct ExtractOptions<'a> {
    /// Reads picture files and scanned pages; without it they are skipped and named.
    pub pictures: Option<&'a dyn PictureReader>,
}

impl std::fmt::Debug for ExtractOptions<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ExtractOptions").field("pictures", &self.pictures.is_some()).finish()
    }
}

/// What a reader gives: a title where the file names one, the blocks, and what was lost.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Extracted {
    pub(crate) title: Option<String>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) notes: Vec<String>,
    /// A file of rows gives a document for each, and no blocks of its own.
    pub(crate) rows: Vec<Row>,
}

/// One of the documents in a file of rows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) title: Option<String>,
    pub(crate) blocks: Vec<Block>,
}

/// The type a file name promises, or `None` if hearth doesn't read it.
pub fn kind_of(path: &Path) -> Option<DocumentKind> {
    let Some(extension) = path.extension() else {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let known =
            ["readme", "license", "copying", "changelog", "changes", "authors", "notice", "news", "todo"];
        return known.contains(&name.as_str()).then_some(DocumentKind::Text);
    };
    let extension = extension.to_str()?.to_ascii_lowercase();
    match extension.as_str() {
        "md" | "markdown" => Some(DocumentKind::Markdown),
        "txt" | "text" | "rst" | "org" | "tex" | "log" | "adoc" | "srt" | "vtt" => Some(DocumentKind::Text),
        "html" | "htm" | "xhtml" => Some(DocumentKind::Html),
        "pdf" => Some(DocumentKind::Pdf),
        "docx" | "docm" => Some(DocumentKind::Docx),
        "csv" | "tsv" | "tab" => Some(DocumentKind::Csv),
        "json" | "ipynb" => Some(DocumentKind::Json),
        "jsonl" | "ndjson" => Some(DocumentKind::JsonLines),
        "xlsx" | "xlsm" => Some(DocumentKind::Xlsx),
        "pptx" | "pptm" => Some(DocumentKind::Pptx),
        "epub" => Some(DocumentKind::Epub),
        "eml" => Some(DocumentKind::Email),
        "odt" | "ods" | "odp" => Some(DocumentKind::OpenDocument),
        "xml" => Some(DocumentKind::Xml),
        "png" | "jpg" | "jpeg" | "bmp" | "webp" | "tif" | "tiff" => Some(DocumentKind::Picture),
        _ if code::EXTENSIONS.contains(&extension.as_str()) => Some(DocumentKind::Code),
        _ => None,
    }
}

/// Reads one file's bytes as one document, without a reader of pictures. `path` is relative and becomes the document's
/// name; the rows of a file of rows follow each other, each under a heading.
pub fn extract(path: &str, kind: DocumentKind, bytes: &[u8]) -> Result<Document, ExtractError> {
    let mut extracted = read(path, kind, bytes, &ExtractOptions::default())?;
    for row in std::mem::take(&mut extracted.rows) {
        extracted.blocks.push(Block::new(BlockKind::Heading(1), row.title.unwrap_or(row.id)));
        extracted.blocks.extend(row.blocks);
    }
    let Extracted { title, blocks, notes, .. } = extracted;
    document(path, kind, title, blocks, notes)
}

/// Reads all documents in one file's bytes: one, or one for each row of a file of rows, which is named by its id.
pub fn extract_all(
    path: &str,
    kind: DocumentKind,
    bytes: &[u8],
    options: &ExtractOptions<'_>,
) -> Result<Vec<Document>, ExtractError> {
    let Extracted { title, blocks, notes, rows } = read(path, kind, bytes, options)?;
    if rows.is_empty() {
        return Ok(vec![document(path, kind, title, blocks, notes)?]);
    }
    let num_rows = rows.len();
    let rows = rows.into_iter().filter_map(|row| {
        let title = row.title.or_else(|| row.blocks.first().map(|block| beginning(&block.text)));
        // A row without an id is named by its file and its number.
        let path = if row.id.starts_with('#') { format!("{path}{}", row.id) } else { row.id };
        document(&path, kind, title, row.blocks, Vec::new()).ok()
    });
    let mut documents: Vec<Document> = rows.collect();
    let first = documents.first_mut().ok_or(ExtractError::NoText)?;
    first.notes = notes;
    let empty = num_rows - documents.len();
    if empty > 0 {
        documents[0].notes.push(format!("{empty} of {num_rows} rows hold no text"));
    }
    Ok(documents)
}

/// What stands for a title where there is none: the first words, exactly as the text has them.
fn beginning(text: &str) -> String {
    let text = text.trim();
    let end = text.char_indices().nth(TITLE_CHARS).map_or(text.len(), |(at, _)| at);
    let short = &text[..end];
    let whole =
        if end == text.len() { short } else { short.rsplit_once(' ').map_or(short, |(words, _)| words) };
    whole.to_owned()
}

fn read(
    path: &str,
    kind: DocumentKind,
    bytes: &[u8],
    options: &ExtractOptions<'_>,
) -> Result<Extracted, ExtractError> {
    let read = || match kind {
        DocumentKind::Markdown => markdown::extract(bytes),
        DocumentKind::Text => text::extract(bytes),
        DocumentKind::Html => html::extract(bytes),
        DocumentKind::Pdf => pdf::extract(bytes, options),
        DocumentKind::Docx => docx::extract(bytes),
        DocumentKind::Csv => csv::extract(bytes),
        DocumentKind::Json => json::extract(bytes),
        DocumentKind::JsonLines => json::extract_lines(bytes),
        DocumentKind::Xlsx => xlsx::extract(bytes),
        DocumentKind::Pptx => pptx::extract(bytes),
        DocumentKind::Epub => epub::extract(bytes),
        DocumentKind::Email => email::extract(bytes),
        DocumentKind::OpenDocument => opendocument::extract(bytes),
        DocumentKind::Xml => xml::extract(bytes),
        DocumentKind::Code => code::extract(path, bytes),
        DocumentKind::Picture => picture::extract(bytes, options),
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("extract".into()).stack_size(STACK_BYTES);
        let running = thread
            .spawn_scoped(scope, read)
            .map_err(|error| ExtractError::Unreadable { reason: error.to_string() })?;
        running.join().unwrap_or_else(|panic| {
            let reason = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("unknown")
                .to_string();
            Err(ExtractError::Panicked { reason })
        })
    })
}

fn document(
    path: &str,
    kind: DocumentKind,
    title: Option<String>,
    blocks: Vec<Block>,
    notes: Vec<String>,
) -> Result<Document, ExtractError> {
    let blocks = clean(blocks);
    if blocks.is_empty() {
        return Err(ExtractError::NoText);
    }
    let title = title
        .map(|title| one_line(&title))
        .filter(|title| !title.is_empty())
        .or_else(|| first_heading(&blocks))
        .unwrap_or_else(|| file_stem(path));
    Ok(Document { id: DocumentId::default(), path: path.into(), title, kind, blocks, notes })
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
