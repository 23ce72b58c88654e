//! A job: shards of input to parts of output, on all cores, resumable, the same bytes for any number of threads.
//!
//! In the output folder: `job.json` says what was asked for; `part-NNNNN.…` are the rows; `rejected.jsonl.zst` holds rows
//! that couldn't be read; `summary.json` comes last and says that the job is done. Until then `.work/` holds a marker for
//! each finished shard. A job that was killed goes on behind its markers; one with other settings is refused.

mod compare;
mod shards;
mod tally;

use std::path::{Path, PathBuf};

use hearth_artifacts::atomic;
use hearth_artifacts::home::Lock;
use hearth_artifacts::progress::Progress;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(crate) use self::shards::{Shards, panic_text};
pub use self::tally::{Reason, Sample, Tally};
use crate::read::{Input, Plan, ReadConfig};
use crate::write::Format;
use crate::{Error, Result};

pub(crate) const JOB_FILE: &str = "job.json";
pub(crate) const SUMMARY_FILE: &str = "summary.json";
pub(crate) const PART_PREFIX: &str = "part-";
const REJECTED_FILE: &str = "rejected.jsonl.zst";
const WORK_FOLDER: &str = ".work";
/// Of `job.json` and `summary.json`.
const FORMAT_VERSION: u64 = 1;

/// Where a job writes, and how.
#[derive(Debug, Clone)]
pub struct Output {
    pub folder: PathBuf,
    pub format: Format,
    /// 0 for all cores. Changes no byte.
    pub threads: usize,
    /// Throw away what an earlier job left in the folder.
    pub restart: bool,
}

impl Output {
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), format: Format::default(), threads: 0, restart: false }
    }

    pub(crate) fn num_threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        }
    }
}

/// What came of a job. `details` belongs to the verb.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Summary<D> {
    pub version: u64,
    pub verb: String,
    pub files: u64,
    /// Files of a type that isn't read.
    pub skipped_files: Vec<String>,
    #[serde(flatten)]
    pub tally: Tally,
    pub details: D,
}

/// A job under way.
pub(crate) struct Job<'a> {
    pub(crate) verb: &'static str,
    pub(crate) folder: PathBuf,
    pub(crate) format: Format,
    pub(crate) threads: usize,
    pub(crate) read: &'a ReadConfig,
    pub(crate) plan: Plan,
    pub(crate) progress: &'a dyn Progress,
    _lock: Lock,
}

/// What there is to do.
pub(crate) enum Begun<'a, D> {
    Done(Box<Summary<D>>),
    Go(Box<Job<'a>>),
}

/// Opens or makes the output folder; finds out what is done already.
pub(crate) fn begin<'a, C: Serialize, D: DeserializeOwned>(
    verb: &'static str,
    config: &C,
    input: &'a Input,
    output: &Output,
    progress: &'a dyn Progress,
) -> Result<Begun<'a, D>> {
    // What can't be read makes no folder.
    let plan = Plan::new(input)?;
    let folder = output.folder.clone();
    fs_err::create_dir_all(&folder)?;
    let lock = Lock::try_acquire(&folder.join(".lock"))?;
    let job_file = folder.join(JOB_FILE);
    if output.restart && job_file.exists() {
        clear(&folder)?;
    }
    remove_left_over(&folder)?;
    let asked = json!({
        "version": FORMAT_VERSION, "hearth": env!("CARGO_PKG_VERSION"), "verb": verb,
        "config": to_value(config)?, "read": to_value(&input.read)?, "format": output.format,
        "inputs": fingerprint(&plan)?,
    });
    if job_file.exists() {
        let begun: Value = atomic::read_json(&job_file)?;
        if let Some((field, old, new)) = compare::first_difference(&begun, &asked) {
            return Err(Error::ConfigChanged { folder, field, old, new });
        }
        if folder.join(SUMMARY_FILE).exists() {
            return Ok(Begun::Done(Box::new(atomic::read_json(&folder.join(SUMMARY_FILE))?)));
        }
    } else {
        let foreign = fs_err::read_dir(&folder)?.filter_map(std::result::Result::ok);
        if foreign.into_iter().any(|entry| entry.file_name() != ".lock") {
            return Err(Error::ForeignFolder { folder });
        }
        atomic::write_json(&job_file, &asked)?;
    }
    Ok(Begun::Go(Box::new(Job {
        verb,
        folder,
        format: output.format,
        threads: output.num_threads(),
        read: &input.read,
        plan,
        progress,
        _lock: lock,
    })))
}

/// The verb of a job's folder, for messages.
pub(crate) fn verb_of(folder: &Path) -> String {
    let job: Option<Value> = atomic::read_json(&folder.join(JOB_FILE)).ok();
    job.and_then(|job| Some(job["verb"].as_str()?.to_owned())).unwrap_or_else(|| "…".into())
}

fn to_value<T: Serialize>(value: &T) -> Result<Value> {
    Ok(serde_json::to_value(value).map_err(std::io::Error::other)?)
}

/// Inputs by name, size and time: a file that was changed under a job is seen.
fn fingerprint(plan: &Plan) -> Result<Vec<Value>> {
    let time = |path: &Path| -> Result<u64> {
        let modified = fs_err::metadata(path)?.modified()?;
        let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Ok(since.as_millis() as u64)
    };
    plan.files
        .iter()
        .map(|file| {
            Ok(json!({ "file": file.name, "bytes": file.num_bytes, "modified_ms": time(&file.path)? }))
        })
        .collect()
}

/// Removes what a job wrote, and nothing else.
fn clear(folder: &Path) -> Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == WORK_FOLDER {
            fs_err::remove_dir_all(entry.path())?;
        } else if name != ".lock" && entry.file_type()?.is_file() && is_ours(&name) {
            fs_err::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Removes what a job that was killed was writing; the lock says that nobody writes it now.
fn remove_left_over(folder: &Path) -> Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // NAME.PROCESS.partial
        let whole = name.strip_suffix(".partial").and_then(|name| name.rsplit_once('.'));
        if whole.is_some_and(|(whole, _)| is_ours(whole)) {
            fs_err::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn is_ours(name: &str) -> bool {
    let known =
        [JOB_FILE, SUMMARY_FILE, REJECTED_FILE, "clusters.jsonl.zst", "removed.jsonl.zst", "report.html"];
    known.contains(&name) || name.starts_with(PART_PREFIX)
}

impl Job<'_> {
    pub(crate) fn part_path(&self, index: usize) -> PathBuf {
        self.folder.join(format!("{PART_PREFIX}{index:05}.{}", self.format.extension()))
    }

    pub(crate) fn work_path(&self, stage: &str, index: usize, extension: &str) -> PathBuf {
        self.folder.join(WORK_FOLDER).join(stage).join(format!("{index:05}.{extension}"))
    }

    /// Joins the packed pieces that shards left in `.work/STAGE` into one file; none where there are none.
    pub(crate) fn join_pieces(&self, stage: &str, name: &str) -> Result<()> {
        let mut joined: Option<atomic::PartialFile> = None;
        for index in 0..self.plan.shards.len() {
            let piece = self.work_path(stage, index, "jsonl.zst");
            if piece.exists() {
                let file = match joined.as_mut() {
                    Some(file) => file,
                    None => joined.insert(atomic::PartialFile::create(&self.folder.join(name))?),
                };
                std::io::copy(&mut fs_err::File::open(&piece)?, file)?;
            }
        }
        if let Some(file) = joined {
            file.commit()?;
        }
        Ok(())
    }

    /// Writes the summary, which says that the job is done, and removes the markers.
    pub(crate) fn finish<D: Serialize>(self, mut tally: Tally, details: D) -> Result<Summary<D>> {
        self.join_pieces("rejected", REJECTED_FILE)?;
        tally.damaged.extend(self.plan.damaged.iter().cloned());
        let summary = Summary {
            version: FORMAT_VERSION,
            verb: self.verb.into(),
            files: self.plan.files.len() as u64,
            skipped_files: self.plan.skipped.clone(),
            tally,
            details,
        };
        atomic::write_json(&self.folder.join(SUMMARY_FILE), &summary)?;
        let work = self.folder.join(WORK_FOLDER);
        if work.exists() {
            fs_err::remove_dir_all(work)?;
        }
        let notes = summary.tally.notes(&summary.skipped_files);
        for text in &notes {
            self.progress.event(hearth_artifacts::progress::Event::Note { stage: self.verb, text });
        }
        Ok(summary)
    }
}
