//! `data mix`: rows of several sources in the shares that are asked for, in an order that seed and sources alone decide.
//!
//! The next row comes from the source that is furthest behind its share, so every stretch of the output has the shares of
//! the whole. Within a source rows are drawn from a window that moves over it. One thread writes; a mix that was killed
//! begins anew, and gives the same.

use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use hearth_artifacts::progress::{Event, Progress, Unit};
use serde::{Deserialize, Serialize};

use crate::job::{self, Begun, Output, Summary, Tally};
use crate::read::{Input, Item, Plan, ReadConfig, read_shard};
use crate::row::Row;
use crate::units::finish;
use crate::write::RowWriter;
use crate::{Error, Result};

/// Text of an output part.
const PART_BYTES: u64 = 64 << 20;
/// Rows that wait between a reader and the mix.
const QUEUE_ROWS: usize = 256;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    #[default]
    Rows,
    /// Bytes of text: long documents count for more.
    Bytes,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Until {
    /// The first source has no more rows: no row comes twice.
    #[default]
    FirstEnds,
    /// Every source was read once; smaller ones come again, and it is said how often.
    AllEnd,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A weight for each path of the input; equal ones where it is empty.
    pub weights: Vec<f64>,
    pub by: By,
    pub until: Until,
    /// Rows of the mix at most.
    pub max_rows: Option<u64>,
    /// Rows of a source that are drawn from; 1 keeps its order.
    pub window: usize,
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            weights: Vec::new(),
            by: By::Rows,
            until: Until::FirstEnds,
            max_rows: None,
            window: 1000,
            seed: 1,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Source {
    pub path: String,
    pub weight: f64,
    pub rows: u64,
    pub bytes: u64,
    /// Times the source was begun.
    pub epochs: u64,
    /// Its last row was reached.
    pub ended: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Details {
    pub sources: Vec<Source>,
}

pub fn run(
    config: &Config,
    input: &Input,
    output: &Output,
    progress: &dyn Progress,
) -> Result<Summary<Details>> {
    let weights = weights(config, input.paths.len())?;
    let job = match job::begin("mix", config, input, output, progress)? {
        Begun::Done(summary) => return Ok(*summary),
        Begun::Go(job) => job,
    };
    let plans: Vec<Plan> = input
        .paths
        .iter()
        .map(|path| Plan::new(&Input { paths: vec![path.clone()], read: input.read.clone() }))
        .collect::<Result<_>>()?;
    let total = config.max_rows;
    progress.event(Event::Start { stage: "mix", total, unit: Unit::Items });
    let mut tally = Tally::default();
    let sources = std::thread::scope(|scope| {
        let mut streams: Vec<Stream> = plans
            .iter()
            .zip(&input.paths)
            .zip(&weights)
            .enumerate()
            .map(|(index, ((plan, path), weight))| {
                let (sender, rows) = sync_channel(QUEUE_ROWS);
                let again = config.until == Until::AllEnd;
                scope.spawn(move || feed(plan, &input.read, again, &sender));
                let source =
                    Source { path: path.display().to_string(), weight: *weight, ..Source::default() };
                Stream {
                    source,
                    rows,
                    window: Vec::new(),
                    state: config.seed ^ (index as u64) << 32,
                    over: false,
                }
            })
            .collect();
        mix(config, &job, &mut streams, &mut tally)?;
        // The readers end when nobody listens any more.
        Ok::<_, Error>(streams.into_iter().map(|stream| stream.source).collect::<Vec<_>>())
    })?;
    let summary = format!("{} rows of {} sources", tally.rows_out, sources.len());
    progress.event(Event::Finish { stage: "mix", summary: &summary });
    if let Some(ended) = sources.iter().find(|source| source.ended && config.until == Until::FirstEnds) {
        let text = format!("the mix ends where `{}` has no more rows", ended.path);
        progress.event(Event::Note { stage: "mix", text: &text });
    }
    job.finish(tally, Details { sources })
}

fn weights(config: &Config, num_sources: usize) -> Result<Vec<f64>> {
    let wrong = |value: String, expectation: &str| Error::Config {
        field: "weights".into(),
        value,
        expectation: expectation.into(),
    };
    if config.weights.is_empty() {
        return Ok(vec![1.0 / num_sources.max(1) as f64; num_sources]);
    }
    if config.weights.len() != num_sources {
        return Err(wrong(
            format!("{} weights", config.weights.len()),
            &format!("one for each of {num_sources} sources"),
        ));
    }
    if let Some(weight) = config.weights.iter().find(|weight| !(weight.is_finite() && **weight > 0.0)) {
        return Err(wrong(weight.to_string(), "weights above zero; leave a source out instead"));
    }
    let sum: f64 = config.weights.iter().sum();
    Ok(config.weights.iter().map(|weight| weight / sum).collect())
}

enum Fed {
    Row(Box<Row>),
    Unreadable,
    /// The source's last row was sent; it may begin again.
    End,
    Failed(Error),
}

/// Reads a source into its queue, again and again if that is asked for.
fn feed(plan: &Plan, config: &ReadConfig, again: bool, queue: &SyncSender<Fed>) {
    let read_bytes = AtomicU64::new(0);
    loop {
        for shard in &plan.shards {
            let read = read_shard(plan, shard, config, &read_bytes, &mut |item| {
                let fed = match item {
                    Item::Row(row) => Fed::Row(row),
                    Item::Rejected(_) | Item::Damaged { .. } => Fed::Unreadable,
                };
                queue.send(fed).map_err(|_| Error::Cancelled { folder: std::path::PathBuf::new() })
            });
            if let Err(error) = read {
                // Nobody listens where the mix has ended.
                let _ = queue.send(Fed::Failed(error));
                return;
            }
        }
        if queue.send(Fed::End).is_err() || !again {
            return;
        }
    }
}

struct Stream {
    source: Source,
    rows: Receiver<Fed>,
    window: Vec<Row>,
    state: u64,
    /// No more rows come.
    over: bool,
}

impl Stream {
    /// A row out of the window; none where the source has ended.
    fn next(&mut self, config: &Config, tally: &mut Tally) -> Result<Option<Row>> {
        while self.window.len() < config.window.max(1) && !self.over {
            match self.rows.recv() {
                Ok(Fed::Row(row)) => {
                    if self.source.epochs == 0 {
                        self.source.epochs = 1;
                    }
                    if !self.source.ended {
                        tally.count_in(&row);
                    }
                    self.window.push(*row);
                }
                Ok(Fed::Unreadable) => tally.unreadable += u64::from(!self.source.ended),
                Ok(Fed::End) => {
                    self.source.ended = true;
                    match config.until {
                        Until::FirstEnds => self.over = true,
                        // A source without a row would be begun for ever.
                        Until::AllEnd if self.source.epochs == 0 => self.over = true,
                        Until::AllEnd => self.source.epochs += 1,
                    }
                }
                Ok(Fed::Failed(error)) => return Err(error),
                Err(_) => self.over = true,
            }
        }
        if self.window.is_empty() {
            return Ok(None);
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let at = (finish(self.state) % self.window.len() as u64) as usize;
        Ok(Some(self.window.swap_remove(at)))
    }
}

fn mix(config: &Config, job: &job::Job<'_>, streams: &mut [Stream], tally: &mut Tally) -> Result<()> {
    let mut parts = Parts { job, index: 0, bytes: 0, writer: None };
    let mut given = vec![0u64; streams.len()];
    while config.max_rows.is_none_or(|max| tally.rows_out < max) {
        if job.progress.cancelled() {
            return Err(Error::Cancelled { folder: job.folder.clone() });
        }
        if config.until == Until::AllEnd && streams.iter().all(|stream| stream.source.ended) {
            break;
        }
        // Furthest behind its share; the first of several.
        let behind = |at: usize| given[at] as f64 / streams[at].source.weight;
        let Some(at) =
            (0..streams.len()).reduce(|best, at| if behind(at) < behind(best) { at } else { best })
        else {
            break;
        };
        let Some(row) = streams[at].next(config, tally)? else {
            break;
        };
        let bytes = row.text_bytes() as u64;
        given[at] += match config.by {
            By::Rows => 1,
            By::Bytes => bytes.max(1),
        };
        streams[at].source.rows += 1;
        streams[at].source.bytes += bytes;
        tally.count_out(&row);
        parts.write(&row)?;
        if tally.rows_out.is_multiple_of(1000) {
            job.progress.event(Event::Advance { stage: "mix", done: tally.rows_out });
        }
    }
    parts.finish()
}

/// Output parts of about equal size.
struct Parts<'a> {
    job: &'a job::Job<'a>,
    index: usize,
    bytes: u64,
    writer: Option<RowWriter>,
}

impl Parts<'_> {
    fn write(&mut self, row: &Row) -> Result<()> {
        let writer = match self.writer.as_mut() {
            Some(writer) => writer,
            None => self.writer.insert(RowWriter::create(&self.job.part_path(self.index), self.job.format)?),
        };
        writer.write(row)?;
        self.bytes += row.text_bytes() as u64;
        if self.bytes >= PART_BYTES {
            self.bytes = 0;
            self.index += 1;
            if let Some(writer) = self.writer.take() {
                writer.finish()?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.writer.take().map_or(Ok(()), RowWriter::finish)
    }
}
