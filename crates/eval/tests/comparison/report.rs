//! The page: well-formed, free of what came from outside unescaped, and without a request.

use std::path::Path;

use hearth_eval::compare::{Setup, WayKind, compare};
use hearth_eval::report;

use crate::sample;

const VOID: [&str; 4] = ["meta", "input", "br", "hr"];

/// Checks that tags nest, attributes are quoted, and returns every tag as (name, attributes).
///
/// Stricter than a browser on purpose: hostile text that reached the markup would break a rule here.
fn tags(html: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Vec<String> = Vec::new();
    let mut rest = html.strip_prefix("<!DOCTYPE html>").expect("doctype");
    while let Some(start) = rest.find('<') {
        assert!(!rest[..start].contains('>'), "stray `>` in {:?}", &rest[..start]);
        let end = start + rest[start..].find('>').expect("tag ends");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "tag closed out of order");
            continue;
        }
        let (name, attributes) = tag.split_once([' ', '\n']).unwrap_or((tag, ""));
        let name = name.trim_end_matches('/');
        let is_name = name.chars().all(|c| c.is_ascii_alphanumeric());
        assert!(!name.is_empty() && is_name, "tag `{tag}`");
        assert_eq!(attributes.matches('"').count() % 2, 0, "quotes in `{tag}`");
        found.push((name.to_owned(), attributes.to_owned()));
        if name == "style" || name == "script" {
            let close = format!("</{name}>");
            let end = rest.find(&close).expect("raw text ends");
            rest = &rest[end + close.len()..];
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name.to_owned());
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
    found
}

#[test]
fn hostile_text_stays_text() {
    let html = report::html(&sample::comparison());
    let tags = tags(&html);
    let count = |name: &str| tags.iter().filter(|(tag, _)| tag == name).count();
    assert_eq!(count("script"), 1);
    assert_eq!(count("img") + count("a") + count("iframe") + count("link"), 0);
    let handlers: Vec<_> = tags.iter().filter(|(_, a)| a.contains(" on") || a.starts_with("on")).collect();
    assert!(handlers.is_empty(), "{handlers:?}");
    // The answer is there, escaped; so are the file name in a note and the error message.
    let escaped =
        "&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=&#39;alert(2)&#39;&gt;&quot;&amp;amp;";
    assert!(html.matches(escaped).count() >= 4, "{}", html.matches(escaped).count());
    assert!(html.contains("valve-manual &lt;draft&gt;"));
    assert!(!html.contains('\u{202e}'));
}

#[test]
fn the_page_asks_for_nothing_from_outside() {
    let html = report::html(&sample::comparison());
    for word in ["http://", "https://", "src=\"", "@import", "url(", "srcset", "fetch(", "XMLHttpRequest"] {
        assert!(!html.contains(word), "`{word}`");
    }
    assert!(html.contains("default-src 'none'"));
}

#[test]
fn every_part_and_every_answer_is_there() {
    let comparison = sample::comparison();
    let html = report::html(&comparison);
    for part in [
        "<strong>RAG</strong> answers the most: ",
        "The questions were generated from the documents by a model",
        "24 questions are few",
        "1 answer failed with an error",
        "Quality against cost",
        "The loss on examples held back from training fell",
        "60 steps of LoRA",
        "<td>0.0 s</td>",
        "24 of 60 questions were asked: the time budget was 15 min",
        "Long prompt: 24 of 24 prompts were cut to fit",
        "Worst failures",
        "Model sha256",
    ] {
        assert!(html.contains(part), "`{part}`");
    }
    let all = html.split("id=\"generations\"").nth(1).unwrap();
    assert_eq!(all.matches("<details").count(), 24);
    assert_eq!(all.matches("<div class=\"answer ").count(), 24 * 5);
}

#[test]
fn a_lead_that_may_be_chance_is_called_so() {
    let html = report::html(&sample::comparison());
    assert!(html.contains("may be chance"), "RAG and RAG + fine-tuned are close in the sample");

    let questions = sample::questions();
    let mut records = sample::records(&questions);
    records.retain(|r| matches!(r.way, WayKind::Base | WayKind::Rag));
    let clear = compare(questions.clone(), &records, &[], sample::setup()).unwrap();
    let html = report::html(&clear);
    assert!(html.contains("points more than the next, Base model"));
    assert!(!html.contains("may be chance"));

    for record in &mut records {
        record.answer = "no idea".to_owned();
    }
    let none = compare(questions, &records, &[], sample::setup()).unwrap();
    assert!(report::html(&none).contains("No way answered a single question"));
}

#[test]
fn a_bare_comparison_makes_a_page_too() {
    let mut records = sample::records(&sample::questions());
    let questions = sample::questions()[..1].to_vec();
    records.retain(|r| r.way == WayKind::Base && r.question_id == questions[0].id);
    records[0].seconds = 0.0;
    let comparison = compare(questions, &records, &[], Setup::default()).unwrap();
    let html = report::html(&comparison);
    tags(&html);
    assert!(!html.contains("NaN") && !html.contains("inf"), "numbers without data");
    assert!(html.contains("Nothing was trimmed, cut or skipped."));
}

#[test]
fn the_page_is_written_whole() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report.html");
    let comparison = sample::comparison();
    report::write(&path, &comparison).unwrap();
    assert_eq!(fs_err::read_to_string(&path).unwrap(), report::html(&comparison));
}
