//! `data dedup`: each text once. Equal texts, texts that are nearly equal (`MinHash` and bands), and paragraphs or lines
//! that stand elsewhere already; of equals the first in the order of the input stays.
//!
//! Two passes over the input: `signature` gives each row its hashes, shard by shard; `cluster` finds which rows belong
//! together, one band at a time, so that memory is some twenty bytes a row; then the rows that stay are written. Nothing
//! depends on the number of threads: clusters are the components of a graph, and their first row is a minimum.

mod cluster;
mod passages;
mod signature;

use hearth_artifacts::atomic;
use hearth_artifacts::progress::Progress;
use serde::{Deserialize, Serialize};

pub use self::passages::{Passage, Passages};
pub use self::signature::{Near, Signer};
use crate::job::{self, Begun, Job, Output, Shards, Summary, Tally};
use crate::read::Input;
use crate::write::{Format, RowWriter};
use crate::{Error, Result};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Remove texts that are equal to the byte.
    pub exact: bool,
    pub near: Near,
    pub passages: Passages,
}

impl Default for Config {
    fn default() -> Self {
        Self { exact: true, near: Near::default(), passages: Passages::default() }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    pub exact_duplicates: u64,
    pub near_duplicates: u64,
    /// Groups of rows of which one was kept; `clusters.jsonl.zst` lists them.
    pub clusters: u64,
    pub largest_cluster: u64,
    /// Paragraphs or lines that were cut out.
    pub passages_removed: u64,
    pub passage_bytes_removed: u64,
}

/// What a shard of the second pass knows of clusters: the first row, the id of a row in it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Members {
    ids: Vec<(u64, String)>,
    exact: u64,
    near: u64,
    passages: u64,
    passage_bytes: u64,
}

pub fn run(
    config: &Config,
    input: &Input,
    output: &Output,
    progress: &dyn Progress,
) -> Result<Summary<Details>> {
    config.near.check()?;
    let job = match job::begin("dedup", config, input, output, progress)? {
        Begun::Done(summary) => return Ok(*summary),
        Begun::Go(job) => job,
    };
    let sign = Shards { job: &job, stage: "signatures", first: true };
    let (mut tally, num_rows) = sign.run(|shard| {
        let mut signer = Signer::new(config);
        let index = shard.index;
        shard.rows(&mut |row, _| {
            signer.push(&row);
            Ok(())
        })?;
        signer.write(&job, index)
    })?;
    let offsets: Vec<u64> = num_rows
        .iter()
        .scan(0, |sum, rows| {
            *sum += rows;
            Some(*sum - rows)
        })
        .collect();
    let found = cluster::find(&job, config, &num_rows)?;
    let repeated = passages::repeated(&job, config, &num_rows, &found)?;
    let write = Shards { job: &job, stage: "write", first: false };
    let (written, members) = write.run(|shard| {
        let index = shard.index;
        let mut at = offsets[index];
        let mut members = Members::default();
        let mut cutter = repeated.cutter(index);
        shard.rewrite(&mut |row, tally| {
            let (row_index, first) = (at, found.first(at));
            at += 1;
            if found.in_cluster(row_index) {
                members.ids.push((first, row.id.clone()));
            }
            if first != row_index {
                let exact = found.is_exact(row_index);
                *(if exact { &mut members.exact } else { &mut members.near }) += 1;
                tally.remove(if exact { "exact_duplicate" } else { "near_duplicate" }, row);
                return Ok(false);
            }
            let before = row.text_bytes();
            let cut = cutter.cut(row);
            members.passages += cut;
            members.passage_bytes += (before - row.text_bytes()) as u64;
            let empty = cut > 0 && row.texts().all(|text| text.trim().is_empty());
            if empty {
                tally.remove("nothing_new", row);
            }
            Ok(!empty)
        })?;
        Ok(members)
    })?;
    tally.merge(written);
    finish(*job, tally, members)
}

/// Writes the clusters, and the summary.
fn finish(job: Job<'_>, tally: Tally, members: Vec<Members>) -> Result<Summary<Details>> {
    let mut details = Details::default();
    let mut ids = Vec::new();
    for part in members {
        details.exact_duplicates += part.exact;
        details.near_duplicates += part.near;
        details.passages_removed += part.passages;
        details.passage_bytes_removed += part.passage_bytes;
        ids.extend(part.ids);
    }
    // Stable: members stay in the order of the input, the one that was kept first.
    ids.sort_by_key(|member| member.0);
    let mut writer = RowWriter::create(&job.folder.join("clusters.jsonl.zst"), Format::JsonlZst)?;
    for cluster in ids.chunk_by(|one, other| one.0 == other.0) {
        details.clusters += 1;
        details.largest_cluster = details.largest_cluster.max(cluster.len() as u64);
        let removed: Vec<&str> = cluster[1..].iter().map(|member| member.1.as_str()).collect();
        writer.write_json(&serde_json::json!({ "kept": cluster[0].1, "removed": removed }))?;
    }
    writer.finish()?;
    job.finish(tally, details)
}

/// Numbers of a work file, little-endian.
fn write_numbers(job: &Job<'_>, name: &str, index: usize, numbers: impl Iterator<Item = u64>) -> Result<()> {
    let bytes: Vec<u8> = numbers.flat_map(u64::to_le_bytes).collect();
    Ok(atomic::write(&job.work_path(name, index, "bin"), &bytes)?)
}

/// A stretch of a work file.
fn read_numbers(job: &Job<'_>, name: &str, index: usize, stretch: std::ops::Range<u64>) -> Result<Vec<u64>> {
    use std::io::{Read as _, Seek as _};
    let path = job.work_path(name, index, "bin");
    let mut file = fs_err::File::open(&path)?;
    file.seek(std::io::SeekFrom::Start(stretch.start * 8))?;
    let mut bytes = vec![0; ((stretch.end - stretch.start) * 8) as usize];
    file.read_exact(&mut bytes).map_err(|error| Error::Unreadable { path, reason: error.to_string() })?;
    let (numbers, _) = bytes.as_chunks::<8>();
    Ok(numbers.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect())
}
