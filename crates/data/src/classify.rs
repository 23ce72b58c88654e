//! `data classify`: topic or quality of a text by a linear model over hashed n-grams, trained in seconds on labelled rows
//! (as fastText's supervised mode: Joulin et al., 2017).
//!
//! Features are single units and pairs of them, so Chinese is read by characters and pairs of characters. Training goes over
//! the rows in an order that the seed decides, on one thread: the same rows give the same model to the bit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hearth_artifacts::atomic;
use hearth_artifacts::hash::sha256;
use hearth_artifacts::progress::{Event, Progress, Unit as Counted};
use serde::{Deserialize, Serialize};

use crate::job::{self, Begun, Output, Shards, Summary};
use crate::read::{Input, Item, read_all};
use crate::row::Row;
use crate::units::{self, Unit, UnitKind, finish, mix};
use crate::{Error, Result};

const MAGIC: &[u8; 8] = b"hearthcl";
const FORMAT_VERSION: u32 = 1;
/// A text's features beyond these say the same once more.
const MAX_FEATURES: usize = 4000;
/// One row in this many is set aside to judge the model.
const HELD_OUT: u64 = 10;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// The field that holds a row's label.
    pub label_field: String,
    /// Buckets of features are two to this power.
    pub bucket_bits: u32,
    pub epochs: usize,
    pub learning_rate: f32,
    pub seed: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self { label_field: "label".into(), bucket_bits: 18, epochs: 8, learning_rate: 0.5, seed: 1 }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The file that `train` wrote.
    pub model: PathBuf,
    /// Labels that stay; all where it is empty.
    pub keep: Vec<String>,
    /// Rows whose label is less probable go.
    pub min_score: f32,
    /// The fields that are set: the label, and with `_score` its probability.
    pub field: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { model: PathBuf::new(), keep: Vec::new(), min_score: 0.0, field: "class".into() }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainReport {
    pub rows: u64,
    /// Rows without a label, or that couldn't be read.
    pub left_out: u64,
    pub labels: BTreeMap<String, u64>,
    pub held_out: u64,
    /// Of the rows held out.
    pub accuracy: f64,
    /// Mean over labels of the share of their held-out rows that were told right.
    pub balanced_accuracy: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// Rows of each label, before any went.
    pub classes: BTreeMap<String, u64>,
}

/// A linear model: a weight for each feature and label.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    labels: Vec<String>,
    bucket_bits: u32,
    /// `[buckets, labels]`
    weights: Vec<f32>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    labels: Vec<String>,
    bucket_bits: u32,
    sha256: String,
}

/// A text as buckets.
fn features(text: &str, bits: u32, found: &mut Vec<Unit>, out: &mut Vec<u32>) {
    out.clear();
    units::split(text, found);
    found.retain(|unit| unit.kind != UnitKind::Mark);
    let bucket = |hash: u64| (finish(hash) >> (64 - bits)) as u32;
    for (at, unit) in found.iter().enumerate() {
        if out.len() >= MAX_FEATURES {
            break;
        }
        out.push(bucket(unit.hash));
        if let Some(next) = found.get(at + 1) {
            out.push(bucket(mix(unit.hash, next.hash)));
        }
    }
}

impl Model {
    fn new(labels: Vec<String>, bucket_bits: u32) -> Self {
        let weights = vec![0.0; labels.len() << bucket_bits];
        Self { labels, bucket_bits, weights }
    }

    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Probabilities of the labels for these features.
    fn probabilities(&self, features: &[u32], out: &mut Vec<f32>) {
        let count = self.labels.len();
        out.clear();
        out.resize(count, 0.0);
        for feature in features {
            let row = &self.weights[*feature as usize * count..][..count];
            out.iter_mut().zip(row).for_each(|(sum, weight)| *sum += weight);
        }
        let scale = 1.0 / features.len().max(1) as f32;
        let top = out.iter().fold(f32::NEG_INFINITY, |top, sum| top.max(sum * scale));
        let mut total = 0.0;
        for sum in out.iter_mut() {
            *sum = (*sum * scale - top).exp();
            total += *sum;
        }
        for sum in out.iter_mut() {
            *sum /= total;
        }
    }

    /// The most probable label of a text, and its probability.
    pub fn classify(&self, text: &str) -> (&str, f32) {
        let (mut found, mut buckets, mut probabilities) = (Vec::new(), Vec::new(), Vec::new());
        features(text, self.bucket_bits, &mut found, &mut buckets);
        self.probabilities(&buckets, &mut probabilities);
        let best = best(&probabilities);
        (&self.labels[best], probabilities[best])
    }

    fn step(&mut self, features: &[u32], label: usize, rate: f32, probabilities: &mut Vec<f32>) {
        self.probabilities(features, probabilities);
        let count = self.labels.len();
        // The gradient of the mean of weights is spread over the features.
        let rate = rate / (features.len() as f32).sqrt();
        for (at, probability) in probabilities.iter_mut().enumerate() {
            *probability = rate * (f32::from(u8::from(at == label)) - *probability);
        }
        for feature in features {
            let row = &mut self.weights[*feature as usize * count..][..count];
            row.iter_mut().zip(&*probabilities).for_each(|(weight, step)| *weight += step);
        }
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        let weights: Vec<u8> = self.weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
        let header =
            Header { labels: self.labels.clone(), bucket_bits: self.bucket_bits, sha256: sha256(&weights) };
        let header = serde_json::to_vec(&header).map_err(std::io::Error::other)?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(FORMAT_VERSION.to_le_bytes());
        bytes.extend((header.len() as u32).to_le_bytes());
        bytes.extend(header);
        bytes.extend(weights);
        Ok(atomic::write(path, &bytes)?)
    }

    pub fn load(path: &Path) -> Result<Self> {
        let bytes = fs_err::read(path)?;
        let wrong = |reason: &str| Error::Unreadable { path: path.into(), reason: reason.into() };
        let number = |at: usize| {
            let bytes = bytes.get(at..at + 4).ok_or_else(|| wrong("it ends in its header"))?;
            Ok::<_, Error>(bytes.try_into().map_or(0, u32::from_le_bytes))
        };
        if !bytes.starts_with(MAGIC) {
            return Err(wrong("no model of `hearth data classify train`"));
        }
        if number(8)? != FORMAT_VERSION {
            return Err(wrong("a version of the format that this hearth doesn't know"));
        }
        let start = 16 + number(12)? as usize;
        let header = bytes.get(16..start).ok_or_else(|| wrong("it ends in its header"))?;
        let header: Header = serde_json::from_slice(header).map_err(|error| wrong(&error.to_string()))?;
        let (weights, rest) = bytes[start..].as_chunks::<4>();
        let whole = rest.is_empty()
            && !header.labels.is_empty()
            && (8..=24).contains(&header.bucket_bits)
            && weights.len() == header.labels.len() << header.bucket_bits;
        if !whole || sha256(&bytes[start..]) != header.sha256 {
            return Err(wrong("its weights are cut off or changed"));
        }
        let weights = weights.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Ok(Self { labels: header.labels, bucket_bits: header.bucket_bits, weights })
    }
}

fn best(probabilities: &[f32]) -> usize {
    let pairs = probabilities.iter().enumerate();
    // The first of several.
    pairs
        .fold((0, f32::NEG_INFINITY), |best, (at, value)| if *value > best.1 { (at, *value) } else { best })
        .0
}

struct Example {
    features: Vec<u32>,
    label: usize,
    held_out: bool,
}

/// Trains a model on labelled rows and writes it.
pub fn train(
    config: &TrainConfig,
    input: &Input,
    model_path: &Path,
    progress: &dyn Progress,
) -> Result<TrainReport> {
    if !(8..=24).contains(&config.bucket_bits) {
        let (field, value) = ("bucket_bits".into(), config.bucket_bits.to_string());
        return Err(Error::Config { field, value, expectation: "from 8 to 24".into() });
    }
    let (texts, left_out) = labelled_rows(config, input)?;
    let mut labels: BTreeMap<String, u64> = BTreeMap::new();
    for (label, _) in &texts {
        *labels.entry(label.clone()).or_default() += 1;
    }
    if labels.len() < 2 {
        let expectation = format!(
            "rows of at least two labels; {left_out} of {} rows have none",
            texts.len() as u64 + left_out
        );
        return Err(Error::Config {
            field: "label_field".into(),
            value: config.label_field.clone(),
            expectation,
        });
    }
    let names: Vec<String> = labels.keys().cloned().collect();
    let mut examples = examples(config, &texts, &names);
    let rows = examples.len() as u64;
    let left_out = left_out + (texts.len() as u64 - rows);
    drop(texts);
    let (held_out, mut learned): (Vec<Example>, Vec<Example>) =
        examples.drain(..).partition(|example| example.held_out);
    let mut model = Model::new(names, config.bucket_bits);
    let total = (config.epochs * learned.len()) as u64;
    progress.event(Event::Start { stage: "classify", total: Some(total), unit: Counted::Items });
    let (mut state, mut done) = (config.seed, 0u64);
    let mut probabilities = Vec::new();
    for _ in 0..config.epochs {
        // Fisher and Yates.
        for at in (1..learned.len()).rev() {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            learned.swap(at, (finish(state) % (at as u64 + 1)) as usize);
        }
        for example in &learned {
            let rate = config.learning_rate * (1.0 - done as f32 / total as f32);
            model.step(&example.features, example.label, rate, &mut probabilities);
            done += 1;
            if done.is_multiple_of(1000) {
                progress.event(Event::Advance { stage: "classify", done });
            }
        }
        if progress.cancelled() {
            return Err(Error::Cancelled { folder: model_path.into() });
        }
    }
    model.save(model_path)?;
    let (accuracy, balanced_accuracy) = judge(&model, &held_out);
    let report =
        TrainReport { rows, left_out, labels, held_out: held_out.len() as u64, accuracy, balanced_accuracy };
    let summary = format!("{:.1} % of {} held-out rows told right", accuracy * 100.0, report.held_out);
    progress.event(Event::Finish { stage: "classify", summary: &summary });
    Ok(report)
}

/// Rows as features, those without any left out.
fn examples(config: &TrainConfig, texts: &[(String, String)], names: &[String]) -> Vec<Example> {
    let mut found = Vec::new();
    let examples = texts.iter().enumerate().map(|(at, (label, text))| {
        let mut buckets = Vec::new();
        features(text, config.bucket_bits, &mut found, &mut buckets);
        let held_out = finish(config.seed ^ (at as u64).wrapping_mul(0x9e37_79b9)).is_multiple_of(HELD_OUT);
        Example { features: buckets, label: names.binary_search(label).unwrap_or(0), held_out }
    });
    examples.filter(|example| !example.features.is_empty()).collect()
}

/// Label and text of every row that has both; how many haven't.
fn labelled_rows(config: &TrainConfig, input: &Input) -> Result<(Vec<(String, String)>, u64)> {
    let (mut texts, mut left_out) = (Vec::new(), 0);
    read_all(input, &mut |item| {
        match item {
            Item::Row(row) => match label_of(&row, &config.label_field) {
                Some(label) => texts.push((label, row.joined().into_owned())),
                None => left_out += 1,
            },
            Item::Rejected(_) | Item::Damaged { .. } => left_out += 1,
        }
        Ok(())
    })?;
    Ok((texts, left_out))
}

/// A label is a string, or a number or truth value as it is written.
fn label_of(row: &Row, field: &str) -> Option<String> {
    let raw = row.metadata.raw(field)?;
    match raw.as_bytes().first()? {
        b'"' => row.metadata.text(field),
        b'n' | b'{' | b'[' => None,
        _ => Some(raw.to_owned()),
    }
}

fn judge(model: &Model, held_out: &[Example]) -> (f64, f64) {
    let mut counts = vec![(0u64, 0u64); model.labels.len()];
    let mut probabilities = Vec::new();
    for example in held_out {
        model.probabilities(&example.features, &mut probabilities);
        counts[example.label].1 += 1;
        counts[example.label].0 += u64::from(best(&probabilities) == example.label);
    }
    let (right, all) = counts.iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    let present: Vec<f64> =
        counts.iter().filter(|count| count.1 > 0).map(|count| count.0 as f64 / count.1 as f64).collect();
    let balanced = present.iter().sum::<f64>() / present.len().max(1) as f64;
    (right as f64 / all.max(1) as f64, balanced)
}

/// Sets each row's class; removes rows of other classes if that is asked for.
pub fn run(
    config: &Config,
    input: &Input,
    output: &Output,
    progress: &dyn Progress,
) -> Result<Summary<Details>> {
    let model = Model::load(&config.model)?;
    if let Some(label) = config.keep.iter().find(|label| !model.labels.contains(label)) {
        let expectation = format!("labels of the model: {}", model.labels.join(", "));
        return Err(Error::Config { field: "keep".into(), value: label.clone(), expectation });
    }
    let job = match job::begin("classify", config, input, output, progress)? {
        Begun::Done(summary) => return Ok(*summary),
        Begun::Go(job) => job,
    };
    let score_field = format!("{}_score", config.field);
    let shards = Shards { job: &job, stage: "classify", first: true };
    let (tally, states) = shards.run(|shard| {
        let mut classes: BTreeMap<String, u64> = BTreeMap::new();
        let (mut found, mut buckets, mut probabilities) = (Vec::new(), Vec::new(), Vec::new());
        shard.rewrite(&mut |row, tally| {
            features(&row.joined(), model.bucket_bits, &mut found, &mut buckets);
            model.probabilities(&buckets, &mut probabilities);
            let best = best(&probabilities);
            let (label, score) = (&model.labels[best], probabilities[best]);
            *classes.entry(label.clone()).or_default() += 1;
            row.metadata.set(&config.field, label);
            row.metadata.set(&score_field, &((f64::from(score) * 1e4).round() / 1e4));
            if !config.keep.is_empty() && !config.keep.contains(label) {
                tally.remove(&format!("class_{label}"), row);
                return Ok(false);
            }
            if score < config.min_score {
                tally.remove("class_score", row);
                return Ok(false);
            }
            Ok(true)
        })?;
        Ok(classes)
    })?;
    let mut details = Details::default();
    for (label, rows) in states.into_iter().flatten() {
        *details.classes.entry(label).or_default() += rows;
    }
    job.finish(tally, details)
}

#[cfg(test)]
mod tests {
    use hearth_artifacts::progress::Silent;
    use hearth_testkit::Scratch;

    use super::*;

    #[test]
    fn a_model_learns_topics_in_two_languages_and_reads_back_to_the_bit() {
        let folder = Scratch::new("data-classify").unwrap();
        let words = [
            ("kitchen", ["oven flour sugar bread", "烤箱面粉砂糖面包做饭"]),
            ("garden", ["soil seeds rain trees", "泥土种子雨水树木花园"]),
        ];
        let mut lines = String::new();
        for at in 0..200usize {
            let (label, texts) = words[at % 2];
            let text = texts[at / 2 % 2];
            let noise = format!("nr{} 第{}个", at * 31 % 97, at * 17 % 89);
            lines += &serde_json::json!({ "text": format!("{noise} {text}"), "label": label }).to_string();
            lines.push('\n');
        }
        fs_err::write(folder.join("train.jsonl"), lines).unwrap();
        let path = folder.join("model.bin");
        let input = Input::new([folder.join("train.jsonl")]);
        let report = train(&TrainConfig::default(), &input, &path, &Silent).unwrap();
        assert!(report.held_out > 5 && report.accuracy > 0.95, "{report:?}");
        let model = Model::load(&path).unwrap();
        assert_eq!(model.classify("bread from the oven").0, "kitchen");
        assert_eq!(model.classify("花园里的树木").0, "garden");
        let bytes = fs_err::read(&path).unwrap();
        train(&TrainConfig::default(), &input, &path, &Silent).unwrap();
        assert_eq!(fs_err::read(&path).unwrap(), bytes);
        for cut in [0, 10, 20, bytes.len() / 2, bytes.len() - 1] {
            fs_err::write(&path, &bytes[..cut]).unwrap();
            assert!(Model::load(&path).is_err());
        }
    }
}
