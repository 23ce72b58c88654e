//! Rows become documents, other values readable blocks, and broken lines are counted.

use crate::document::{BlockKind, DocumentKind};
use crate::error::ExtractError;
use crate::extract::{ExtractOptions, extract, extract_all};

fn blocks(source: &str) -> Vec<(BlockKind, String)> {
    let document = extract("x.json", DocumentKind::Json, source.as_bytes()).unwrap();
    document.blocks.into_iter().map(|block| (block.kind, block.text)).collect()
}

#[test]
fn a_row_of_text_is_a_document_of_its_own() {
    let source = "{\"_id\": \"d1\", \"title\": \"Wings\", \"text\": \"lift\\n\\ndrag\", \"url\": \"u\"}\n\n\
        not json\n{\"id\": 7, \"text\": \"second\"}\n{\"text\": \"third\"}\n{\"id\": 7, \"text\": \"\"}\n\
        {\"id\": 7, \"text\": \"again\"}\n";
    let documents =
        extract_all("c/x.jsonl", DocumentKind::JsonLines, source.as_bytes(), &ExtractOptions::default())
            .unwrap();
    let found: Vec<_> = documents
        .iter()
        .map(|document| (document.path.as_str(), document.title.as_str(), document.text()))
        .collect();
    assert_eq!(
        found,
        [
            ("d1", "Wings", "lift\ndrag".to_string()),
            ("7", "second", "second".to_string()),
            ("c/x.jsonl#3", "third", "third".to_string()),
            ("7 (row 5)", "again", "again".to_string()),
        ]
    );
    let notes = documents[0].notes.join("; ");
    for part in ["`url` (1)", "1 lines are no JSON", "line 3", "2 ids occur", "1 of 5 rows hold no text"] {
        assert!(notes.contains(part), "{notes}");
    }
    let one = extract("x.jsonl", DocumentKind::JsonLines, source.as_bytes()).unwrap();
    assert!(one.text().starts_with("Wings\nlift\ndrag\n7\nsecond"));
}

#[test]
fn other_json_becomes_keys_and_values_in_the_order_of_the_file() {
    let found = blocks(
        r#"{"zone": "north", "limits": {"max": 7, "on": true, "why": null},
            "tags": ["a", "b"], "parts": [{"name": "pump", "n": 1}, {"name": "valve", "n": 2.5}],
            "deep": [{"name": "x", "inner": {"k": "v"}}]}"#,
    );
    let found: Vec<_> = found.iter().map(|(kind, text)| (*kind, text.as_str())).collect();
    assert_eq!(
        found,
        [
            (BlockKind::Paragraph, "zone: north"),
            (BlockKind::Heading(1), "limits"),
            (BlockKind::Paragraph, "max: 7"),
            (BlockKind::Paragraph, "on: true"),
            (BlockKind::Paragraph, "why:"),
            (BlockKind::Paragraph, "tags: a, b"),
            (BlockKind::Heading(1), "parts"),
            (BlockKind::TableHeader, "name | n"),
            (BlockKind::TableRow, "pump | 1"),
            (BlockKind::TableRow, "valve | 2.5"),
            (BlockKind::Heading(1), "deep"),
            (BlockKind::Heading(2), "x"),
            (BlockKind::Paragraph, "name: x"),
            (BlockKind::Heading(3), "inner"),
            (BlockKind::Paragraph, "k: v"),
        ]
    );
}

#[test]
fn a_notebook_gives_its_text_and_its_code() {
    let source = r##"{"nbformat": 4, "cells": [{"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {"cell_type": "code", "source": "x = 1\n  y", "outputs": [{"text": "no"}]}]}"##;
    let document = extract("x.ipynb", DocumentKind::Json, source.as_bytes()).unwrap();
    assert_eq!(document.text(), "Title\ntext\nx = 1\n  y");
    assert_eq!(document.notes, ["the outputs of 1 cells were left out"]);
}

#[test]
fn broken_and_deep_json_is_damaged() {
    let deep = "[".repeat(200_000) + &"]".repeat(200_000);
    for source in ["{\"a\": ", "nothing", deep.as_str()] {
        for kind in [DocumentKind::Json, DocumentKind::JsonLines] {
            let outcome = extract("x", kind, source.as_bytes());
            assert!(matches!(outcome, Err(ExtractError::Damaged { .. })), "{outcome:?}");
        }
    }
}
