//! What lets a killed run go on as if nothing had happened: folders `step-N`, whole or not there at all.
//!
//! A folder is written beside its place and renamed, so neither a kill nor a full disk leaves half of one.
//! `checkpoint.json` names the run and holds the hash of each file: damage is named, never trained on. What is in the
//! files is the trainer's.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use hearth_artifacts::atomic::{self, PartialFile, PartialFolder};
use hearth_artifacts::hash::sha256_file;
use hearth_tensor::optimizer::{AdamW, AdamWConfig, Moments};
use hearth_tensor::weight::ParamId;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Where checkpoints go and how many stay.
#[derive(Debug, Clone, Copy)]
pub struct Checkpoints<'a> {
    pub folder: &'a Path,
    /// Seconds between two; 0 is one a step.
    pub every_seconds: u64,
    /// The last so many are kept; each holds the best weights so far.
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

/// What holds the files together.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format_version: u32,
    fingerprint: String,
    /// sha256 of each file, by its path within the folder.
    files: BTreeMap<String, String>,
}

const FORMAT_VERSION: u32 = 4;
const MANIFEST: &str = "checkpoint.json";

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

    /// Lets `write` fill the folder of a step, and removes what is more than enough. A failure leaves the ones before as
    /// they are.
    pub fn save(
        &self,
        fingerprint: &str,
        step: usize,
        write: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let written = self.write(fingerprint, step, write);
        written.map_err(|source| Error::CheckpointWrite {
            step,
            last: self.steps().into_iter().rfind(|&other| other < step),
            source: Box::new(source),
        })?;
        let steps = self.steps();
        for &step in &steps[..steps.len().saturating_sub(self.keep.max(1))] {
            remove(&self.path(step))?;
        }
        Ok(())
    }

    fn write(&self, fingerprint: &str, step: usize, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let target = self.path(step);
        let folder = PartialFolder::create(&target)?;
        write(&folder.inside())?;
        let mut files = BTreeMap::new();
        hash_all(&folder.inside(), "", &mut files)?;
        let manifest = Manifest { format_version: FORMAT_VERSION, fingerprint: fingerprint.into(), files };
        atomic::write_json(&folder.inside().join(MANIFEST), &manifest)?;
        if target.exists() {
            // The same step again, of a run that ended here before.
            remove(&target)?;
        }
        Ok(folder.commit()?)
    }

    /// The folder to go on from, its files checked, or none to start with.
    pub fn load(&self, fingerprint: &str) -> Result<Option<PathBuf>> {
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
        let path = self.path(step);
        let previous = steps.iter().copied().rfind(|&other| other < step);
        let failed = |reason: String| Error::Checkpoint { path: self.path(step), reason, previous };
        let manifest: Manifest =
            atomic::read_json(&path.join(MANIFEST)).map_err(|error| failed(error.to_string()))?;
        if manifest.fingerprint != fingerprint || manifest.format_version != FORMAT_VERSION {
            if self.resume == Resume::IfSame {
                return Ok(None);
            }
            return Err(failed("it is of another config, model, data or version".into()));
        }
        for (name, expected) in &manifest.files {
            let found = sha256_file(&path.join(name)).map_err(|error| failed(error.to_string()))?;
            if found != *expected {
                let reason =
                    format!("`{name}` is damaged: its sha256 is {found}, `{MANIFEST}` says {expected}");
                return Err(failed(reason));
            }
        }
        for &later in steps.iter().filter(|&&later| later > step) {
            remove(&self.path(later))?;
        }
        Ok(Some(path))
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

/// The sha256 of all files of a folder, those of its folders included.
fn hash_all(folder: &Path, prefix: &str, files: &mut BTreeMap<String, String>) -> Result<()> {
    for entry in fs_err::read_dir(folder).map_err(hearth_artifacts::Error::from)? {
        let entry = entry.map_err(hearth_artifacts::Error::from)?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            hash_all(&entry.path(), &format!("{name}/"), files)?;
        } else {
            files.insert(name, sha256_file(&entry.path())?);
        }
    }
    Ok(())
}

/// Values of parameters, by their ids.
pub(crate) type Vectors = Vec<(ParamId, Vec<f32>)>;

/// Writes, for each vector, its parameter's id and its length as u64, then its values, all little-endian.
pub(crate) fn write_vectors<'a>(
    path: &Path,
    vectors: impl Iterator<Item = (ParamId, &'a [f32])>,
) -> Result<()> {
    let mut file = PartialFile::create(path)?;
    let mut write = |bytes: &[u8]| file.write_all(bytes).map_err(hearth_artifacts::Error::from);
    for (id, values) in vectors {
        write(&u64::from(id.0).to_le_bytes())?;
        write(&(values.len() as u64).to_le_bytes())?;
        for values in values.chunks(1 << 16) {
            write(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())?;
        }
    }
    Ok(file.commit()?)
}

const FIRST: &str = "first_moments.bin";
const SECOND: &str = "second_moments.bin";

/// Writes what `AdamW` knows of each parameter.
pub(crate) fn write_moments(folder: &Path, optimizer: &AdamW) -> Result<()> {
    let of = |part: fn(&Moments) -> &[f32]| optimizer.moments().map(move |(id, moments)| (id, part(moments)));
    write_vectors(&folder.join(FIRST), of(|moments| &moments.first))?;
    write_vectors(&folder.join(SECOND), of(|moments| &moments.second))
}

/// `AdamW` after `num_steps` steps, from what [`write_moments`] wrote.
pub(crate) fn read_moments(folder: &Path, config: AdamWConfig, num_steps: u32) -> Result<AdamW> {
    let moments = read_vectors(&folder.join(FIRST))?.into_iter().zip(read_vectors(&folder.join(SECOND))?);
    let moments = moments.map(|((id, first), (_, second))| (id, Moments { first, second }));
    Ok(AdamW::resume(config, num_steps, moments))
}

/// Reads what [`write_vectors`] wrote.
pub(crate) fn read_vectors(path: &Path) -> Result<Vectors> {
    let bytes = fs_err::read(path).map_err(hearth_artifacts::Error::from)?;
    parse_vectors(&bytes).ok_or_else(|| Error::Checkpoint {
        path: path.into(),
        reason: format!("{} bytes are no whole vectors", bytes.len()),
        previous: None,
    })
}

fn parse_vectors(mut bytes: &[u8]) -> Option<Vectors> {
    let mut vectors = Vec::new();
    while !bytes.is_empty() {
        let (id, rest) = bytes.split_first_chunk::<8>()?;
        let (len, rest) = rest.split_first_chunk::<8>()?;
        let size = usize::try_from(u64::from_le_bytes(*len)).ok()?.checked_mul(4)?;
        let values = rest.get(..size)?.as_chunks::<4>().0;
        let id = ParamId(u32::try_from(u64::from_le_bytes(*id)).ok()?);
        vectors.push((id, values.iter().map(|&value| f32::from_le_bytes(value)).collect()));
        bytes = &rest[size..];
    }
    Some(vectors)
}
