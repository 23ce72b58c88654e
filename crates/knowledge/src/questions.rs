//! Question–answer pairs: read from a file, kept apart for testing, and checked for leaks.
//!
//! A questions file is JSON Lines: `{"question": "…", "answers": ["…"], "source": "path"}`; `source` may be missing.
//! Held-out questions and training pairs never share a fact: not the sentence, not the answer in one
//! chunk, not nearly the same question.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hearth_artifacts::hash::sha256;
use serde::{Deserialize, Serialize};

use crate::chunk::ChunkId;
use crate::document::{Document, DocumentId};
use crate::error::{Error, Result};
use crate::words::{content_words, normalize};

/// Two questions with at least this share of common words ask the same thing.
const NEAR_EQUAL: f64 = 0.8;

/// A question from a file, with every answer that counts as right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    pub question: String,
    pub answers: Vec<String>,
    /// The document that holds the answer, where the file names one.
    pub document: Option<DocumentId>,
}

/// A question and its answer, made from a chunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    pub question: String,
    pub answer: String,
    pub document: DocumentId,
    pub chunk: ChunkId,
    /// The sentence or row that holds the answer, as it stands in the chunk.
    pub evidence: String,
}

/// Reads a questions file; the first wrong line is an error that says what is wrong.
pub fn read_questions(path: &Path, documents: &[Document]) -> Result<Vec<Question>> {
    let bytes = fs_err::read(path)?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut questions = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if !line.trim().is_empty() {
            questions.push(read_line(path, index + 1, line, documents)?);
        }
    }
    if questions.is_empty() {
        let reason = "no question inside".to_string();
        return Err(Error::Question { path: path.into(), line: 1, reason });
    }
    Ok(questions)
}

fn read_line(path: &Path, line: usize, text: &str, documents: &[Document]) -> Result<Question> {
    let wrong = |reason: String| Error::Question { path: path.into(), line, reason };
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let field = |name: &str| {
        let text = value.get(name).and_then(serde_json::Value::as_str).map(str::trim);
        text.filter(|text| !text.is_empty()).map(str::to_string)
    };
    let question = field("question").ok_or_else(|| wrong("`question` isn't a text".into()))?;
    let answers = value.get("answers").and_then(serde_json::Value::as_array);
    let answers: Option<Vec<String>> = answers.and_then(|answers| {
        let texts = answers.iter().map(|answer| Some(answer.as_str()?.trim().to_string()));
        texts.collect()
    });
    let answers = answers.filter(|answers| !answers.is_empty() && answers.iter().all(|a| !a.is_empty()));
    let answers = answers.ok_or_else(|| wrong("`answers` isn't a list of texts".into()))?;
    let source = match value.get("source") {
        None | Some(serde_json::Value::Null) => None,
        Some(_) => Some(field("source").ok_or_else(|| wrong("`source` isn't a text".into()))?),
    };
    let document = match source {
        None => None,
        Some(source) => Some(find(&source, documents).ok_or_else(|| Error::UnknownSource {
            path: path.into(),
            line,
            source_name: source,
            documents: documents.iter().map(|document| format!("`{}`", document.path)).collect(),
        })?),
    };
    Ok(Question { question, answers, document })
}

/// By its path, or by its file name if only one document has it.
fn find(source: &str, documents: &[Document]) -> Option<DocumentId> {
    let source = source.trim_start_matches("./");
    if let Some(document) = documents.iter().find(|document| document.path == source) {
        return Some(document.id);
    }
    let mut named = documents.iter().filter(|document| document.path.rsplit('/').next() == Some(source));
    match (named.next(), named.next()) {
        (Some(document), None) => Some(document.id),
        _ => None,
    }
}

/// Sets `num_held_out` pairs aside, but at most half of all facts, fact by fact: pairs that share a sentence, or an answer in one chunk, go the
/// same way, and only one pair of a held-out fact is asked. The same seed gives the same split.
///
/// Gives (held out, training); `exclude_leaks` has been applied to the second.
pub fn split(pairs: &[Pair], num_held_out: usize, seed: u64) -> (Vec<Pair>, Vec<Pair>) {
    let groups = facts(pairs);
    let mut order: Vec<(String, &Vec<usize>)> = groups
        .iter()
        .map(|members| {
            let first = &pairs[members[0]];
            let key = format!("{seed}\n{}\n{}\n{}", first.chunk.0, first.evidence, first.answer);
            (sha256(key.as_bytes()), members)
        })
        .collect();
    order.sort();
    // One question a chunk first, so that the held-out ones come from everywhere.
    let mut chunks = BTreeSet::new();
    order.sort_by_key(|(_, members)| !chunks.insert(pairs[members[0]].chunk));
    let cut = num_held_out.min(order.len() / 2);
    let (mut held_out, mut training) = (Vec::new(), Vec::new());
    for (index, (_, members)) in order.iter().enumerate() {
        if index < cut {
            held_out.push(pairs[members[0]].clone());
        } else {
            training.extend(members.iter().map(|&member| pairs[member].clone()));
        }
    }
    let asked: Vec<&str> = held_out.iter().map(|pair| pair.question.as_str()).collect();
    let training = exclude_leaks(training, &asked);
    (held_out, training)
}

/// Drops training pairs that ask nearly what a held-out question asks.
pub fn exclude_leaks(pairs: Vec<Pair>, held_out: &[&str]) -> Vec<Pair> {
    let held_out: Vec<BTreeSet<String>> = held_out.iter().map(|question| word_set(question)).collect();
    let leaks = |pair: &Pair| {
        let words = word_set(&pair.question);
        held_out.iter().any(|other| overlap(&words, other) >= NEAR_EQUAL)
    };
    pairs.into_iter().filter(|pair| !leaks(pair)).collect()
}

/// Groups of pairs (by index) that are about one fact, in the order of their first pair.
fn facts(pairs: &[Pair]) -> Vec<Vec<usize>> {
    let mut parent: Vec<usize> = (0..pairs.len()).collect();
    let mut seen: BTreeMap<(ChunkId, String), usize> = BTreeMap::new();
    for (index, pair) in pairs.iter().enumerate() {
        let keys = [
            format!("sentence {}", normalize(&pair.evidence)),
            format!("answer {}", normalize(&pair.answer)),
        ];
        for key in keys {
            let before = *seen.entry((pair.chunk, key)).or_insert(index);
            let (a, b) = (root(&parent, before), root(&parent, index));
            parent[a.max(b)] = a.min(b);
        }
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for index in 0..pairs.len() {
        groups.entry(root(&parent, index)).or_default().push(index);
    }
    groups.into_values().collect()
}

fn root(parent: &[usize], mut index: usize) -> usize {
    while parent[index] != index {
        index = parent[index];
    }
    index
}

fn word_set(text: &str) -> BTreeSet<String> {
    content_words(text).into_iter().collect()
}

/// Common words as a share of the smaller set (of the union when one is tiny, which would match too much).
fn overlap(a: &BTreeSet<String>, b: &BTreeSet<String>) -> f64 {
    let common = a.intersection(b).count() as f64;
    let smaller = a.len().min(b.len());
    if smaller >= 4 {
        return common / smaller as f64;
    }
    let union = a.union(b).count();
    if union == 0 { 0.0 } else { common / union as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Block, BlockKind, DocumentKind};

    fn documents() -> Vec<Document> {
        let document = |path: &str, id| Document {
            id: DocumentId(id),
            path: path.into(),
            title: path.into(),
            kind: DocumentKind::Text,
            blocks: vec![Block::new(BlockKind::Paragraph, "x")],
            notes: Vec::new(),
        };
        vec![document("a/one.md", 0), document("two.md", 1)]
    }

    fn read(content: &str, name: &str) -> Result<Vec<Question>> {
        let path = std::env::temp_dir().join(format!("hearth-questions-{name}-{}", std::process::id()));
        fs_err::write(&path, content).unwrap();
        let questions = read_questions(&path, &documents());
        fs_err::remove_file(&path).unwrap();
        questions
    }

    #[track_caller]
    fn check_error(content: &str, name: &str, expected: &str) {
        let message = read(content, name).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn a_questions_file_is_read_and_wrong_lines_are_named() {
        let good = "{\"question\":\"How heavy?\",\"answers\":[\"3 kg\"],\"source\":\"one.md\"}\n\n\
            {\"question\":\"多重？\",\"answers\":[\"三公斤\",\"3 kg\"]}\n";
        let questions = read(good, "good").unwrap();
        assert_eq!(questions[0].document, Some(DocumentId(0)));
        assert_eq!(questions[1].answers.len(), 2);
        check_error("", "empty", "line 1: no question inside");
        check_error("{\"question\":\"a\",\"answers\":[\"b\"]}\n{", "json", "line 2: ");
        check_error("{\"answers\":[\"b\"]}", "field", "line 1: `question` isn't a text");
        check_error("{\"question\":\"a\",\"answers\":\"b\"}", "list", "`answers` isn't a list");
        check_error("{\"question\":\"a\",\"answers\":[]}", "none", "`answers` isn't a list");
        check_error(
            "{\"question\":\"a\",\"answers\":[\"b\"],\"source\":\"three.md\"}",
            "source",
            "`source` is `three.md`, but the documents are `a/one.md`, `two.md`",
        );
    }

    fn pair(chunk: u32, question: &str, answer: &str, evidence: &str) -> Pair {
        Pair {
            question: question.into(),
            answer: answer.into(),
            document: DocumentId(0),
            chunk: ChunkId(chunk),
            evidence: evidence.into(),
        }
    }

    #[test]
    fn no_fact_is_on_both_sides_of_a_split() {
        let mut pairs = Vec::new();
        for chunk in 0..20 {
            for fact in 0..4 {
                let evidence = format!("Sentence {fact} of part {chunk}.");
                for way in ["weight", "mass", "load"] {
                    let question = format!("What {way} number {fact} has the alpha part {chunk} got?");
                    pairs.push(pair(chunk, &question, &format!("{} kg", chunk * 10 + fact), &evidence));
                }
            }
        }
        let (held_out, training) = split(&pairs, 15, 1);
        assert_eq!(held_out.len(), 15);
        assert!(training.len() > 100);
        let chunks: BTreeSet<ChunkId> = held_out.iter().map(|pair| pair.chunk).collect();
        assert_eq!(chunks.len(), 15);
        for asked in &held_out {
            for learned in &training {
                let same_sentence = asked.chunk == learned.chunk && asked.evidence == learned.evidence;
                let same_answer = asked.chunk == learned.chunk && asked.answer == learned.answer;
                assert!(!same_sentence && !same_answer, "{asked:?} leaks into {learned:?}");
            }
        }
        assert_eq!(split(&pairs, 15, 1), (held_out.clone(), training));
        assert_ne!(split(&pairs, 15, 2).0, held_out);
        assert_eq!(split(&pairs, 1000, 1).0.len(), 20 * 4 / 2);
    }

    #[test]
    fn nearly_equal_questions_are_kept_out_of_training() {
        let pairs = vec![
            pair(0, "What is the mass of the Kestrel pump?", "3 kg", "a"),
            pair(1, "Who makes the Kestrel?", "Arden", "b"),
            pair(2, "红隼水泵的额定电压是多少？", "230 V", "c"),
        ];
        let left = exclude_leaks(pairs, &["what mass has the kestrel pump", "红隼水泵额定电压为多少"]);
        let questions: Vec<_> = left.iter().map(|pair| pair.question.as_str()).collect();
        assert_eq!(questions, ["Who makes the Kestrel?"]);
    }
}
