//! `data stats`: what a corpus holds, as numbers and as a page: sizes, languages, lengths, duplicates, what earlier stages
//! removed and why, what names persons, and samples.

mod page;

use std::collections::BTreeMap;

use hearth_artifacts::atomic;
use hearth_artifacts::progress::Progress;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use twox_hash::XxHash3_64;

use crate::Result;
use crate::clean::detect_language;
use crate::job::{self, Begun, Output, Sample, Shards, Summary};
use crate::pii::{self, Finder, Masker};
use crate::read::Input;
use crate::row::{Content, Row};
use crate::units::{self, Unit, UnitKind};

/// Rows shown, taken at even distances of each shard.
const SAMPLES: usize = 24;
const SAMPLES_PER_SHARD: usize = 4;
const SAMPLE_BYTES: usize = 600;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Look for what names persons. Samples are shown with placeholders either way.
    pub pii: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { pii: true }
    }
}

/// How many rows have up to this many words.
pub const LENGTH_BOUNDS: [u64; 12] = [10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 50_000, u64::MAX];

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    pub characters: u64,
    /// Words; characters of scripts without spaces count as words of their own.
    pub units: u64,
    pub conversations: u64,
    pub turns: u64,
    pub languages: BTreeMap<String, Share>,
    /// Rows by length in units, one for each of [`LENGTH_BOUNDS`].
    pub lengths: Vec<u64>,
    pub shortest: u64,
    pub longest: u64,
    /// Rows whose text came before.
    pub exact_duplicates: u64,
    pub pii: pii::Details,
    pub metadata_fields: BTreeMap<String, u64>,
    pub samples: Vec<Sample>,
    /// Summaries of the jobs that wrote the input.
    pub stages: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<u64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    pub rows: u64,
    pub bytes: u64,
}

pub fn run(
    config: &Config,
    input: &Input,
    output: &Output,
    progress: &dyn Progress,
) -> Result<Summary<Details>> {
    let job = match job::begin("stats", config, input, output, progress)? {
        Begun::Done(summary) => return Ok(*summary),
        Begun::Go(job) => job,
    };
    let pii_config = pii::Config::default();
    let finder = Finder::new(&pii_config);
    let shards = Shards { job: &job, stage: "stats", first: true };
    let (mut tally, states) = shards.run(|shard| {
        let mut counter = Counter::new(config, &finder, &pii_config);
        shard.rows(&mut |mut row, tally| {
            tally.count_out(&row);
            counter.push(&mut row);
            Ok(())
        })?;
        Ok(counter.finish())
    })?;
    let mut details = Details::default();
    for state in states {
        details.merge(state);
    }
    details.settle();
    for path in &input.paths {
        let summary = path.join(job::SUMMARY_FILE);
        if summary.exists() {
            details.stages.push(atomic::read_json(&summary)?);
        }
    }
    tally.damaged.extend(job.plan.damaged.iter().cloned());
    let folder = job.folder.clone();
    // The page first: the summary says that all is done.
    let html = page::html(&tally, &details);
    atomic::write(&folder.join("report.html"), html.as_bytes())?;
    job.finish(tally, details)
}

struct Counter<'a> {
    config: &'a Config,
    details: Details,
    masker: Masker<'a>,
    samples: Vec<(u64, Sample)>,
    /// Samples are taken at distances that double: few, and all over the shard.
    every: u64,
    rows: u64,
    units: Vec<Unit>,
}

impl<'a> Counter<'a> {
    fn new(config: &'a Config, finder: &'a Finder, pii_config: &'a pii::Config) -> Self {
        let details =
            Details { lengths: vec![0; LENGTH_BOUNDS.len()], shortest: u64::MAX, ..Details::default() };
        let masker = Masker::new(finder, pii_config);
        Self { config, details, masker, samples: Vec::new(), every: 1, rows: 0, units: Vec::new() }
    }

    fn push(&mut self, row: &mut Row) {
        let details = &mut self.details;
        let text = row.joined();
        details.characters += units::num_chars(&text) as u64;
        units::split(&text, &mut self.units);
        let count = self.units.iter().filter(|unit| unit.kind != UnitKind::Mark).count() as u64;
        details.units += count;
        details.shortest = details.shortest.min(count);
        details.longest = details.longest.max(count);
        details.lengths[LENGTH_BOUNDS.partition_point(|bound| *bound < count)] += 1;
        let language = row.metadata.text("language").unwrap_or_else(|| detect_language(&text).0.to_owned());
        let share = details.languages.entry(language).or_default();
        share.rows += 1;
        share.bytes += text.len() as u64;
        details.hashes.push(XxHash3_64::oneshot(text.as_bytes()));
        for (name, _) in row.metadata.iter() {
            match details.metadata_fields.get_mut(name) {
                Some(rows) => *rows += 1,
                None => _ = details.metadata_fields.insert(name.to_owned(), 1),
            }
        }
        if let Content::Messages(messages) = &row.content {
            details.conversations += 1;
            details.turns += messages.len() as u64;
        }
        let sampled = self.rows.is_multiple_of(self.every);
        self.rows += 1;
        let before = self.masker.details.clone();
        if sampled || self.config.pii {
            drop(text);
            self.masker.mask_row(row);
        }
        if !self.config.pii {
            self.masker.details = before;
        }
        if sampled {
            self.sample(row);
        }
    }

    fn sample(&mut self, row: &Row) {
        let text = row.joined();
        let text = text[..text.floor_char_boundary(SAMPLE_BYTES)].to_owned();
        self.samples.push((self.rows - 1, Sample { id: row.id.clone(), text }));
        if self.samples.len() > SAMPLES_PER_SHARD {
            self.every *= 2;
            let every = self.every;
            self.samples.retain(|(at, _)| at.is_multiple_of(every));
        }
    }

    fn finish(mut self) -> Details {
        self.details.pii = self.masker.details;
        self.details.samples = self.samples.into_iter().map(|(_, sample)| sample).collect();
        self.details
    }
}

impl Details {
    fn merge(&mut self, other: Self) {
        self.characters += other.characters;
        self.units += other.units;
        self.conversations += other.conversations;
        self.turns += other.turns;
        self.exact_duplicates += other.exact_duplicates;
        for (language, share) in other.languages {
            let sum = self.languages.entry(language).or_default();
            sum.rows += share.rows;
            sum.bytes += share.bytes;
        }
        self.shortest =
            if self.lengths.is_empty() { other.shortest } else { self.shortest.min(other.shortest) };
        self.lengths.resize(LENGTH_BOUNDS.len(), 0);
        self.lengths.iter_mut().zip(other.lengths).for_each(|(sum, more)| *sum += more);
        self.longest = self.longest.max(other.longest);
        self.pii.rows_with_findings += other.pii.rows_with_findings;
        for (kind, count) in other.pii.found {
            *self.pii.found.entry(kind).or_default() += count;
        }
        for (name, rows) in other.metadata_fields {
            *self.metadata_fields.entry(name).or_default() += rows;
        }
        self.samples.extend(other.samples);
        self.hashes.extend(other.hashes);
    }

    /// Counts duplicates over all shards, and thins the samples.
    fn settle(&mut self) {
        let mut hashes = std::mem::take(&mut self.hashes);
        let all = hashes.len();
        hashes.sort_unstable();
        hashes.dedup();
        self.exact_duplicates = (all - hashes.len()) as u64;
        if self.shortest == u64::MAX {
            self.shortest = 0;
        }
        let step = self.samples.len().div_ceil(SAMPLES).max(1);
        let samples = std::mem::take(&mut self.samples);
        self.samples = samples.into_iter().step_by(step).collect();
    }
}
