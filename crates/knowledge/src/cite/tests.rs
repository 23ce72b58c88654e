//! Citations: right passage, right words, and the law that a quote stands in its chunk.

use super::*;
use crate::chunk::Chunk;
use crate::document::{Document, DocumentKind};

const TEXTS: [&str; 4] = [
    "The Kestrel pump has a steel housing. Its motor stays hot for 25 minutes after use. Wear gloves.",
    "The warranty of the Kestrel ends after 37 months. It covers the motor.",
    "红隼水泵的额定电压为230伏。保修期为三十七个月，自购买之日起计算。",
    "Part | Mass\nValve | 3.4 kg\nHousing | 12 kg",
];

fn with_hits<T>(run: impl FnOnce(&[Hit<'_>]) -> T) -> T {
    let document = Document {
        id: DocumentId(1),
        path: "manual/kestrel.md".into(),
        title: "Kestrel".into(),
        kind: DocumentKind::Markdown,
        blocks: Vec::new(),
        notes: Vec::new(),
    };
    let chunks = TEXTS.iter().enumerate().map(|(index, text)| Chunk {
        id: ChunkId(index as u32),
        range: 100..100 + text.len(),
        ..crate::pairs::tests::chunk(text)
    });
    let chunks: Vec<Chunk> = chunks.collect();
    let hits = chunks.iter().enumerate().map(|(index, chunk)| Hit {
        rank: index + 1,
        score: 1.0,
        chunk,
        document: &document,
        bm25_rank: None,
        dense_rank: None,
        cosine: None,
    });
    let hits: Vec<Hit<'_>> = hits.collect();
    run(&hits)
}

/// (passage, quote, marked by the model)
#[track_caller]
fn check(answer: &str, expected: &[(usize, &str, bool)]) {
    let citations = with_hits(|hits| cite(answer, hits));
    let found: Vec<_> = citations.iter().map(|c| (c.index, c.quote.as_str(), c.marked)).collect();
    assert_eq!(found, expected, "{answer}");
}

#[test]
fn marks_are_kept_where_the_passage_supports_them() {
    let quote = "Its motor stays hot for 25 minutes after use.";
    check("The motor stays hot for 25 minutes [1].", &[(1, quote, true)]);
    check("The motor stays hot for 25 minutes. [1]", &[(1, quote, true)]);
    check("It takes 25 minutes【1】", &[(1, quote, true)]);
    // The named passage says something else: the right one is found.
    check("The motor stays hot for 25 minutes [2].", &[(1, quote, false)]);
    check("The motor stays hot for 25 minutes [9].", &[(1, quote, false)]);
}

#[test]
fn sentences_without_marks_go_to_the_passage_that_holds_their_words() {
    check("After 37 months", &[(2, "The warranty of the Kestrel ends after 37 months.", false)]);
    check("额定电压是230伏。", &[(3, "红隼水泵的额定电压为230伏。", false)]);
    check("保修期三十七个月", &[(3, "保修期为三十七个月，自购买之日起计算。", false)]);
    check("3.4 kg", &[(4, "Valve | 3.4 kg", false)]);
    check(
        "The housing is made of steel. The warranty ends after 37 months.",
        &[
            (1, "The Kestrel pump has a steel housing.", false),
            (2, "The warranty of the Kestrel ends after 37 months.", false),
        ],
    );
}

#[test]
fn what_the_passages_do_not_say_gets_no_citation() {
    check("", &[]);
    check("[1]", &[]);
    check("Not in the documents. [1]", &[]);
    check("文档中没有相关内容。", &[]);
    check("The moon is made of cheese.", &[]);
    check("The motor stays hot for 99 minutes [1].", &[]);
    check("Yes.", &[]);
    assert_eq!(cite("The motor", &[]), []);
}

#[test]
fn every_quote_stands_in_its_chunk_whatever_the_answer() {
    let words: Vec<&str> = "motor 25 minutes [1] [2][3] valve 3.4 kg 。 . \n 保修期 三十七个月 [ ] 【4】 steel housing ! the 额定电压"
        .split(' ')
        .collect();
    let mut state = 7u64;
    for _ in 0..300 {
        let mut answer = String::new();
        for _ in 0..12 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            answer.push_str(words[(state >> 33) as usize % words.len()]);
            answer.push(' ');
        }
        with_hits(|hits| {
            for citation in cite(&answer, hits) {
                let chunk = hits[citation.index - 1].chunk;
                assert!(!citation.quote.is_empty() && chunk.text.contains(&citation.quote));
                let inside = citation.range.start - chunk.range.start..citation.range.end - chunk.range.start;
                assert_eq!(chunk.text[inside], citation.quote);
            }
        });
    }
}

#[test]
fn a_long_sentence_is_quoted_in_part() {
    let text = format!("{} the Kestrel weighs 12 kg {}", "word ".repeat(80), "and more ".repeat(40));
    let passage = Passage::new(&text);
    let claim = Claim::new("The Kestrel weighs 12 kg", std::slice::from_ref(&passage));
    let (_, range) = claim.best(&passage, SUPPORT).unwrap();
    assert_eq!(&text[range], "Kestrel weighs 12 kg");
}

#[test]
fn marks_are_taken_out() {
    assert_eq!(strip_marks("It is 3 kg [1]. And [2, 3] hot【4】。"), "It is 3 kg. And hot。");
    assert_eq!(strip_marks("x[i] and [note] stay"), "x[i] and [note] stay");
}
