//! Answers → checked citations: which passage supports which sentence, and the very words that do.
//!
//! The model's own marks `[n]` count where the passage truly supports the sentence; other sentences are given to the passage
//! that supports them best. A quote is always a piece of its chunk, found there and never generated; a sentence
//! without support gets no citation.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::answer::is_not_found;
use crate::chunk::ChunkId;
use crate::document::DocumentId;
use crate::knowledge_base::Hit;
use crate::sentences::sentences;
use crate::words::{Word, is_function_word, plain_words};

/// The share of a sentence's weight that a passage's best sentence must hold, with the model's mark and without.
const SUPPORT_MARKED: f64 = 0.3;
const SUPPORT: f64 = 0.5;

/// A number counts this many times more than its rarity says: it is what an answer is right or wrong by.
const NUMBER_WEIGHT: f64 = 2.0;

/// Quotes longer than this are narrowed to the words that matter.
const MAX_QUOTE_CHARS: usize = 300;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Citation {
    /// The passage's number in the prompt, from 1.
    pub index: usize,
    pub document: DocumentId,
    pub path: String,
    pub title: String,
    pub page: Option<u32>,
    pub heading: Option<String>,
    pub chunk: ChunkId,
    /// A piece of the chunk's text.
    pub quote: String,
    /// Where the quote stands in the document's extracted text, in bytes.
    pub range: Range<usize>,
    /// True if the model itself named this passage.
    pub marked: bool,
}

/// Citations for an answer; `hits` are the passages in the order of their numbers.
pub fn cite(answer: &str, hits: &[Hit<'_>]) -> Vec<Citation> {
    if is_not_found(answer) || hits.is_empty() {
        return Vec::new();
    }
    let passages: Vec<Passage> = hits.iter().map(|hit| Passage::new(&hit.chunk.text)).collect();
    let mut citations: Vec<Citation> = Vec::new();
    for (sentence, marks) in marked_sentences(answer) {
        let claim = Claim::new(&sentence, &passages);
        if claim.weights.is_empty() {
            continue;
        }
        let valid = marks.iter().filter_map(|&mark| passages.get(mark.wrapping_sub(1)).map(|_| mark - 1));
        let marked =
            valid.filter_map(|index| Some((index, claim.best(&passages[index], SUPPORT_MARKED)?.1, true)));
        let mut found: Vec<(usize, Range<usize>, bool)> = marked.collect();
        if found.is_empty() {
            // The earliest of equals: hits come best first.
            let supported = passages.iter().enumerate().filter_map(|(index, passage)| {
                let (support, range) = claim.best(passage, SUPPORT)?;
                Some((support, index, range))
            });
            let best = supported.reduce(|best, next| if next.0 > best.0 + 1e-9 { next } else { best });
            found.extend(best.map(|(_, index, range)| (index, range, false)));
        }
        for (index, range, marked) in found {
            let citation = citation(&hits[index], index, range, marked);
            let known =
                citations.iter().any(|other| other.chunk == citation.chunk && other.quote == citation.quote);
            if !known {
                citations.push(citation);
            }
        }
    }
    citations
}

/// The answer without its marks.
pub fn strip_marks(answer: &str) -> String {
    let mut text = String::with_capacity(answer.len());
    let mut end = 0;
    for (range, _) in marks(answer) {
        text.push_str(answer[end..range.start].trim_end_matches(' '));
        end = range.end;
    }
    text.push_str(&answer[end..]);
    text.trim().to_string()
}

fn citation(hit: &Hit<'_>, index: usize, range: Range<usize>, marked: bool) -> Citation {
    let start = hit.chunk.range.start;
    Citation {
        index: index + 1,
        document: hit.chunk.document,
        path: hit.document.path.clone(),
        title: hit.document.title.clone(),
        page: hit.chunk.page,
        heading: hit.chunk.headings.last().cloned(),
        chunk: hit.chunk.id,
        quote: hit.chunk.text[range.clone()].to_string(),
        range: start + range.start..start + range.end,
        marked,
    }
}

/// `[1]`, `[1, 3]`, `【2】`: where they stand and the numbers inside.
fn marks(text: &str) -> Vec<(Range<usize>, Vec<usize>)> {
    let mut marks = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].find(['[', '【']).map(|offset| at + offset) {
        let (open, close) = if text[start..].starts_with('[') { ('[', ']') } else { ('【', '】') };
        at = start + open.len_utf8();
        let Some(length) = text[at..].find(close) else {
            continue;
        };
        let inside = &text[at..at + length];
        let numbers: Result<Vec<usize>, _> =
            inside.split([',', '，', '、', ' ']).filter(|part| !part.is_empty()).map(str::parse).collect();
        if let Ok(numbers) = numbers {
            if !numbers.is_empty() && inside.len() <= 20 {
                at += length + close.len_utf8();
                marks.push((start..at, numbers));
            }
        }
    }
    marks
}

/// The sentences without marks, each with the numbers of the marks in it or right behind it.
fn marked_sentences(answer: &str) -> Vec<(String, Vec<usize>)> {
    let mut plain = String::new();
    let mut places: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut end = 0;
    for (range, numbers) in marks(answer) {
        plain.push_str(&answer[end..range.start]);
        end = range.end;
        // A mark after the full stop belongs to the sentence that ended there.
        places.push((plain.trim_end().len().saturating_sub(1), numbers));
    }
    plain.push_str(&answer[end..]);
    let ranges = sentences(&plain);
    let with_marks = ranges.into_iter().map(|range| {
        let inside = places.iter().filter(|(at, _)| range.contains(at));
        let numbers = inside.flat_map(|(_, numbers)| numbers.iter().copied()).collect();
        (plain[range].trim().to_string(), numbers)
    });
    with_marks.filter(|(sentence, _)| !sentence.is_empty()).collect()
}

/// Where a sentence stands in its passage, and its words.
type Sentence = (Range<usize>, Vec<Word>);

/// A passage, cut into sentences with their words.
struct Passage {
    sentences: Vec<Sentence>,
    forms: BTreeSet<String>,
}

impl Passage {
    fn new(text: &str) -> Self {
        let trimmed = sentences(text).into_iter().map(|range| {
            let sentence = &text[range.clone()];
            let start = range.start + sentence.len() - sentence.trim_start().len();
            start..start + sentence.trim().len()
        });
        let sentences: Vec<Sentence> =
            trimmed.map(|range| (range.clone(), plain_words(&text[range]))).collect();
        let words = sentences.iter().flat_map(|(_, words)| words);
        let forms = words.map(|word| word.form.clone()).collect();
        Self { sentences, forms }
    }
}

/// A sentence of an answer: its words with their weights.
struct Claim {
    weights: BTreeMap<String, f64>,
    total: f64,
    has_number: bool,
}

impl Claim {
    /// Words are the heavier the fewer passages have them; function words weigh nothing.
    fn new(sentence: &str, passages: &[Passage]) -> Self {
        let mut weights = BTreeMap::new();
        for word in plain_words(sentence) {
            if is_function_word(&word.form) {
                continue;
            }
            let with = passages.iter().filter(|passage| passage.forms.contains(&word.form)).count();
            let rarity = (1.0 + (passages.len() + 1) as f64 / (with + 1) as f64).ln();
            let factor = if is_number(&word.form) { NUMBER_WEIGHT } else { 1.0 };
            weights.insert(word.form, rarity * factor);
        }
        Self {
            total: weights.values().sum(),
            has_number: weights.keys().any(|form| is_number(form)),
            weights,
        }
    }

    /// The passage's sentence that holds the most of the claim, if that is enough: its share and what to quote.
    fn best(&self, passage: &Passage, enough: f64) -> Option<(f64, Range<usize>)> {
        let mut best: Option<(f64, &Sentence)> = None;
        for sentence in &passage.sentences {
            let forms: BTreeSet<&str> = sentence.1.iter().map(|word| word.form.as_str()).collect();
            let common = self.weights.iter().filter(|(form, _)| forms.contains(form.as_str()));
            let support: f64 = common.clone().map(|(_, weight)| weight).sum::<f64>() / self.total;
            // A number that isn't there is contradicted, whatever else agrees.
            if self.has_number && !common.clone().any(|(form, _)| is_number(form)) {
                continue;
            }
            if best.as_ref().is_none_or(|(before, _)| support > before + 1e-9) {
                best = Some((support, sentence));
            }
        }
        let (support, (range, words)) = best.filter(|(support, _)| *support >= enough)?;
        Some((support, self.narrow(range.clone(), words)))
    }

    /// In a long sentence, from the first word of the claim to the last.
    fn narrow(&self, range: Range<usize>, words: &[Word]) -> Range<usize> {
        if range.len() <= MAX_QUOTE_CHARS {
            return range;
        }
        let mut hits = words.iter().filter(|word| self.weights.contains_key(&word.form));
        match (hits.next(), hits.next_back()) {
            (Some(first), Some(last)) => range.start + first.range.start..range.start + last.range.end,
            (Some(only), None) => range.start + only.range.start..range.start + only.range.end,
            _ => range,
        }
    }
}

fn is_number(form: &str) -> bool {
    form.bytes().any(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests;
