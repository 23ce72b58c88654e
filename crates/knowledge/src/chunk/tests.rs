//! Laws of chunking, over documents of many shapes.

use super::*;
use crate::document::{Block, DocumentKind};

fn count(text: &str) -> usize {
    crate::words::plain_words(text).len()
}

fn document(blocks: Vec<Block>) -> Document {
    Document {
        id: DocumentId(7),
        path: "a.md".into(),
        title: "Manual".into(),
        kind: DocumentKind::Markdown,
        blocks,
        notes: Vec::new(),
    }
}

fn block(kind: BlockKind, text: &str, page: u32) -> Block {
    Block { kind, text: text.into(), page: (page > 0).then_some(page) }
}

const CONFIG: ChunkConfig = ChunkConfig { target_tokens: 20, max_tokens: 40 };

/// Chunks follow each other, their ranges give their texts, all text is covered, none is too large.
#[track_caller]
fn check_laws(document: &Document, config: &ChunkConfig) -> Vec<Chunk> {
    let chunks = chunk_document(document, config, &count);
    let text = document.text();
    let mut end = 0;
    for chunk in &chunks {
        assert!(chunk.range.start >= end, "chunks overlap");
        assert!(text[end..chunk.range.start].trim().is_empty(), "text was left out");
        assert_eq!(text[chunk.range.clone()], chunk.text);
        assert_eq!(chunk.num_tokens, count(&chunk.text));
        let limit = config.max_tokens + config.max_tokens / 2;
        assert!(chunk.num_tokens <= limit, "{} tokens", chunk.num_tokens);
        assert_eq!(chunk.document, document.id);
        end = chunk.range.end;
    }
    assert!(text[end..].trim().is_empty(), "the end was left out");
    chunks
}

#[test]
fn every_shape_of_document_obeys_the_laws() {
    let kinds = [
        BlockKind::Heading(1),
        BlockKind::Heading(2),
        BlockKind::Heading(3),
        BlockKind::Paragraph,
        BlockKind::ListItem,
        BlockKind::TableRow,
        BlockKind::Code,
    ];
    let texts = [
        "word",
        "A sentence of six words here.",
        "打开外壳之前请拔下电源线。电机在停机后约二十五分钟内仍然很热。",
        "no sentence end in a very long line of words that goes on and on ".trim(),
    ];
    let mut state = 1u64;
    let mut next = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    for _ in 0..60 {
        let blocks = (0..next(30)).map(|index| {
            let text = vec![texts[next(texts.len())]; 1 + next(9)].join(" ");
            block(kinds[next(kinds.len())], &text, (index / 7) as u32)
        });
        let document = document(blocks.collect());
        let chunks = check_laws(&document, &CONFIG);
        for chunk in &chunks {
            let blocks = document.blocks.iter().zip(document.block_ranges());
            for (block, range) in blocks {
                if range.start < chunk.range.end && chunk.range.start < range.end {
                    assert_eq!(block.page, chunk.page, "a chunk crosses pages");
                }
            }
        }
    }
}

#[test]
fn a_top_level_heading_always_begins_a_chunk_and_small_blocks_join_under_it() {
    let document = document(vec![
        block(BlockKind::Heading(1), "Manual", 0),
        block(BlockKind::Heading(2), "Setup", 0),
        block(BlockKind::Paragraph, "Plug it in.", 0),
        block(BlockKind::Paragraph, "Press start.", 0),
        block(BlockKind::Heading(2), "Care", 0),
        block(BlockKind::Paragraph, "Wipe it.", 0),
    ]);
    let chunks = check_laws(&document, &CONFIG);
    let texts: Vec<_> = chunks.iter().map(|chunk| chunk.text.as_str()).collect();
    assert_eq!(texts, ["Manual\nSetup\nPlug it in.\nPress start.", "Care\nWipe it."]);
    assert_eq!(chunks[1].headings, ["Manual", "Care"]);
    assert_eq!(chunks[1].passage("Manual"), "Manual > Care\nCare\nWipe it.");
}

#[test]
fn a_large_paragraph_is_cut_between_sentences() {
    let sentence = "This sentence has exactly seven words here. ";
    let document = document(vec![block(BlockKind::Paragraph, sentence.repeat(20).trim(), 0)]);
    let chunks = check_laws(&document, &CONFIG);
    assert!(chunks.len() > 2);
    assert!(chunks.iter().all(|chunk| chunk.text.starts_with("This") && chunk.text.trim().ends_with('.')));
}

#[test]
fn text_without_any_space_is_cut_too() {
    let document = document(vec![block(BlockKind::Paragraph, &"长".repeat(500), 0)]);
    let per_char = |text: &str| text.chars().count();
    let chunks = chunk_document(&document, &CONFIG, &per_char);
    assert!(chunks.len() >= 12 && chunks.iter().all(|chunk| chunk.num_tokens <= CONFIG.max_tokens));
}

#[test]
fn rows_cut_off_from_their_table_keep_the_names_of_its_columns() {
    let mut blocks =
        vec![Block::new(BlockKind::Heading(1), "Prices"), Block::new(BlockKind::TableHeader, "part | price")];
    blocks.extend(
        (0..30).map(|row| Block::new(BlockKind::TableRow, format!("valve number {row} | {row} EUR"))),
    );
    blocks.push(Block::new(BlockKind::Paragraph, "All prices of this list hold until the end of the year."));
    let document = Document {
        id: DocumentId(0),
        path: "prices.csv".into(),
        title: "Prices".into(),
        kind: DocumentKind::Csv,
        blocks,
        notes: Vec::new(),
    };
    let config = ChunkConfig { target_tokens: 30, max_tokens: 40 };
    let chunks = chunk_document(&document, &config, &|text| text.split_whitespace().count());
    assert!(chunks.len() > 4);
    for chunk in &chunks {
        let has_rows = chunk.text.contains("valve number");
        let passage = chunk.passage(&document.title);
        assert_eq!(passage.matches("part | price").count(), usize::from(has_rows), "{passage}");
    }
}
