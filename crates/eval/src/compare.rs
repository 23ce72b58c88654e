//! Records of every way on the same questions → scores, intervals, the best way: `report.json`.
//!
//! The best way is the one that answers most often: the highest mean of "answer contained". Equal
//! means go to the higher token F1 (the shorter, cleaner answer), then to the higher citation hit
//! rate (the answer one can check), then to fewer seconds per answer, then to the way that is
//! simpler to keep, in the order of [`WayKind`]. The rule picks a way to serve even where the
//! intervals overlap; [`WaySummary::behind_best`] says whether the lead may be chance.
//! An answer that failed counts as wrong in every metric; it is never left out of a mean.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::bootstrap::{self, Interval};
use crate::metrics;
use crate::question::Question;
use crate::{Error, Result};

/// The ways to make a model good at one's own documents, from the simplest to keep to the costliest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum WayKind {
    #[serde(rename = "base")]
    Base,
    #[serde(rename = "prompt")]
    Prompt,
    #[serde(rename = "rag")]
    Rag,
    #[serde(rename = "finetune")]
    Finetune,
    #[serde(rename = "rag+finetune")]
    RagFinetune,
}

impl WayKind {
    pub const ALL: [Self; 5] = [Self::Base, Self::Prompt, Self::Rag, Self::Finetune, Self::RagFinetune];

    /// The name in JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Prompt => "prompt",
            Self::Rag => "rag",
            Self::Finetune => "finetune",
            Self::RagFinetune => "rag+finetune",
        }
    }

    /// The name for readers.
    pub fn title(self) -> &'static str {
        match self {
            Self::Base => "Base model",
            Self::Prompt => "Long prompt",
            Self::Rag => "RAG",
            Self::Finetune => "Fine-tuned",
            Self::RagFinetune => "RAG + fine-tuned",
        }
    }

    /// Whether answers of this way come with citations.
    pub fn cites(self) -> bool {
        matches!(self, Self::Rag | Self::RagFinetune)
    }
}

impl fmt::Display for WayKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where an answer says its words come from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CitationRecord {
    pub document: String,
    #[serde(default)]
    pub page: Option<u32>,
    #[serde(default)]
    pub heading: Option<String>,
    pub quote: String,
    pub chunk: String,
}

/// What one way said to one question, and what it cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub question_id: String,
    pub way: WayKind,
    pub answer: String,
    #[serde(default)]
    pub citations: Vec<CitationRecord>,
    pub prompt_tokens: usize,
    /// Tokens of the prompt that were not computed again.
    pub cached_tokens: usize,
    pub completion_tokens: usize,
    pub seconds: f64,
    /// What was left out to fit the context, in words.
    #[serde(default)]
    pub cut: Option<String>,
    #[serde(default)]
    pub error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    pub exact: f64,
    pub f1: f64,
    pub contains: f64,
    /// `None` where nothing can be hit: the way cites nothing or the question names no source.
    pub citation_hit: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoredRecord {
    #[serde(flatten)]
    pub record: Record,
    pub scores: Scores,
}

/// 95 % intervals `[low, high]` of the means of the same names.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Intervals {
    pub exact: [f64; 2],
    pub f1: [f64; 2],
    pub contains: [f64; 2],
    pub citation_hit: Option<[f64; 2]>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WaySummary {
    pub way: WayKind,
    pub exact: f64,
    pub f1: f64,
    pub contains: f64,
    pub citation_hit: Option<f64>,
    /// Mean seconds per answer.
    pub seconds: f64,
    /// Mean completion tokens per answer.
    pub tokens: f64,
    /// Mean prompt tokens per answer, of which `cached_tokens` were reused.
    pub prompt_tokens: f64,
    pub cached_tokens: f64,
    pub ci95: Intervals,
    /// "Contained" of the best way minus that of this one, paired by question; `None` for the best.
    pub behind_best: Option<Interval>,
    /// Answers that failed, and answers whose prompt was cut.
    pub errors: usize,
    pub cuts: usize,
    pub preparation_seconds: f64,
    pub preparation: String,
}

/// What had to be done once before a way could answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preparation {
    pub way: WayKind,
    pub seconds: f64,
    pub note: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossPoint {
    pub step: u64,
    pub loss: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainingCurve {
    pub steps: u64,
    pub train_loss: Vec<LossPoint>,
    pub validation_loss: Vec<LossPoint>,
    /// Rank, learning rate, examples and the like, in reading order.
    #[serde(default)]
    pub facts: Vec<Fact>,
}

/// A named value that the report shows as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    pub name: String,
    pub value: String,
}

impl Fact {
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

/// What was compared on what: everything that the records do not say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// The folder or knowledge base, as the reader knows it.
    pub name: String,
    pub documents: usize,
    /// Whether the questions were made from the documents by the model itself.
    pub generated: bool,
    pub model: String,
    pub embedder: String,
    pub seed: u64,
    /// Everything that was trimmed, skipped or truncated, a sentence each.
    pub notes: Vec<String>,
    pub retrieval: Vec<Fact>,
    pub training: Option<TrainingCurve>,
    /// Hashes, settings, prompts: what somebody needs to repeat the run.
    pub details: Vec<Fact>,
    pub machine: String,
    pub started: String,
    pub seconds: f64,
}

/// The content of `report.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub ways: Vec<WaySummary>,
    pub best: WayKind,
    /// How many questions every way was asked.
    pub questions: usize,
    #[serde(flatten)]
    pub setup: Setup,
    pub asked: Vec<Question>,
    pub records: Vec<ScoredRecord>,
}

impl Comparison {
    /// The records of one question in the order of the ways.
    pub fn answers_to<'a>(&'a self, question_id: &'a str) -> impl Iterator<Item = &'a ScoredRecord> {
        self.records.iter().filter(move |scored| scored.record.question_id == question_id)
    }

    pub fn way(&self, way: WayKind) -> Option<&WaySummary> {
        self.ways.iter().find(|summary| summary.way == way)
    }
}

/// Scores all records and picks the best way.
///
/// Each way that occurs must have exactly one record a question, so that every way is measured on
/// the same questions; a way that was not run at all is left out, and `setup.notes` should say so.
pub fn compare(
    questions: Vec<Question>,
    records: &[Record],
    preparations: &[Preparation],
    setup: Setup,
) -> Result<Comparison> {
    let ways: Vec<WayKind> =
        WayKind::ALL.into_iter().filter(|way| records.iter().any(|record| record.way == *way)).collect();
    if questions.is_empty() || ways.is_empty() {
        return Err(Error::NothingToCompare { questions: questions.len(), ways: ways.len() });
    }
    let scored = score_all(&questions, &ways, records)?;
    // `score_all` orders by question, then way.
    let of_way =
        |index: usize| -> Vec<&ScoredRecord> { scored.iter().skip(index).step_by(ways.len()).collect() };
    let mut summaries: Vec<WaySummary> = ways
        .iter()
        .enumerate()
        .map(|(index, way)| summarise(*way, &of_way(index), preparations, setup.seed))
        .collect();
    let best = best_index(&summaries);
    let contains = |index: usize| -> Vec<f64> {
        let records = of_way(index);
        records.iter().map(|scored| scored.scores.contains).collect()
    };
    let best_contains = contains(best);
    for (index, summary) in summaries.iter_mut().enumerate() {
        if index != best {
            summary.behind_best = bootstrap::paired_difference(&best_contains, &contains(index), setup.seed);
        }
    }
    Ok(Comparison {
        best: summaries[best].way,
        ways: summaries,
        questions: questions.len(),
        setup,
        asked: questions,
        records: scored,
    })
}

/// The scores of one record; a failed answer gets none of its points.
pub fn score(question: &Question, record: &Record) -> Scores {
    let answer = if record.error.is_some() { "" } else { record.answer.as_str() };
    let source = question.source.as_deref().filter(|_| record.way.cites());
    Scores {
        exact: metrics::exact_match(answer, &question.answers),
        f1: metrics::token_f1(answer, &question.answers),
        contains: metrics::contains(answer, &question.answers),
        citation_hit: source.map(|source| {
            let cited = record.citations.iter().map(|c| c.document.as_str());
            metrics::citation_hit(cited, source)
        }),
    }
}

fn score_all(questions: &[Question], ways: &[WayKind], records: &[Record]) -> Result<Vec<ScoredRecord>> {
    for (index, question) in questions.iter().enumerate() {
        if questions[..index].iter().any(|other| other.id == question.id) {
            return Err(Error::DuplicateQuestion { id: question.id.clone() });
        }
    }
    if let Some(stray) = records.iter().find(|record| questions.iter().all(|q| q.id != record.question_id)) {
        return Err(Error::UnknownQuestion { way: stray.way, question: stray.question_id.clone() });
    }
    let mut scored = Vec::with_capacity(records.len());
    for question in questions {
        for way in ways {
            let is_wanted = |r: &&Record| r.way == *way && r.question_id == question.id;
            let found: Vec<&Record> = records.iter().filter(is_wanted).collect();
            let [record] = found[..] else {
                return Err(Error::Records { way: *way, question: question.id.clone(), found: found.len() });
            };
            scored.push(ScoredRecord { scores: score(question, record), record: record.clone() });
        }
    }
    Ok(scored)
}

fn summarise(way: WayKind, scored: &[&ScoredRecord], preparations: &[Preparation], seed: u64) -> WaySummary {
    let interval = |value: fn(&Scores) -> Option<f64>| {
        let values: Vec<f64> = scored.iter().filter_map(|s| value(&s.scores)).collect();
        bootstrap::mean_interval(&values, seed)
    };
    let always = |value: fn(&Scores) -> Option<f64>| {
        interval(value).expect("each way has a record for each of at least one question")
    };
    let mean = |value: fn(&Record) -> f64| {
        scored.iter().map(|s| value(&s.record)).sum::<f64>() / scored.len() as f64
    };
    let exact = always(|scores| Some(scores.exact));
    let f1 = always(|scores| Some(scores.f1));
    let contains = always(|scores| Some(scores.contains));
    let citation_hit = interval(|scores| scores.citation_hit);
    let preparation: Vec<&Preparation> = preparations.iter().filter(|p| p.way == way).collect();
    let notes: Vec<&str> = preparation.iter().map(|p| p.note.as_str()).collect();
    WaySummary {
        way,
        exact: exact.mean,
        f1: f1.mean,
        contains: contains.mean,
        citation_hit: citation_hit.map(|interval| interval.mean),
        seconds: mean(|record| record.seconds),
        tokens: mean(|record| record.completion_tokens as f64),
        prompt_tokens: mean(|record| record.prompt_tokens as f64),
        cached_tokens: mean(|record| record.cached_tokens as f64),
        ci95: Intervals {
            exact: exact.ends(),
            f1: f1.ends(),
            contains: contains.ends(),
            citation_hit: citation_hit.map(Interval::ends),
        },
        behind_best: None,
        errors: scored.iter().filter(|s| s.record.error.is_some()).count(),
        cuts: scored.iter().filter(|s| s.record.cut.is_some()).count(),
        // Not `sum`: without a term that is -0.
        preparation_seconds: preparation.iter().fold(0.0, |sum, p| sum + p.seconds),
        preparation: notes.join("; "),
    }
}

fn best_index(ways: &[WaySummary]) -> usize {
    let mut best = 0;
    for index in 1..ways.len() {
        if is_better(&ways[index], &ways[best]) {
            best = index;
        }
    }
    best
}

/// The rule of the module's head; equal in all of it means the earlier, simpler way stays.
fn is_better(way: &WaySummary, other: &WaySummary) -> bool {
    let citations = |way: &WaySummary| way.citation_hit.unwrap_or(0.0);
    way.contains
        .total_cmp(&other.contains)
        .then(way.f1.total_cmp(&other.f1))
        .then(citations(way).total_cmp(&citations(other)))
        .then(other.seconds.total_cmp(&way.seconds))
        .is_gt()
}
