//! What a job counts: rows in and out, rows set aside, and why; with samples.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::row::Row;

/// Samples of a reason that are kept of each shard, and of the whole.
const SAMPLES_PER_SHARD: usize = 3;
const SAMPLES: usize = 10;
const SAMPLE_BYTES: usize = 240;

/// A row that went, by its id and its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    pub id: String,
    pub text: String,
}

/// How many rows went for one reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    pub rows: u64,
    pub bytes: u64,
    pub samples: Vec<Sample>,
}

/// Adds up over shards in their order, so that it doesn't depend on threads.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    pub rows_in: u64,
    pub rows_out: u64,
    /// Of text, not of files.
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Rows that couldn't be read; they stand in `rejected.jsonl.zst`.
    pub unreadable: u64,
    /// Rows that weren't UTF-8 and were read in another encoding.
    pub recoded: u64,
    /// Files that break off, with the reason.
    pub damaged: Vec<(String, String)>,
    /// Why rows that could be read aren't in the output.
    pub removed: BTreeMap<String, Reason>,
}

impl Tally {
    pub(crate) fn count_in(&mut self, row: &Row) {
        self.rows_in += 1;
        self.bytes_in += row.text_bytes() as u64;
    }

    pub(crate) fn count_out(&mut self, row: &Row) {
        self.rows_out += 1;
        self.bytes_out += row.text_bytes() as u64;
    }

    pub(crate) fn remove(&mut self, reason: &str, row: &Row) {
        if !self.removed.contains_key(reason) {
            self.removed.insert(reason.into(), Reason::default());
        }
        if let Some(entry) = self.removed.get_mut(reason) {
            entry.rows += 1;
            entry.bytes += row.text_bytes() as u64;
            if entry.samples.len() < SAMPLES_PER_SHARD {
                let text = row.texts().next().unwrap_or_default();
                let text = text[..text.floor_char_boundary(SAMPLE_BYTES)].to_owned();
                entry.samples.push(Sample { id: row.id.clone(), text });
            }
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        let Self { rows_in, rows_out, bytes_in, bytes_out, unreadable, recoded, damaged, removed } = other;
        self.rows_in += rows_in;
        self.rows_out += rows_out;
        self.bytes_in += bytes_in;
        self.bytes_out += bytes_out;
        self.unreadable += unreadable;
        self.recoded += recoded;
        self.damaged.extend(damaged);
        for (reason, more) in removed {
            let entry = self.removed.entry(reason).or_default();
            entry.rows += more.rows;
            entry.bytes += more.bytes;
            entry.samples.extend(more.samples);
            entry.samples.truncate(SAMPLES);
        }
    }

    /// What the user should read.
    pub(crate) fn notes(&self, skipped: &[String]) -> Vec<String> {
        let mut notes = Vec::new();
        if self.unreadable > 0 {
            notes
                .push(format!("{} rows couldn't be read; they stand in rejected.jsonl.zst", self.unreadable));
        }
        if self.recoded > 0 {
            notes.push(format!("{} rows weren't UTF-8 and were read in another encoding", self.recoded));
        }
        for (file, reason) in &self.damaged {
            notes.push(format!("`{file}` breaks off: {reason}"));
        }
        if let [first, ..] = skipped {
            notes.push(format!(
                "{} files of other types were left out, the first is `{first}`",
                skipped.len()
            ));
        }
        notes
    }
}
