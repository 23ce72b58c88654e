//! What lets a killed run of fine-tuning go on as if nothing had happened: adapter, moments, curve, and what they belong
//! to, in a folder of [`Checkpoints`].

use std::path::Path;

use hearth_artifacts::atomic;
use hearth_artifacts::hash::Hasher;
use hearth_model::{Adapter, Decoder};
use hearth_tensor::optimizer::{AdamW, AdamWConfig};
use hearth_tokenizer::Example;
use serde::{Deserialize, Serialize};

use crate::checkpoints::{read_moments, write_moments};
use crate::config::SftConfig;
use crate::error::Result;
use crate::sft::Curve;

pub use crate::checkpoints::{Checkpoints, Resume};

/// The state between two steps.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) step: usize,
    pub(crate) adapter: Adapter,
    pub(crate) optimizer: AdamW,
    pub(crate) curve: Curve,
    /// The adapter with the lowest validation loss so far.
    pub(crate) best: Adapter,
    pub(crate) seconds: f64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Progress {
    step: usize,
    optimizer_steps: u32,
    curve: Curve,
    seconds: f64,
}

const PROGRESS: &str = "state.json";

/// Names a run: config, data and the model's shape. A checkpoint of another run isn't taken up.
pub(crate) fn fingerprint(config: &SftConfig, decoder: &Decoder, sets: [&[Example]; 2]) -> String {
    let mut hasher = Hasher::default();
    hasher.update(format!("{config:?} {:?} {}", decoder.config, decoder.weight_bytes()).as_bytes());
    for set in sets {
        hasher.update(format!("set of {}", set.len()).as_bytes());
        for example in set {
            for (&id, &learn) in example.ids.iter().zip(&example.mask) {
                hasher.update(&(u64::from(id) << 1 | u64::from(learn)).to_le_bytes());
            }
            hasher.update(b"end");
        }
    }
    hasher.finish()
}

impl State {
    /// Writes all of it into a folder that is there.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        self.adapter.save(&folder.join("adapter"))?;
        self.best.save(&folder.join("best"))?;
        write_moments(folder, &self.optimizer)?;
        let progress = Progress {
            step: self.step,
            optimizer_steps: self.optimizer.num_steps(),
            curve: self.curve.clone(),
            seconds: self.seconds,
        };
        Ok(atomic::write_json(&folder.join(PROGRESS), &progress)?)
    }

    /// Reads what [`Self::write`] wrote; its files were checked by their hashes.
    pub(crate) fn read(folder: &Path, decoder: &Decoder, config: AdamWConfig) -> Result<Self> {
        let progress: Progress = atomic::read_json(&folder.join(PROGRESS))?;
        let adapter = Adapter::open(&folder.join("adapter"), decoder)?;
        let best = Adapter::open(&folder.join("best"), decoder)?;
        let Progress { step, optimizer_steps, curve, seconds } = progress;
        let optimizer = read_moments(folder, config, optimizer_steps)?;
        Ok(Self { step, adapter, optimizer, curve, best, seconds })
    }
}
