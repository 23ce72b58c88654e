//! The state between two steps, as a folder: a model that can be served, beside it what the next step needs.

use std::path::Path;

use hearth_artifacts::atomic;
use hearth_artifacts::hash::Hasher;
use hearth_kernels::pool::Pool;
use hearth_model::Decoder;
use hearth_tensor::optimizer::AdamW;
use hearth_tensor::optimizer::muon::Muon;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::PretrainConfig;
use super::{Input, Validation};
use crate::checkpoints::{read_moments, read_vectors, write_moments, write_vectors};
use crate::error::{Error, Result};
use crate::sft::Curve;

/// The state between two steps.
#[derive(Debug)]
pub(super) struct State {
    pub(super) step: usize,
    pub(super) decoder: Decoder,
    pub(super) adamw: AdamW,
    pub(super) muon: Muon,
    pub(super) curve: Curve,
    pub(super) best: Validation,
    /// The decoder with the lowest validation loss so far, if it isn't the present one.
    pub(super) best_decoder: Option<Decoder>,
    pub(super) tokens: u64,
    pub(super) seconds: f64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Progress {
    step: usize,
    optimizer_steps: u32,
    curve: Curve,
    best_loss: f64,
    best_bits_per_byte: Option<f64>,
    tokens: u64,
    seconds: f64,
}

const PROGRESS: &str = "state.json";
const MUON: &str = "momenta.bin";
const BEST: &str = "best";

/// Names a run: config, shards and the model it starts from.
pub(super) fn fingerprint(config: &PretrainConfig, input: &Input<'_>) -> String {
    let mut hasher = Hasher::default();
    hasher.update(format!("{config:?}").as_bytes());
    for (shards, _) in [input.train, input.validation] {
        for shard in &shards.manifest().shards {
            hasher.update(shard.sha256.as_bytes());
        }
        hasher.update(b"end");
    }
    if let Some(initial) = input.initial {
        hasher.update(format!("{:?}", initial.config).as_bytes());
        let mut row = vec![0.0; initial.config.hidden_size];
        for index in 0..initial.embedding.out_features() {
            initial.embedding.weight.row(index, &mut row);
            hasher.update(&row.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
        }
    }
    hasher.finish()
}

impl State {
    pub(super) fn fresh(config: &PretrainConfig, input: &Input<'_>) -> Result<Self> {
        let decoder = match (input.initial, &config.sizes) {
            (Some(initial), _) => initial.thawed()?,
            (None, Some(sizes)) => Decoder::fresh(sizes, config.seed)?,
            (None, None) => return Err(Error::NoSizes),
        };
        Ok(Self {
            step: 0,
            decoder,
            adamw: AdamW::new(config.adamw()),
            muon: Muon::new(config.muon()),
            curve: Curve::default(),
            best: Validation { loss: f64::INFINITY, bits_per_byte: None },
            best_decoder: None,
            tokens: 0,
            seconds: 0.0,
        })
    }

    /// Writes all of it into a folder that is there.
    pub(super) fn write(&mut self, folder: &Path, config: &Value) -> Result<()> {
        self.decoder.write_folder(folder, Some(config))?;
        if let Some(best) = &mut self.best_decoder {
            let folder = folder.join(BEST);
            fs_err::create_dir_all(&folder).map_err(hearth_artifacts::Error::from)?;
            best.write_folder(&folder, Some(config))?;
        }
        write_moments(folder, &self.adamw)?;
        write_vectors(&folder.join(MUON), self.muon.momenta())?;
        let progress = Progress {
            step: self.step,
            optimizer_steps: self.adamw.num_steps(),
            curve: self.curve.clone(),
            best_loss: self.best.loss,
            best_bits_per_byte: self.best.bits_per_byte,
            tokens: self.tokens,
            seconds: self.seconds,
        };
        Ok(atomic::write_json(&folder.join(PROGRESS), &progress)?)
    }

    /// Reads what [`Self::write`] wrote; its files were checked by their hashes.
    pub(super) fn read(folder: &Path, config: &PretrainConfig, pool: &Pool) -> Result<Self> {
        let open = |folder: &Path| -> Result<Decoder> { Ok(Decoder::open(folder, pool)?.thawed()?) };
        let decoder = open(folder)?;
        let best = folder.join(BEST);
        let best_decoder = if best.is_dir() { Some(open(&best)?) } else { None };
        let progress: Progress = atomic::read_json(&folder.join(PROGRESS))?;
        let Progress { step, optimizer_steps, curve, best_loss, best_bits_per_byte, tokens, seconds } =
            progress;
        Ok(Self {
            step,
            decoder,
            adamw: read_moments(folder, config.adamw(), optimizer_steps)?,
            muon: Muon::resume(config.muon(), read_vectors(&folder.join(MUON))?),
            curve,
            best: Validation { loss: best_loss, bits_per_byte: best_bits_per_byte },
            best_decoder,
            tokens,
            seconds,
        })
    }
}
