//! A model folder as the hub has it: `config.json` and `model.safetensors`, whole or in shards.
//!
//! Follows the format's specification: eight bytes of header length, a JSON header with type, shape and
//! offsets of each tensor, then the data without gaps. Tensors are F32, F16 or BF16; others (position tables in
//! I64, say) are kept by name so that asking for one tells what it is. Left out: tokenizer files.

pub mod sink;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use hearth_artifacts::map::{self, Mmap};
use hearth_kernels::quant::Format;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::{Error, Result, TensorView, tensor_bytes};

/// The limit that the format's own library sets for a header.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// An open model folder.
#[derive(Debug)]
pub struct SafetensorsFolder {
    path: PathBuf,
    config: serde_json::Value,
    shards: Vec<Mmap>,
    tensors: BTreeMap<String, Place>,
    /// Name and type of the tensors in formats that can't be read.
    unreadable: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
struct Place {
    shard: usize,
    shape: Vec<usize>,
    format: Format,
    range: Range<usize>,
}

/// A tensor as the header of a file describes it.
#[derive(Debug, Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

#[derive(Debug, Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl SafetensorsFolder {
    /// Opens and checks the folder; reads headers only.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let config = read_json(&path.join("config.json"))?;
        let mut folder = Self {
            path: path.into(),
            config,
            shards: Vec::new(),
            tensors: BTreeMap::new(),
            unreadable: BTreeMap::new(),
        };
        let (single, index) = (path.join("model.safetensors"), path.join("model.safetensors.index.json"));
        if single.is_file() {
            folder.add_shard(&single)?;
        } else if index.is_file() {
            folder.add_index(&index)?;
        } else {
            return Err(Error::NoWeights { path: path.into() });
        }
        Ok(folder)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `config.json` as it stands.
    pub fn config(&self) -> &serde_json::Value {
        &self.config
    }

    /// Names of the readable tensors in alphabetical order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Name and type of the tensors in formats that can't be read.
    pub fn unreadable(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.unreadable.iter().map(|(name, dtype)| (name.as_str(), dtype.as_str()))
    }

    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let place = self.tensors.get(name)?;
        Some(TensorView {
            shape: place.shape.clone(),
            format: place.format,
            bytes: &self.shards[place.shard][place.range.clone()],
        })
    }

    /// As [`Self::tensor`], with an error that tells a missing tensor from an unreadable one.
    pub fn require(&self, name: &str) -> Result<TensorView<'_>> {
        if let Some(view) = self.tensor(name) {
            return Ok(view);
        }
        let (path, tensor) = (self.path.clone(), name.into());
        Err(match self.unreadable.get(name) {
            Some(format) => Error::UnsupportedFormat { path, tensor, format: format.clone() },
            None => Error::MissingTensor { path, tensor },
        })
    }

    fn add_index(&mut self, index: &Path) -> Result<()> {
        let Index { weight_map } = read_json(index)?;
        let mut files: Vec<_> = weight_map.values().collect();
        files.sort();
        files.dedup();
        for file in files {
            // A shard lies beside its index; anything else would read a file the user didn't name.
            if Path::new(file).file_name() != Some(file.as_ref()) {
                let problem = "is not a plain file name";
                return Err(malformed(index, format!("shard `{file}`"), problem));
            }
            self.add_shard(&self.path.join(file))?;
        }
        for (name, file) in &weight_map {
            if !self.tensors.contains_key(name) && !self.unreadable.contains_key(name) {
                let problem = format!("has no tensor `{name}`, which the index says it has");
                return Err(malformed(index, format!("shard `{file}`"), problem));
            }
        }
        Ok(())
    }

    fn add_shard(&mut self, path: &Path) -> Result<()> {
        let map = map::map(path)?;
        let (data_start, entries) = read_header(path, &map)?;
        check_gapless(path, data_start, &entries, map.len() as u64)?;
        for (name, entry) in entries {
            let twice = self.tensors.contains_key(&name) || self.unreadable.contains_key(&name);
            if twice {
                return Err(malformed(path, tensor(&name), "stands in two shards"));
            }
            let Some(format) = format_of(&entry.dtype) else {
                self.unreadable.insert(name, entry.dtype);
                continue;
            };
            // A scalar has no dimensions here and one element everywhere else in this program.
            let shape = if entry.shape.is_empty() { vec![1] } else { entry.shape };
            let (begin, end) = entry.data_offsets;
            if tensor_bytes(&shape, format).map(|bytes| bytes as u64) != Some(end - begin) {
                let problem = format!("has shape {shape:?} and {} bytes of {format:?}", end - begin);
                return Err(malformed(path, tensor(&name), problem));
            }
            let place = Place {
                shard: self.shards.len(),
                shape,
                format,
                range: (data_start + begin) as usize..(data_start + end) as usize,
            };
            self.tensors.insert(name, place);
        }
        self.shards.push(map);
        Ok(())
    }
}

fn format_of(dtype: &str) -> Option<Format> {
    match dtype {
        "F32" => Some(Format::F32),
        "F16" => Some(Format::F16),
        "BF16" => Some(Format::BF16),
        _ => None,
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = fs_err::read(path)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::Json { path: path.into(), reason: error.to_string() })
}

/// Where the data begins, and the tensors by name.
fn read_header(path: &Path, file: &[u8]) -> Result<(u64, BTreeMap<String, Entry>)> {
    let truncated = |expected| Error::Truncated {
        path: path.into(),
        what: "the header".into(),
        expected,
        actual: file.len() as u64,
    };
    let (len, rest) = file.split_first_chunk().ok_or_else(|| truncated(8))?;
    let len = u64::from_le_bytes(*len);
    if len > MAX_HEADER_BYTES {
        let problem = format!("claims {len} bytes, at most {MAX_HEADER_BYTES} are allowed");
        return Err(malformed(path, "the header".into(), problem));
    }
    let header = rest.get(..len as usize).ok_or_else(|| truncated(8 + len))?;
    let json =
        |error: serde_json::Error| Error::Json { path: path.into(), reason: format!("header: {error}") };
    let Pairs(raw) = serde_json::from_slice(header).map_err(json)?;
    let mut entries = BTreeMap::new();
    for (name, value) in raw {
        if name == "__metadata__" {
            continue;
        }
        let entry: Entry = serde_json::from_value(value).map_err(json)?;
        if entries.insert(name.clone(), entry).is_some() {
            return Err(malformed(path, tensor(&name), "stands in the header twice"));
        }
    }
    Ok((8 + len, entries))
}

/// A JSON object as it stands, names that come twice included: a map would keep one of them in silence.
#[derive(Debug)]
struct Pairs(Vec<(String, serde_json::Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map from name to tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

/// The data of a file is its tensors one after the other, to the last byte.
fn check_gapless(
    path: &Path,
    data_start: u64,
    entries: &BTreeMap<String, Entry>,
    file_bytes: u64,
) -> Result<()> {
    let mut order: Vec<_> = entries.iter().collect();
    order.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut expected = 0;
    for (name, entry) in order {
        let (begin, end) = entry.data_offsets;
        if begin != expected || end < begin {
            let problem = format!("lies at {begin}..{end}, expected it to begin at {expected}");
            return Err(malformed(path, tensor(name), problem));
        }
        if data_start.saturating_add(end) > file_bytes {
            return Err(Error::Truncated {
                path: path.into(),
                what: tensor(name),
                expected: data_start.saturating_add(end),
                actual: file_bytes,
            });
        }
        expected = end;
    }
    if data_start + expected != file_bytes {
        let problem = format!("is {file_bytes} bytes long, its tensors end at {}", data_start + expected);
        return Err(malformed(path, "the file".into(), problem));
    }
    Ok(())
}

fn tensor(name: &str) -> String {
    format!("tensor `{name}`")
}

fn malformed(path: &Path, what: String, problem: impl Into<String>) -> Error {
    Error::Malformed { path: path.into(), what, problem: problem.into() }
}

#[cfg(test)]
mod tests;
