//! Precision and recall of what is found, on labelled rows.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Finder, Found, Kind};
use crate::{Error, Result};

/// A value of a labelled row: characters `start..end` of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

/// A text and all that should be found in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labelled {
    pub text: String,
    pub spans: Vec<Span>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Found where it should be, at least in part, as the right kind.
    pub right: u64,
    /// Of these, with exactly the right ends.
    pub exact: u64,
    pub missed: u64,
    pub wrong: u64,
}

impl Counts {
    pub fn precision(&self) -> f64 {
        self.right as f64 / (self.right + self.wrong).max(1) as f64
    }

    pub fn recall(&self) -> f64 {
        self.right as f64 / (self.right + self.missed).max(1) as f64
    }
}

/// What was found amiss, for a look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mistake {
    pub kind: Kind,
    pub missed: bool,
    pub value: String,
    pub text: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evaluation {
    pub rows: u64,
    pub by_kind: BTreeMap<String, Counts>,
    /// The first fifty.
    pub mistakes: Vec<Mistake>,
}

const MAX_MISTAKES: usize = 50;

/// Reads rows of `{"text", "spans": [{"kind", "start", "end"}]}`, places in characters.
pub fn read(path: &Path) -> Result<Vec<Labelled>> {
    let text = fs_err::read_to_string(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| {
            serde_json::from_str(line).map_err(|error| Error::Unreadable {
                path: path.into(),
                reason: format!("line {}: {error}", at + 1),
            })
        })
        .collect()
}

pub fn evaluate(finder: &Finder, rows: &[Labelled]) -> Evaluation {
    let mut evaluation = Evaluation { rows: rows.len() as u64, ..Evaluation::default() };
    let mut found = Vec::new();
    for row in rows {
        finder.find(&row.text, &mut found);
        judge(row, &found, &mut evaluation);
    }
    evaluation
}

fn judge(row: &Labelled, found: &[Found], evaluation: &mut Evaluation) {
    // Byte of each character, and of the end.
    let places: Vec<usize> = row.text.char_indices().map(|(at, _)| at).chain([row.text.len()]).collect();
    let byte = |at: usize| places.get(at).copied().unwrap_or(row.text.len());
    let mut used = vec![false; found.len()];
    for span in &row.spans {
        let (start, end) = (byte(span.start), byte(span.end));
        let hit = (0..found.len()).find(|&at| {
            !used[at] && found[at].kind == span.kind && found[at].start < end && found[at].end > start
        });
        let counts = evaluation.by_kind.entry(span.kind.label().into()).or_default();
        match hit {
            Some(at) => {
                used[at] = true;
                counts.right += 1;
                counts.exact += u64::from((found[at].start, found[at].end) == (start, end));
            }
            None => {
                counts.missed += 1;
                let value = row.text[start..end].to_owned();
                note(evaluation, Mistake { kind: span.kind, missed: true, value, text: row.text.clone() });
            }
        }
    }
    for item in found.iter().zip(&used).filter(|(_, used)| !**used).map(|(item, _)| item) {
        evaluation.by_kind.entry(item.kind.label().into()).or_default().wrong += 1;
        let value = row.text[item.start..item.end].to_owned();
        note(evaluation, Mistake { kind: item.kind, missed: false, value, text: row.text.clone() });
    }
}

fn note(evaluation: &mut Evaluation, mistake: Mistake) {
    if evaluation.mistakes.len() < MAX_MISTAKES {
        evaluation.mistakes.push(mistake);
    }
}
