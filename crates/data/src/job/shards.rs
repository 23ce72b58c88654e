//! Work on every shard: threads take the next one, a marker says that it is done.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use hearth_artifacts::atomic;
use hearth_artifacts::progress::{Event, Unit};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Job, Tally};
use crate::read::{Item, read_shard};
use crate::row::Row;
use crate::write::{Format, RowWriter};
use crate::{Error, Result};

const TICK: Duration = Duration::from_millis(100);

/// One pass over all shards.
#[derive(Clone, Copy)]
pub(crate) struct Shards<'a> {
    pub(crate) job: &'a Job<'a>,
    /// Also the name of the markers' folder.
    pub(crate) stage: &'static str,
    /// The first pass over the input counts and keeps what can't be read.
    pub(crate) first: bool,
}

#[derive(Serialize, Deserialize)]
struct Marker<S> {
    tally: Tally,
    state: S,
}

/// What a shard's work is given.
pub(crate) struct Shard<'a> {
    pub(crate) index: usize,
    pub(crate) tally: Tally,
    pass: Shards<'a>,
    read_bytes: &'a AtomicU64,
    rejected: Option<RowWriter>,
}

impl Shard<'_> {
    /// All rows of the shard, in order.
    pub(crate) fn rows(&mut self, each: &mut dyn FnMut(Row, &mut Tally) -> Result<()>) -> Result<()> {
        let job = self.pass.job;
        let shard = &job.plan.shards[self.index];
        let (tally, rejected) = (&mut self.tally, &mut self.rejected);
        let first = self.pass.first;
        read_shard(&job.plan, shard, job.read, self.read_bytes, &mut |item| {
            if job.progress.cancelled() {
                return Err(Error::Cancelled { folder: job.folder.clone() });
            }
            match item {
                Item::Row(row) => {
                    if first {
                        tally.count_in(&row);
                        if row.metadata.raw("encoding").is_some() {
                            tally.recoded += 1;
                        }
                    }
                    each(*row, tally)
                }
                Item::Rejected(row) if first => {
                    tally.unreadable += 1;
                    let writer = match rejected.as_mut() {
                        Some(writer) => writer,
                        None => {
                            let path = job.work_path("rejected", self.index, "jsonl.zst");
                            rejected.insert(RowWriter::create(&path, Format::JsonlZst)?)
                        }
                    };
                    writer.write_json(&row)
                }
                Item::Damaged { file, reason } if first => {
                    tally.damaged.push((file, reason));
                    Ok(())
                }
                Item::Rejected(_) | Item::Damaged { .. } => Ok(()),
            }
        })?;
        if let Some(rejected) = self.rejected.take() {
            rejected.finish()?;
        }
        Ok(())
    }

    /// All rows, written to the shard's part as far as `each` keeps them.
    pub(crate) fn rewrite(
        &mut self,
        each: &mut dyn FnMut(&mut Row, &mut Tally) -> Result<bool>,
    ) -> Result<()> {
        let job = self.pass.job;
        let mut writer = RowWriter::create(&job.part_path(self.index), job.format)?;
        self.rows(&mut |mut row, tally| {
            if each(&mut row, tally)? {
                tally.count_out(&row);
                writer.write(&row)?;
            }
            Ok(())
        })?;
        writer.finish()
    }
}

impl Shards<'_> {
    /// Does `work` on every shard that isn't done yet; the results of all, in order, with the sum of their tallies.
    pub(crate) fn run<S: Serialize + DeserializeOwned + Send>(
        self,
        work: impl Fn(&mut Shard<'_>) -> Result<S> + Sync,
    ) -> Result<(Tally, Vec<S>)> {
        let job = self.job;
        let num_shards = job.plan.shards.len();
        let total = job.plan.shards.iter().map(|shard| shard.num_bytes).sum();
        job.progress.event(Event::Start { stage: self.stage, total: Some(total), unit: Unit::Bytes });
        let (next, stop, read_bytes) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicU64::new(0));
        let mut results: Vec<Option<Marker<S>>> = (0..num_shards).map(|_| None).collect();
        let mut failed: Option<(usize, Error)> = None;
        let (sender, receiver) = channel();
        std::thread::scope(|scope| {
            for _ in 0..job.threads.min(num_shards) {
                let sender = sender.clone();
                let (next, stop, read_bytes, work) = (&next, &stop, &read_bytes, &work);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= num_shards {
                            break;
                        }
                        let done = self.one(index, read_bytes, work);
                        if done.is_err() {
                            stop.store(true, Ordering::Relaxed);
                        }
                        let _ = sender.send((index, done));
                    }
                });
            }
            drop(sender);
            loop {
                match receiver.recv_timeout(TICK) {
                    Ok((index, Ok(marker))) => results[index] = Some(marker),
                    Ok((index, Err(error))) => {
                        if failed.as_ref().is_none_or(|(first, _)| index < *first) {
                            failed = Some((index, error));
                        }
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                    Err(RecvTimeoutError::Timeout) => {
                        let done = read_bytes.load(Ordering::Relaxed);
                        job.progress.event(Event::Advance { stage: self.stage, done });
                    }
                }
            }
        });
        if let Some((_, error)) = failed {
            return Err(error);
        }
        let mut sum = Tally::default();
        let mut states = Vec::with_capacity(num_shards);
        for marker in results.into_iter().flatten() {
            sum.merge(marker.tally);
            states.push(marker.state);
        }
        let summary = format!("{num_shards} shards, {:.1} MB", total as f64 / 1e6);
        job.progress.event(Event::Finish { stage: self.stage, summary: &summary });
        Ok((sum, states))
    }

    fn one<S: Serialize + DeserializeOwned>(
        self,
        index: usize,
        read_bytes: &AtomicU64,
        work: &(impl Fn(&mut Shard<'_>) -> Result<S> + Sync),
    ) -> Result<Marker<S>> {
        let path = self.job.work_path(self.stage, index, "json");
        if path.exists() {
            read_bytes.fetch_add(self.job.plan.shards[index].num_bytes, Ordering::Relaxed);
            return Ok(atomic::read_json(&path)?);
        }
        let mut shard = Shard { index, tally: Tally::default(), pass: self, read_bytes, rejected: None };
        let state = catch_unwind(AssertUnwindSafe(|| work(&mut shard))).unwrap_or_else(|panic| {
            let piece = self.job.plan.shards[index].pieces.first();
            let file = piece.map(|piece| self.job.plan.files[piece.file].name.clone()).unwrap_or_default();
            Err(Error::Panicked { file, reason: panic_text(&*panic) })
        })?;
        let marker = Marker { tally: shard.tally, state };
        atomic::write_json(&path, &marker)?;
        Ok(marker)
    }
}

/// What a panic says.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown").to_owned()
}
