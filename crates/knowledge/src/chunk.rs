//! Documents → chunks: pieces small enough to embed and to quote, cut where the text itself is divided.
//!
//! A chunk is a piece of the extracted text, so its range and its text always agree. The pieces follow each other
//! without overlap and cover all text. Cut first at headings and pages, then between blocks, and only inside a block that
//! is too large between sentences. Small blocks are joined up to the target size.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::document::{BlockKind, Corpus, Document, DocumentId};
use crate::sentences::sentences;

/// The place of a chunk in its knowledge base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct ChunkId(pub u32);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    pub id: ChunkId,
    pub document: DocumentId,
    /// Page of the first block.
    pub page: Option<u32>,
    /// The headings above the whole chunk, the highest first.
    pub headings: Vec<String>,
    /// Bytes of [`Document::text`].
    pub range: Range<usize>,
    pub text: String,
    pub num_tokens: usize,
}

impl Chunk {
    /// What indexes see: the title and headings that aren't part of the text, then the text.
    pub fn passage(&self, title: &str) -> String {
        let context = context(title, &self.headings);
        if context.is_empty() || self.text.starts_with(&context) {
            return self.text.clone();
        }
        format!("{context}\n{}", self.text)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkConfig {
    /// Blocks are joined until a chunk has this many tokens.
    pub target_tokens: usize,
    /// No chunk has more, the headings before it included.
    pub max_tokens: usize,
}

/// Cuts all documents. `count` gives the tokens of a text as the embedder counts them.
pub fn chunk_corpus(corpus: &Corpus, config: &ChunkConfig, count: &dyn Fn(&str) -> usize) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    for document in &corpus.documents {
        chunks.extend(chunk_document(document, config, count));
    }
    for (index, chunk) in chunks.iter_mut().enumerate() {
        chunk.id = ChunkId(index as u32);
    }
    chunks
}

/// Cuts one document; ids count from 0.
pub fn chunk_document(
    document: &Document,
    config: &ChunkConfig,
    count: &dyn Fn(&str) -> usize,
) -> Vec<Chunk> {
    let text = document.text();
    let pieces = pieces(document, &text, config, count);
    let top = top_level(document);
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut open: Vec<Piece> = Vec::new();
    for piece in pieces {
        if !open.is_empty() && divides(&open, &piece, top, config) {
            chunks.push(close(document, &text, &mut open, count));
        }
        open.push(piece);
    }
    if !open.is_empty() {
        chunks.push(close(document, &text, &mut open, count));
    }
    for (index, chunk) in chunks.iter_mut().enumerate() {
        chunk.id = ChunkId(index as u32);
    }
    chunks
}

/// A block, or a part of one that is too large.
struct Piece {
    range: Range<usize>,
    num_tokens: usize,
    page: Option<u32>,
    heading: Option<u8>,
    /// The headings in force at this piece; a heading's own text is the last of its own.
    headings: Vec<String>,
}

fn pieces(
    document: &Document,
    text: &str,
    config: &ChunkConfig,
    count: &dyn Fn(&str) -> usize,
) -> Vec<Piece> {
    let mut path: Vec<(u8, String)> = Vec::new();
    let mut columns: Option<&str> = None;
    let mut pieces = Vec::new();
    for (block, range) in document.blocks.iter().zip(document.block_ranges()) {
        let heading = match block.kind {
            BlockKind::Heading(level) => Some(level),
            _ => None,
        };
        if let Some(level) = heading {
            path.retain(|(above, _)| *above < level);
            path.push((level, block.text.clone()));
        }
        columns = columns.filter(|_| block.kind == BlockKind::TableRow);
        // A row that is cut off from its table still says what its cells are.
        let above = path.iter().map(|(_, text)| text.as_str()).chain(columns);
        let headings: Vec<String> = above.map(str::to_owned).collect();
        if block.kind == BlockKind::TableHeader {
            columns = Some(&block.text);
        }
        // At least half of a chunk is for its text, however long the headings are.
        let before = count(&context(&document.title, &headings));
        let room = config.max_tokens.saturating_sub(before).max(config.max_tokens / 2).max(1);
        let mut parts = Vec::new();
        split(text, range, room, count, &mut parts);
        for (range, num_tokens) in parts {
            pieces.push(Piece { range, num_tokens, page: block.page, heading, headings: headings.clone() });
        }
    }
    pieces
}

/// Cuts `range` into parts of at most `room` tokens: at sentences, then at words, then anywhere.
fn split(
    text: &str,
    range: Range<usize>,
    room: usize,
    count: &dyn Fn(&str) -> usize,
    parts: &mut Vec<(Range<usize>, usize)>,
) {
    let num_tokens = count(&text[range.clone()]);
    let num_chars = text[range.clone()].chars().count();
    if num_tokens <= room || num_chars < 2 {
        parts.push((range, num_tokens));
        return;
    }
    let mut units: Vec<Range<usize>> = sentences(&text[range.clone()]);
    if units.len() < 2 {
        units = halves(&text[range.clone()]);
    }
    let mut open: Option<(Range<usize>, usize)> = None;
    for unit in units {
        let unit = range.start + unit.start..range.start + unit.end;
        if let Some((before, _)) = open.take() {
            let joined = before.start..unit.end;
            let num_tokens = count(&text[joined.clone()]);
            if num_tokens <= room {
                open = Some((joined, num_tokens));
                continue;
            }
            split(text, before, room, count, parts);
        }
        let num_tokens = count(&text[unit.clone()]);
        if num_tokens <= room {
            open = Some((unit, num_tokens));
        } else {
            split(text, unit, room, count, parts);
        }
    }
    parts.extend(open);
}

/// Two parts of a text without sentences, cut at the white space nearest to the middle.
fn halves(text: &str) -> Vec<Range<usize>> {
    let middle = text.len() / 2;
    let spaces = text.char_indices().filter(|(at, c)| *at > 0 && c.is_whitespace());
    let space = spaces.map(|(at, c)| at + c.len_utf8()).filter(|&at| at < text.len());
    let nearest = space.min_by_key(|at| at.abs_diff(middle));
    let near_enough = nearest.filter(|at| at.abs_diff(middle) < text.len() / 4);
    let cut = near_enough.unwrap_or_else(|| {
        let next = text.char_indices().map(|(at, _)| at).find(|&at| at >= middle.max(1));
        next.unwrap_or(text.len())
    });
    vec![0..cut, cut..text.len()]
}

/// The highest level of heading that divides the document: one that occurs once is its title.
fn top_level(document: &Document) -> u8 {
    let mut counts = [0usize; 256];
    for block in &document.blocks {
        if let BlockKind::Heading(level) = block.kind {
            counts[level as usize] += 1;
        }
    }
    let repeated = counts.iter().position(|&count| count > 1);
    repeated.or_else(|| counts.iter().position(|&count| count > 0)).unwrap_or(0) as u8
}

/// Does a new chunk begin at `next`?
fn divides(open: &[Piece], next: &Piece, top: u8, config: &ChunkConfig) -> bool {
    let tokens: usize = open.iter().map(|piece| piece.num_tokens + 1).sum();
    let only_headings = open.iter().all(|piece| piece.heading.is_some());
    if open[0].page != next.page {
        return true;
    }
    // The limit counts from the headings that stand before the text; `pieces` left room for them.
    let limit = config.max_tokens.saturating_sub(config.max_tokens / 8);
    if tokens + next.num_tokens > limit.max(1) {
        return true;
    }
    if only_headings {
        // Headings stay with the text under them.
        return false;
    }
    match next.heading {
        Some(level) if level <= top => true,
        Some(_) => tokens >= config.target_tokens / 2,
        None => tokens + next.num_tokens > config.target_tokens && tokens >= config.target_tokens / 2,
    }
}

fn close(document: &Document, text: &str, open: &mut Vec<Piece>, count: &dyn Fn(&str) -> usize) -> Chunk {
    let range = open[0].range.start..open[open.len() - 1].range.end;
    let piece = &text[range.clone()];
    // What all text has above it; a chunk of headings alone keeps its first path.
    let mut bodies = open.iter().filter(|piece| piece.heading.is_none());
    let mut headings = bodies.next().unwrap_or(&open[0]).headings.clone();
    for piece in bodies {
        let common = headings.iter().zip(&piece.headings).take_while(|(a, b)| a == b).count();
        headings.truncate(common);
    }
    let chunk = Chunk {
        id: ChunkId::default(),
        document: document.id,
        page: open[0].page,
        headings,
        text: piece.to_string(),
        num_tokens: count(piece),
        range,
    };
    open.clear();
    chunk
}

/// The line before a chunk's text that says where it stands.
fn context(title: &str, headings: &[String]) -> String {
    let mut parts: Vec<&str> = Vec::new();
    if headings.first().is_none_or(|first| first != title) {
        parts.push(title);
    }
    parts.extend(headings.iter().map(String::as_str));
    parts.join(" > ")
}

#[cfg(test)]
mod tests;
