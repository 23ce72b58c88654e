//! What lets a killed run go on as if nothing had happened: adapter, moments, curve, and what they belong to.
//!
//! A checkpoint is a folder `step-N`, written beside and renamed, so a kill or a full disk leaves it whole or not at
//! all. `checkpoint.json` holds the hash of each file: damage is named, never trained on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hearth_artifacts::atomic::{self, PartialFolder};
use hearth_artifacts::hash::{Hasher, sha256, sha256_file};
use hearth_model::{Adapter, Decoder};
use hearth_tensor::optimizer::{AdamW, AdamWConfig, Moments};
use hearth_tensor::weight::ParamId;
use hearth_tokenizer::Example;
use serde::{Deserialize, Serialize};

use crate::config::SftConfig;
use crate::error::{Error, Result};
use crate::sft::Curve;

/// Where checkpoints go and how many stay.
#[derive(Debug, Clone, Copy)]
pub struct Checkpoints<'a> {
    pub folder: &'a Path,
    /// Seconds between two; 0 is one a step.
    pub every_seconds: u64,
    /// The last so many are kept; each holds the best adapter so far.
    pub keep: usize,
    pub resume: Resume,
}

/// Which checkpoint a run goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// The last one of the same config, data and model; one of another run is passed over.
    IfSame,
    /// The last one, which must be of the same config, data and model; the start if there is none.
    Last,
    /// The one of this step; later ones are removed.
    Step(usize),
}

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

/// What holds the others together.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format_version: u32,
    fingerprint: String,
    /// sha256 of each file.
    files: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Progress {
    step: usize,
    optimizer_steps: u32,
    curve: Curve,
    seconds: f64,
}

const FORMAT_VERSION: u32 = 3;
const MANIFEST: &str = "checkpoint.json";
const PROGRESS: &str = "state.json";
const MOMENTS: &str = "moments.bin";
const FILES: [&str; 6] = [
    PROGRESS,
    MOMENTS,
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
    "best/adapter_config.json",
    "best/adapter_model.safetensors",
];

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

impl Checkpoints<'_> {
    fn path(&self, step: usize) -> PathBuf {
        self.folder.join(format!("step-{step}"))
    }

    /// Steps that have a checkpoint, ascending.
    pub fn steps(&self) -> Vec<usize> {
        let Ok(entries) = fs_err::read_dir(self.folder) else { return Vec::new() };
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut steps: Vec<usize> =
            names.filter_map(|name| name.strip_prefix("step-")?.parse().ok()).collect();
        steps.sort_unstable();
        steps
    }

    /// Writes the state and removes what is more than enough. A failure leaves the ones before as they are.
    pub(crate) fn save(&self, fingerprint: &str, state: &State) -> Result<()> {
        let written = write(&self.path(state.step), fingerprint, state);
        written.map_err(|source| Error::CheckpointWrite {
            step: state.step,
            last: self.steps().into_iter().rfind(|&step| step < state.step),
            source: Box::new(source),
        })?;
        let steps = self.steps();
        for &step in &steps[..steps.len().saturating_sub(self.keep.max(1))] {
            remove(&self.path(step))?;
        }
        Ok(())
    }

    /// The state to go on from, or none to start with.
    pub(crate) fn load(
        &self,
        fingerprint: &str,
        decoder: &Decoder,
        config: AdamWConfig,
    ) -> Result<Option<State>> {
        self.clear_partial()?;
        let steps = self.steps();
        let step = match self.resume {
            Resume::Step(step) if !steps.contains(&step) => {
                return Err(Error::NoCheckpoint { step, folder: self.folder.into(), steps });
            }
            Resume::Step(step) => step,
            Resume::IfSame | Resume::Last => match steps.last() {
                Some(&step) => step,
                None => return Ok(None),
            },
        };
        let previous = steps.iter().copied().rfind(|&other| other < step);
        let failed = |reason: String| Error::Checkpoint { path: self.path(step), reason, previous };
        let manifest: Manifest =
            atomic::read_json(&self.path(step).join(MANIFEST)).map_err(|error| failed(error.to_string()))?;
        if manifest.fingerprint != fingerprint || manifest.format_version != FORMAT_VERSION {
            if self.resume == Resume::IfSame {
                return Ok(None);
            }
            return Err(failed("it is of another config, model, data or version".into()));
        }
        let state = read(&self.path(step), &manifest, decoder, config).map_err(failed)?;
        for &later in steps.iter().filter(|&&later| later > step) {
            remove(&self.path(later))?;
        }
        Ok(Some(state))
    }

    /// What a kill left half written.
    fn clear_partial(&self) -> Result<()> {
        let Ok(entries) = fs_err::read_dir(self.folder) else { return Ok(()) };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("step-") && name.ends_with(".partial") {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

fn remove(folder: &Path) -> Result<()> {
    Ok(fs_err::remove_dir_all(folder).map_err(hearth_artifacts::Error::from)?)
}

fn write(target: &Path, fingerprint: &str, state: &State) -> Result<()> {
    let folder = PartialFolder::create(target)?;
    let inside = folder.inside();
    state.adapter.save(&inside.join("adapter"))?;
    state.best.save(&inside.join("best"))?;
    let mut bytes = Vec::new();
    for (id, moments) in state.optimizer.moments() {
        bytes.extend((u64::from(id.0)).to_le_bytes());
        bytes.extend((moments.first.len() as u64).to_le_bytes());
        for value in moments.first.iter().chain(&moments.second) {
            bytes.extend(value.to_le_bytes());
        }
    }
    atomic::write(&inside.join(MOMENTS), &bytes)?;
    let progress = Progress {
        step: state.step,
        optimizer_steps: state.optimizer.num_steps(),
        curve: state.curve.clone(),
        seconds: state.seconds,
    };
    atomic::write_json(&inside.join(PROGRESS), &progress)?;
    let hash = |name: &str| Ok((name.to_owned(), sha256_file(&inside.join(name))?));
    let files = FILES.into_iter().map(hash).collect::<Result<_>>()?;
    let manifest = Manifest { format_version: FORMAT_VERSION, fingerprint: fingerprint.into(), files };
    atomic::write_json(&inside.join(MANIFEST), &manifest)?;
    if target.exists() {
        remove(target)?;
    }
    Ok(folder.commit()?)
}

/// Everything but the manifest, compared with its hashes.
fn read(folder: &Path, manifest: &Manifest, decoder: &Decoder, config: AdamWConfig) -> Result<State, String> {
    let said = |error: hearth_artifacts::Error| error.to_string();
    for name in FILES {
        let bytes = fs_err::read(folder.join(name)).map_err(|error| error.to_string())?;
        let (found, expected) = (sha256(&bytes), manifest.files.get(name).map_or("none", String::as_str));
        if found != expected {
            return Err(format!("`{name}` is damaged: its sha256 is {found}, `{MANIFEST}` says {expected}"));
        }
    }
    let progress: Progress = atomic::read_json(&folder.join(PROGRESS)).map_err(said)?;
    let adapter = Adapter::open(&folder.join("adapter"), decoder).map_err(|error| error.to_string())?;
    let best = Adapter::open(&folder.join("best"), decoder).map_err(|error| error.to_string())?;
    let bytes = fs_err::read(folder.join(MOMENTS)).map_err(|error| error.to_string())?;
    let moments =
        read_moments(&bytes).ok_or_else(|| format!("`{MOMENTS}` of {} bytes is cut short", bytes.len()))?;
    let optimizer = AdamW::resume(config, progress.optimizer_steps, moments);
    let Progress { step, curve, seconds, .. } = progress;
    Ok(State { step, adapter, optimizer, curve, best, seconds })
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
