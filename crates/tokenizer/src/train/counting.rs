//! Texts to words and their counts, on all threads: each has a table of its own, and sums don't depend on who counted.

use std::borrow::Cow;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::ScopedJoinHandle;

use hearth_artifacts::progress::{Event, Progress, Unit};

use super::words::WordCounts;
use super::{TrainConfig, TrainStats};
use crate::error::{Error, Result};
use crate::normalizer::Normalizer;
use crate::split::{Splitter, split};

const STAGE: &str = "count words";

/// A thread takes texts until it has so many bytes: enough that waiting for the others is rare.
const BATCH_BYTES: usize = 1 << 19;

pub(super) fn count_words<I>(
    texts: I,
    config: &TrainConfig,
    progress: &dyn Progress,
) -> Result<(WordCounts, TrainStats)>
where
    I: Iterator<Item = io::Result<String>> + Send,
{
    let splitters = config.pattern.splitters()?;
    let queue = Queue { texts: Mutex::new(texts), failed: AtomicBool::new(false), done: AtomicU64::new(0) };
    progress.event(Event::Start { stage: STAGE, total: None, unit: Unit::Bytes });
    let work = || work(&queue, &splitters, config.nfc, progress);
    let results: Vec<_> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..config.threads).map(|_| scope.spawn(work)).collect();
        let first = work();
        let others = others.into_iter().map(ScopedJoinHandle::join);
        std::iter::once(Ok(first)).chain(others).collect()
    });
    let mut tables = Vec::new();
    let mut stats = TrainStats::default();
    for result in results {
        let (table, counted) = result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        stats.num_texts += counted.num_texts;
        stats.num_bytes += counted.num_bytes;
        stats.num_words += counted.num_words;
        tables.push(table);
    }
    // The largest takes in the others.
    tables.sort_by_key(WordCounts::len);
    let mut counts = tables.pop().unwrap_or_else(WordCounts::new);
    for table in tables {
        counts.absorb(&table);
    }
    if u32::try_from(counts.len()).is_err() {
        return Err(Error::TooManyWords { num_words: counts.len() });
    }
    stats.num_unique_words = counts.len() as u64;
    let summary = format!("{} words, {} of them different", stats.num_words, stats.num_unique_words);
    progress.event(Event::Finish { stage: STAGE, summary: &summary });
    Ok((counts, stats))
}

struct Queue<I> {
    texts: Mutex<I>,
    /// Another thread met an error, so that counting on is of no use.
    failed: AtomicBool,
    done: AtomicU64,
}

impl<I: Iterator<Item = io::Result<String>>> Queue<I> {
    fn take(&self, batch: &mut Vec<String>) -> io::Result<()> {
        batch.clear();
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut num_bytes = 0;
        while num_bytes < BATCH_BYTES && !self.failed.load(Ordering::Relaxed) {
            let Some(text) = texts.next() else { break };
            let text = text.inspect_err(|_| self.failed.store(true, Ordering::Relaxed))?;
            num_bytes += text.len();
            batch.push(text);
        }
        Ok(())
    }
}

fn work<I: Iterator<Item = io::Result<String>>>(
    queue: &Queue<I>,
    splitters: &[Splitter],
    nfc: bool,
    progress: &dyn Progress,
) -> Result<(WordCounts, TrainStats)> {
    let mut counts = WordCounts::new();
    let mut stats = TrainStats::default();
    let mut batch = Vec::new();
    loop {
        queue.take(&mut batch).map_err(Error::Text)?;
        if batch.is_empty() {
            return Ok((counts, stats));
        }
        let mut num_bytes = 0;
        for text in &batch {
            num_bytes += text.len() as u64;
            let text = Cow::Borrowed(text.as_str());
            let text = if nfc { Normalizer::Nfc.apply(text) } else { text };
            split(splitters, &text, &mut |word| {
                stats.num_words += 1;
                counts.add(word.as_bytes(), 1);
            });
        }
        stats.num_texts += batch.len() as u64;
        stats.num_bytes += num_bytes;
        let done = queue.done.fetch_add(num_bytes, Ordering::Relaxed) + num_bytes;
        progress.event(Event::Advance { stage: STAGE, done });
        if progress.cancelled() {
            queue.failed.store(true, Ordering::Relaxed);
            return Err(Error::Cancelled);
        }
    }
}
