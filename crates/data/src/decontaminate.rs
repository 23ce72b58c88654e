//! `data decontaminate`: rows that hold a stretch of an evaluation set go, and it is said which stretch of which question.
//!
//! A stretch is `ngram_words` words (13, as GPT-3's), or `ngram_characters` characters in Chinese; case and marks don't
//! count. All strings of an evaluation row are looked at: questions, choices, passages. What is shorter than a stretch can't
//! be found so, and is counted.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::path::PathBuf;

use hearth_artifacts::progress::Progress;
use serde::{Deserialize, Serialize};

use crate::job::{self, Begun, Output, Shards, Summary};
use crate::read::{Input, Item, read_all};
use crate::units::{self, Unit, UnitKind, mix};
use crate::write::{Format, RowWriter};
use crate::{Error, Result};

const CONTAMINATED: &str = "removed.jsonl.zst";

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Files or folders of evaluation sets.
    pub evaluation: Vec<PathBuf>,
    pub ngram_words: usize,
    pub ngram_characters: usize,
    /// Different stretches a row may hold before it goes, less one.
    pub min_matches: usize,
}

impl Default for Config {
    fn default() -> Self {
        // Thirteen words are some twenty Chinese characters.
        Self { evaluation: Vec::new(), ngram_words: 13, ngram_characters: 20, min_matches: 1 }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    pub evaluation_rows: u64,
    /// Evaluation rows shorter than a stretch, which can't be found.
    pub evaluation_rows_too_short: u64,
    pub stretches: u64,
    pub contaminated: u64,
}

/// Hashes that are spread already.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = mix(self.0, u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// All stretches of the evaluation sets.
#[derive(Debug, Default)]
pub struct Index {
    stretches: HashMap<u64, u32, BuildHasherDefault<AsIs>>,
    ids: Vec<String>,
    too_short: u64,
    ngram_words: usize,
    ngram_characters: usize,
}

/// A stretch of an evaluation row in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    pub evaluation_row: u32,
    pub start: usize,
    pub end: usize,
}

impl Index {
    pub fn new(config: &Config) -> Result<Self> {
        if config.evaluation.is_empty() {
            let expectation = "name at least one file of an evaluation set".into();
            return Err(Error::Config { field: "evaluation".into(), value: "[]".into(), expectation });
        }
        if config.ngram_words == 0 || config.ngram_characters == 0 {
            let expectation = "stretches of at least one unit".into();
            return Err(Error::Config { field: "ngram_words".into(), value: "0".into(), expectation });
        }
        let mut index = Self {
            ngram_words: config.ngram_words,
            ngram_characters: config.ngram_characters,
            ..Self::default()
        };
        let mut input = Input::new(config.evaluation.clone());
        input.read.all_strings = true;
        let mut found = Vec::new();
        read_all(&input, &mut |item| {
            match item {
                Item::Row(row) => index.add(row.id.clone(), &row.joined(), &mut found),
                Item::Rejected(row) => {
                    return Err(Error::Unreadable {
                        path: row.origin.file.clone().into(),
                        reason: format!("{}: {}", row.origin, row.reason),
                    });
                }
                Item::Damaged { .. } => {}
            }
            Ok(())
        })?;
        Ok(index)
    }

    fn add(&mut self, id: String, text: &str, found: &mut Vec<Unit>) {
        let row = self.ids.len() as u32;
        self.ids.push(id);
        let length = units_of(text, found, self.ngram_words, self.ngram_characters);
        self.too_short += u64::from(found.len() < length);
        for window in found.windows(length) {
            self.stretches.entry(gram(window)).or_insert(row);
        }
    }

    /// The stretches of evaluation rows that a text holds, up to `max`.
    pub fn find(&self, text: &str, max: usize, found: &mut Vec<Unit>) -> Vec<Match> {
        let length = units_of(text, found, self.ngram_words, self.ngram_characters);
        let windows = found.windows(length);
        let hits = windows.filter_map(|window| {
            let row = *self.stretches.get(&gram(window))?;
            Some(Match {
                evaluation_row: row,
                start: window[0].start as usize,
                end: window[length - 1].end as usize,
            })
        });
        hits.take(max).collect()
    }
}

/// A text's units without marks; the length of a stretch in it.
fn units_of(text: &str, found: &mut Vec<Unit>, words: usize, characters: usize) -> usize {
    units::split(text, found);
    found.retain(|unit| unit.kind != UnitKind::Mark);
    let single = found.iter().filter(|unit| unit.kind == UnitKind::Character).count();
    if single * 2 > found.len() { characters } else { words }
}

fn gram(units: &[Unit]) -> u64 {
    units::finish(units.iter().fold(0, |hash, unit| mix(hash, unit.hash)))
}

pub fn run(
    config: &Config,
    input: &Input,
    output: &Output,
    progress: &dyn Progress,
) -> Result<Summary<Details>> {
    let index = Index::new(config)?;
    let job = match job::begin("decontaminate", config, input, output, progress)? {
        Begun::Done(summary) => return Ok(*summary),
        Begun::Go(job) => job,
    };
    let shards = Shards { job: &job, stage: "decontaminate", first: true };
    let (tally, states) = shards.run(|shard| {
        let path = job.work_path("removed", shard.index, "jsonl.zst");
        let mut removed: Option<RowWriter> = None;
        let mut found = Vec::new();
        let mut count = 0u64;
        shard.rewrite(&mut |row, tally| {
            let matches = index.find(&row.joined(), config.min_matches, &mut found);
            let Some(first) = matches.first().filter(|_| matches.len() >= config.min_matches) else {
                return Ok(true);
            };
            let writer = match removed.as_mut() {
                Some(writer) => writer,
                None => removed.insert(RowWriter::create(&path, Format::JsonlZst)?),
            };
            writer.write_json(&serde_json::json!({
                "id": row.id, "origin": row.origin, "evaluation": index.ids[first.evaluation_row as usize],
                "stretch": row.joined()[first.start..first.end],
            }))?;
            count += 1;
            tally.remove("contaminated", row);
            Ok(false)
        })?;
        if let Some(writer) = removed {
            writer.finish()?;
        }
        Ok(count)
    })?;
    let details = Details {
        evaluation_rows: index.ids.len() as u64,
        evaluation_rows_too_short: index.too_short,
        stretches: index.stretches.len() as u64,
        contaminated: states.iter().sum(),
    };
    job.join_pieces("removed", CONTAMINATED)?;
    job.finish(tally, details)
}

#[cfg(test)]
mod tests {
    use hearth_testkit::Scratch;

    use super::*;

    #[test]
    fn planted_questions_are_found_in_english_and_chinese_and_nothing_else() {
        let folder = Scratch::new("data-contamination").unwrap();
        let english =
            "How many degrees does the second kiln of the old pottery reach when it is fired twice?";
        let chinese = "这座古老陶器作坊的第二座窑炉在连续烧制两次的时候温度能够达到多少度";
        let rows = format!(
            "{{\"question\":\"{english}\",\"choices\":[\"1\",\"2\"]}}\n{{\"q\":\"{chinese}\"}}\n{{\"q\":\"short\"}}\n"
        );
        fs_err::write(folder.join("eval.jsonl"), rows).unwrap();
        let config = Config { evaluation: vec![folder.join("eval.jsonl")], ..Config::default() };
        let index = Index::new(&config).unwrap();
        assert_eq!((index.ids.len(), index.too_short), (3, 1));
        let find =
            |text: &str| index.find(text, 1, &mut Vec::new()).first().map(|found| found.evaluation_row);
        assert_eq!(
            find(&format!("Before. {} After it.", english.to_uppercase().replace(' ', ", "))),
            Some(0)
        );
        assert_eq!(find(&format!("在此之前有一些别的文字。{chinese}，之后也有一些文字。")), Some(1));
        assert_eq!(find("How many degrees does the second kiln of the old pottery reach on Mondays?"), None);
    }
}
