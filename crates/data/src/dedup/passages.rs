//! Paragraphs or lines that stand elsewhere already, as C4 removes them: the first stays where it is, of those rows that
//! are kept.

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use super::cluster::Clusters;
use super::{Config, read_numbers};
use crate::Result;
use crate::job::Job;
use crate::row::{Content, Row};
use crate::units;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Passage {
    #[default]
    Paragraph,
    Line,
}

impl Passage {
    fn separator(self) -> &'static str {
        match self {
            Self::Paragraph => "\n\n",
            Self::Line => "\n",
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Passages {
    pub enabled: bool,
    pub unit: Passage,
    /// Shorter ones may stand anywhere: headings, names. A Chinese character counts as three.
    pub min_chars: usize,
}

impl Default for Passages {
    fn default() -> Self {
        Self { enabled: false, unit: Passage::Paragraph, min_chars: 60 }
    }
}

/// The passages of a row that count, with their places among all of its passages.
fn counted<'a>(text: &'a str, config: &'a Passages) -> impl Iterator<Item = (usize, &'a str)> {
    let long = |text: &str| {
        text.len() >= config.min_chars
            && units::num_chars(text) + 2 * units::num_han(text) >= config.min_chars
    };
    let parts = text.split(config.unit.separator()).map(str::trim).enumerate();
    parts.filter(move |(_, part)| long(part))
}

/// Only texts are cut; a conversation without one of its turns is another one.
fn text_of(row: &Row) -> &str {
    match &row.content {
        Content::Text(text) => text,
        Content::Messages(_) => "",
    }
}

pub(super) fn hashes(row: &Row, config: &Passages, hashes: &mut Vec<u64>) {
    hashes.extend(counted(text_of(row), config).map(|(_, part)| XxHash3_64::oneshot(part.as_bytes())));
}

/// Which passages of all kept rows came before, in the order of the input.
#[derive(Debug)]
pub(super) struct Repeated<'a> {
    config: &'a Passages,
    /// For each shard: a flag for each passage of each row that is kept.
    flags: Vec<Vec<bool>>,
}

pub(super) fn repeated<'a>(
    job: &Job<'_>,
    config: &'a Config,
    num_rows: &[u64],
    clusters: &Clusters,
) -> Result<Repeated<'a>> {
    let passages = &config.passages;
    if !passages.enabled {
        return Ok(Repeated { config: passages, flags: vec![Vec::new(); num_rows.len()] });
    }
    let mut all: Vec<(u64, u64)> = Vec::new();
    let mut starts = vec![0];
    let mut row = 0;
    for (index, &count) in num_rows.iter().enumerate() {
        let lengths = read_numbers(job, "num_passages", index, 0..count)?;
        let hashes = read_numbers(job, "passages", index, 0..lengths.iter().sum())?;
        let mut rest = &hashes[..];
        for length in lengths {
            let (here, behind) = rest.split_at(length as usize);
            rest = behind;
            if clusters.first(row) == row {
                let offset = all.len() as u64;
                all.extend(here.iter().copied().zip(offset..));
            }
            row += 1;
        }
        starts.push(all.len());
    }
    all.sort_unstable();
    let mut flags: Vec<Vec<bool>> = starts.windows(2).map(|ends| vec![false; ends[1] - ends[0]]).collect();
    for run in all.chunk_by(|one, other| one.0 == other.0) {
        for (_, at) in &run[1..] {
            let shard = starts.partition_point(|start| *start <= *at as usize) - 1;
            flags[shard][*at as usize - starts[shard]] = true;
        }
    }
    Ok(Repeated { config: passages, flags })
}

impl Repeated<'_> {
    pub(super) fn cutter(&self, shard: usize) -> Cutter<'_> {
        Cutter { config: self.config, flags: self.flags[shard].iter() }
    }
}

/// Cuts passages out of the kept rows of a shard, in order.
#[derive(Debug)]
pub(super) struct Cutter<'a> {
    config: &'a Passages,
    flags: std::slice::Iter<'a, bool>,
}

impl Cutter<'_> {
    /// Gives how many passages went.
    pub(super) fn cut(&mut self, row: &mut Row) -> u64 {
        if !self.config.enabled {
            return 0;
        }
        let text = text_of(row);
        let gone: Vec<usize> = counted(text, self.config)
            .zip(self.flags.by_ref())
            .filter(|(_, gone)| **gone)
            .map(|(part, _)| part.0)
            .collect();
        if gone.is_empty() {
            return 0;
        }
        let separator = self.config.unit.separator();
        let parts = text.split(separator).enumerate();
        let kept: Vec<&str> =
            parts.filter(|(at, _)| gone.binary_search(at).is_err()).map(|(_, part)| part).collect();
        row.content = Content::Text(kept.join(separator));
        gone.len() as u64
    }
}
