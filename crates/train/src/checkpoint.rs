//! What lets a killed run go on as if nothing had happened: adapter, moments, curve, and what they belong to.
//!
//! A checkpoint is a folder written beside the current one and renamed, so a kill leaves the old or the new.

use std::path::Path;

use hearth_artifacts::{atomic, hash::Hasher};
use hearth_model::{Adapter, Decoder};
use hearth_tensor::optimizer::{AdamW, AdamWConfig, Moments};
use hearth_tensor::weight::ParamId;
use hearth_tokenizer::Example;
use serde::{Deserialize, Serialize};

use crate::config::SftConfig;
use crate::error::{Error, Result};
use crate::sft::Curve;

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
struct Manifest {
    format_version: u32,
    fingerprint: String,
    step: usize,
    optimizer_steps: u32,
    curve: Curve,
    seconds: f64,
}

const FORMAT_VERSION: u32 = 2;

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

pub(crate) fn save(folder: &Path, fingerprint: &str, state: &State) -> Result<()> {
    let next = folder.with_extension("next");
    if next.exists() {
        fs_err::remove_dir_all(&next).map_err(hearth_artifacts::Error::from)?;
    }
    state.adapter.save(&next.join("adapter"))?;
    state.best.save(&next.join("best"))?;
    let mut bytes = Vec::new();
    for (id, moments) in state.optimizer.moments() {
        bytes.extend((u64::from(id.0)).to_le_bytes());
        bytes.extend((moments.first.len() as u64).to_le_bytes());
        for value in moments.first.iter().chain(&moments.second) {
            bytes.extend(value.to_le_bytes());
        }
    }
    atomic::write(&next.join("moments.bin"), &bytes)?;
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        fingerprint: fingerprint.into(),
        step: state.step,
        optimizer_steps: state.optimizer.num_steps(),
        curve: state.curve.clone(),
        seconds: state.seconds,
    };
    atomic::write_json(&next.join("checkpoint.json"), &manifest)?;
    let old = folder.with_extension("old");
    let clear = || if old.exists() { fs_err::remove_dir_all(&old) } else { Ok(()) };
    let swap = || -> std::io::Result<()> {
        // Left by a run that was killed here.
        clear()?;
        if folder.exists() {
            fs_err::rename(folder, &old)?;
        }
        fs_err::rename(&next, folder)?;
        clear()
    };
    Ok(swap().map_err(hearth_artifacts::Error::from)?)
}

/// The state of this very run, if there is one; a checkpoint of another run is left alone.
pub(crate) fn load(
    folder: &Path,
    fingerprint: &str,
    decoder: &Decoder,
    config: AdamWConfig,
) -> Result<Option<State>> {
    // Killed between the two renames of `save`: the new checkpoint is whole under its first name, and gets
    // its own before the next `save` makes room there.
    let next = folder.with_extension("next");
    if !folder.join("checkpoint.json").is_file() {
        if !next.join("checkpoint.json").is_file() {
            return Ok(None);
        }
        fs_err::rename(&next, folder).map_err(hearth_artifacts::Error::from)?;
    }
    let manifest: Manifest = atomic::read_json(&folder.join("checkpoint.json"))?;
    if manifest.fingerprint != fingerprint || manifest.format_version != FORMAT_VERSION {
        return Ok(None);
    }
    let adapter = Adapter::open(&folder.join("adapter"), decoder)?;
    let best = Adapter::open(&folder.join("best"), decoder)?;
    let bytes = fs_err::read(folder.join("moments.bin")).map_err(hearth_artifacts::Error::from)?;
    let moments = read_moments(&bytes).ok_or_else(|| Error::Checkpoint {
        path: folder.into(),
        reason: format!("`moments.bin` of {} bytes is cut short", bytes.len()),
        previous: None,
    })?;
    let optimizer = AdamW::resume(config, manifest.optimizer_steps, moments);
    let Manifest { step, curve, seconds, .. } = manifest;
    Ok(Some(State { step, adapter, optimizer, curve, best, seconds }))
}

fn read_moments(mut bytes: &[u8]) -> Option<Vec<(ParamId, Moments)>> {
    let mut moments = Vec::new();
    while !bytes.is_empty() {
        let (id, rest) = bytes.split_first_chunk::<8>()?;
        let (len, rest) = rest.split_first_chunk::<8>()?;
        let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
        let size = len.checked_mul(8)?;
        let values = rest.get(..size)?;
        let mut values = values.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let first = values.by_ref().take(len).collect();
        let second = values.collect();
        let id = ParamId(u32::try_from(u64::from_le_bytes(*id)).ok()?);
        moments.push((id, Moments { first, second }));
        bytes = &rest[size..];
    }
    Some(moments)
}
