//! Files of conversations to examples: each row is read in whichever common shape it has, checked, and encoded by the
//! model's own conversation format.
//!
//! In: JSON Lines, or a JSON array. Out: examples with the place of each, and the rows that can't be used with place and
//! reason: none is cut or dropped in silence.
//!
//! * `shapes` — messages, Alpaca, `ShareGPT`, prompt and completion

mod shapes;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use hearth_artifacts::progress::{Event, Progress, Unit};
use hearth_tokenizer::{ChatFormat, Example};
use serde_json::Value;

use crate::batches;
use crate::error::Result;

pub use shapes::conversation;

const STAGE: &str = "read";

/// Bytes of a row at most: a thousand times a long conversation. Without a bound, a file without line ends would be
/// read into memory whole.
const MAX_ROW_BYTES: u64 = 64 << 20;

/// Where a row stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub file: Arc<str>,
    /// Counted from 1: a line of JSON Lines, or an element of an array.
    pub row: usize,
    pub is_element: bool,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, row, is_element } = self;
        if *is_element { write!(f, "{file}[{row}]") } else { write!(f, "{file}:{row}") }
    }
}

/// A row that can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    pub place: Place,
    pub reason: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

/// What files of conversations gave.
#[derive(Debug, Clone, Default)]
pub struct Examples {
    pub examples: Vec<Example>,
    /// Of each example.
    pub places: Vec<Place>,
    pub skipped: Vec<Skipped>,
    /// Rows that are more than one example: each answer of a conversation whose template rewrites earlier ones.
    pub split_rows: usize,
}

/// Reads files; a row that can't be used is listed, a file that can't be read is an error.
pub fn read(
    files: &[impl AsRef<Path>],
    chat: &ChatFormat,
    max_tokens: usize,
    progress: &dyn Progress,
) -> Result<Examples> {
    let mut found = Examples::default();
    let bytes = |path: &Path| Ok(fs_err::metadata(path).map_err(hearth_artifacts::Error::from)?.len());
    let total = files.iter().map(|file| bytes(file.as_ref())).sum::<Result<u64>>()?;
    progress.event(Event::Start { stage: STAGE, total: Some(total), unit: Unit::Bytes });
    let mut done = 0;
    for file in files {
        let path = file.as_ref();
        rows(path, &mut |place, row, num_bytes| {
            done += num_bytes as u64;
            match row.and_then(|row| examples(&row, chat, max_tokens)) {
                Ok(examples) => {
                    found.split_rows += usize::from(examples.len() > 1);
                    found.places.extend(examples.iter().map(|_| place.clone()));
                    found.examples.extend(examples);
                }
                Err(reason) => found.skipped.push(Skipped { place, reason }),
            }
            if found.examples.len().is_multiple_of(256) {
                progress.event(Event::Advance { stage: STAGE, done });
            }
        })?;
    }
    let Examples { examples, skipped, .. } = &found;
    let tokens: usize = examples.iter().map(|example| example.ids.len()).sum();
    let summary =
        format!("{} examples, {tokens} tokens, {} rows can't be used", examples.len(), skipped.len());
    progress.event(Event::Finish { stage: STAGE, summary: &summary });
    Ok(found)
}

/// A row's examples: one, or one an answer where the template allows no other.
fn examples(row: &Value, chat: &ChatFormat, max_tokens: usize) -> Result<Vec<Example>, String> {
    let conversation = conversation(row)?;
    let examples = chat.trainings(&conversation).map_err(|error| error.to_string())?;
    for example in &examples {
        let num_tokens = example.ids.len();
        if num_tokens > max_tokens {
            return Err(format!(
                "{num_tokens} tokens are more than the {max_tokens} allowed; nothing is cut"
            ));
        }
        if !example.mask.iter().skip(1).any(|&learn| learn) {
            return Err("no token is the assistant's but the first, which nothing predicts".into());
        }
    }
    Ok(examples)
}

/// Gives each row of a file: its place, the row or what is wrong with it, its bytes.
fn rows(path: &Path, visit: &mut dyn FnMut(Place, Result<Value, String>, usize)) -> Result<()> {
    let name: Arc<str> = path.display().to_string().into();
    let file = fs_err::File::open(path).map_err(hearth_artifacts::Error::from)?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let io = |error: std::io::Error| crate::Error::from(hearth_artifacts::Error::from(error));
    if starts_array(reader.fill_buf().map_err(io)?) {
        return array(path, &name, reader, visit);
    }
    let (mut line, mut row) = (Vec::new(), 0);
    loop {
        line.clear();
        let read = reader.by_ref().take(MAX_ROW_BYTES + 1).read_until(b'\n', &mut line).map_err(io)?;
        if read == 0 {
            return Ok(());
        }
        row += 1;
        let place = Place { file: Arc::clone(&name), row, is_element: false };
        if line.len() as u64 > MAX_ROW_BYTES && line.last() != Some(&b'\n') {
            let rest = skip_line(&mut reader).map_err(io)?;
            visit(place, Err(format!("the line has more than {} MiB", MAX_ROW_BYTES >> 20)), read + rest);
            continue;
        }
        let bytes = if row == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line) } else { &line };
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        visit(place, parse(bytes), read);
    }
}

fn parse(bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| format!("byte {} isn't UTF-8", error.valid_up_to() + 1))?;
    serde_json::from_str(text.trim()).map_err(|error| format!("isn't JSON: {error}"))
}

fn skip_line(reader: &mut impl BufRead) -> std::io::Result<usize> {
    let mut skipped = 0;
    loop {
        let buffer = reader.fill_buf()?;
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let len = end.map_or(buffer.len(), |end| end + 1);
        let is_over = end.is_some() || buffer.is_empty();
        reader.consume(len);
        skipped += len;
        if is_over {
            return Ok(skipped);
        }
    }
}

/// Alpaca and `ShareGPT` are mostly published as one array.
fn starts_array(beginning: &[u8]) -> bool {
    let beginning = beginning.strip_prefix(b"\xef\xbb\xbf").unwrap_or(beginning);
    beginning.trim_ascii_start().first() == Some(&b'[')
}

fn array(
    path: &Path,
    name: &Arc<str>,
    mut reader: impl Read,
    visit: &mut dyn FnMut(Place, Result<Value, String>, usize),
) -> Result<()> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(hearth_artifacts::Error::from)?;
    let json = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let rows: Vec<Value> = serde_json::from_slice(json)
        .map_err(|error| hearth_artifacts::Error::Json { path: path.into(), reason: error.to_string() })?;
    let each = bytes.len() / rows.len().max(1);
    for (index, row) in rows.into_iter().enumerate() {
        visit(Place { file: Arc::clone(name), row: index + 1, is_element: true }, Ok(row), each);
    }
    Ok(())
}

impl Examples {
    /// Sets a share of the examples aside to validate with, chosen by the seed. Equal ones stay together: what is
    /// learnt by heart must not pass for understood.
    pub fn split(self, share: f64, seed: u64) -> [(Vec<Example>, Vec<Place>); 2] {
        let mut groups: BTreeMap<&[u32], Vec<usize>> = BTreeMap::new();
        for (index, example) in self.examples.iter().enumerate() {
            groups.entry(&example.ids).or_default().push(index);
        }
        let mut groups: Vec<Vec<usize>> = groups.into_values().collect();
        groups.sort_unstable();
        let mut order: Vec<usize> = (0..groups.len()).collect();
        batches::shuffle(&mut order, seed);
        let wanted = ((self.examples.len() as f64 * share).round() as usize).max(1);
        let mut is_held = vec![false; self.examples.len()];
        let mut held = 0;
        for group in order {
            // One group is left to train on, whatever the share.
            if held >= wanted || held + groups[group].len() >= self.examples.len() {
                continue;
            }
            held += groups[group].len();
            groups[group].iter().for_each(|&index| is_held[index] = true);
        }
        let mut sets = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
        for ((example, place), is_held) in self.examples.into_iter().zip(self.places).zip(is_held) {
            let (examples, places) = &mut sets[usize::from(is_held)];
            examples.push(example);
            places.push(place);
        }
        sets
    }
}

#[cfg(test)]
mod tests;
