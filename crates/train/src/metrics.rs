//! The figures of a run as JSON Lines, `metrics.jsonl`: a line a step, a line a look at the validation split.
//!
//! A run that goes on from a checkpoint drops the lines behind it and writes them anew, with the same losses.

use std::io::Write;
use std::path::Path;

use hearth_artifacts::atomic;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// One line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Steps done.
    pub step: usize,
    /// Mean loss of the step's batch before its update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
    /// Of the validation split, where bytes are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_per_byte: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr: Option<f32>,
    /// Before clipping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_norm: Option<f64>,
    /// Tokens of the batch, and those of them that count for the loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned_tokens: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_s: Option<f64>,
    /// Since the run's start, sittings added.
    pub seconds: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
}

/// Where lines go; nowhere for a run that wants none.
#[derive(Debug)]
pub(crate) struct Metrics {
    file: Option<fs_err::File>,
}

impl Metrics {
    /// Keeps the lines of the first `steps` steps and goes on behind them; none for a run that begins.
    pub(crate) fn open(path: Option<&Path>, steps: Option<usize>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self { file: None }) };
        let mut kept = String::new();
        for metric in read(path)?.into_iter().filter(|metric| steps.is_some_and(|steps| metric.step <= steps))
        {
            kept.push_str(&line(&metric));
        }
        atomic::write(path, kept.as_bytes())?;
        let file =
            fs_err::OpenOptions::new().append(true).open(path).map_err(hearth_artifacts::Error::from)?;
        Ok(Self { file: Some(file) })
    }

    pub(crate) fn write(&mut self, metric: &Metric) -> Result<()> {
        match &mut self.file {
            Some(file) => {
                Ok(file.write_all(line(metric).as_bytes()).map_err(hearth_artifacts::Error::from)?)
            }
            None => Ok(()),
        }
    }
}

/// The lines of a run; a last one that a kill cut short is left out.
pub fn read(path: &Path) -> Result<Vec<Metric>> {
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let text = fs_err::read_to_string(path).map_err(hearth_artifacts::Error::from)?;
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let parse = |(index, text): (usize, &str)| {
        serde_json::from_str(text).map_err(|error| hearth_artifacts::Error::Json {
            path: path.into(),
            reason: format!("line {}: {error}", index + 1),
        })
    };
    Ok(whole.lines().enumerate().map(parse).collect::<Result<_, hearth_artifacts::Error>>()?)
}

fn line(metric: &Metric) -> String {
    format!("{}\n", serde_json::to_string(metric).expect("numbers are JSON"))
}

/// The process's resident memory and its largest so far, in MiB; `None` where the system doesn't tell.
pub fn memory_mib() -> Option<(u64, u64)> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let value = |name: &str| -> Option<u64> {
        let line = status.lines().find(|line| line.starts_with(name))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
    };
    Some((value("VmRSS:")?, value("VmHWM:")?))
}
