//! Writes `model.safetensors`, or shards with their index: headers at once, then tensor after tensor.
//!
//! Tensors come in the order in which they were announced. A shard appears under its name when it is whole; the
//! folder around it is the caller's to make appear.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use hearth_artifacts::atomic::{self, PartialFile};
use hearth_kernels::quant::Format;
use serde_json::{Map, json};

use crate::error::Result;
use crate::files::gguf::sink::Entry;

/// Bytes of a shard at most, unless one tensor alone has more: what the hub's own tools write.
pub const SHARD_BYTES: usize = 5_000_000_000;

/// A folder's weights being written.
#[derive(Debug)]
pub struct SafetensorsSink {
    folder: PathBuf,
    shards: Vec<Vec<Entry>>,
    /// The shard that is being written, and how many of its bytes are.
    current: usize,
    written: usize,
    file: Option<PartialFile>,
}

impl SafetensorsSink {
    /// Plans the shards and writes the first header. Tensors are F32, F16 or BF16.
    ///
    /// # Panics
    /// If there is no tensor.
    pub fn create(folder: &Path, tensors: &[Entry], shard_bytes: usize) -> Result<Self> {
        assert!(!tensors.is_empty(), "a model has tensors");
        let mut shards: Vec<Vec<Entry>> = Vec::new();
        let mut filled = usize::MAX;
        for tensor in tensors {
            let bytes = tensor.num_bytes();
            if filled.saturating_add(bytes) > shard_bytes {
                shards.push(Vec::new());
                filled = 0;
            }
            filled += bytes;
            shards.last_mut().expect("the first tensor has begun one").push(tensor.clone());
        }
        let mut sink = Self { folder: folder.into(), shards, current: 0, written: 0, file: None };
        sink.begin()?;
        Ok(sink)
    }

    fn name(&self, shard: usize) -> String {
        match self.shards.len() {
            1 => "model.safetensors".into(),
            count => format!("model-{:05}-of-{count:05}.safetensors", shard + 1),
        }
    }

    fn begin(&mut self) -> Result<()> {
        let mut header = Map::new();
        header.insert("__metadata__".into(), json!({ "format": "pt" }));
        let mut end = 0;
        for tensor in &self.shards[self.current] {
            let start = end;
            end += tensor.num_bytes();
            let dtype = dtype(tensor.format);
            let entry = json!({ "dtype": dtype, "shape": tensor.shape, "data_offsets": [start, end] });
            header.insert(tensor.name.clone(), entry);
        }
        let mut header = serde_json::Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut file = PartialFile::create(&self.folder.join(self.name(self.current)))?;
        let written =
            file.write_all(&(header.len() as u64).to_le_bytes()).and_then(|()| file.write_all(&header));
        written.map_err(hearth_artifacts::Error::from)?;
        (self.file, self.written) = (Some(file), 0);
        Ok(())
    }

    /// Appends bytes of the tensors one after the other; a full shard is closed and the next one begun.
    ///
    /// # Panics
    /// If there are more bytes than the shard takes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let size: usize = self.shards[self.current].iter().map(Entry::num_bytes).sum();
        self.written += bytes.len();
        assert!(self.written <= size, "{} bytes for {size} of shard {}", self.written, self.current);
        let file = self.file.as_mut().expect("a shard is open until the last is full");
        file.write_all(bytes).map_err(hearth_artifacts::Error::from)?;
        if self.written < size {
            return Ok(());
        }
        self.file.take().expect("it was just written to").commit()?;
        self.current += 1;
        if self.current < self.shards.len() { self.begin() } else { Ok(()) }
    }

    /// Writes the index if there are several shards.
    ///
    /// # Panics
    /// If a tensor isn't full.
    pub fn finish(self) -> Result<()> {
        assert_eq!(self.current, self.shards.len(), "shards written vs. planned");
        if self.shards.len() == 1 {
            return Ok(());
        }
        let (mut total, mut weight_map) = (0, BTreeMap::new());
        for (index, shard) in self.shards.iter().enumerate() {
            for tensor in shard {
                total += tensor.num_bytes();
                weight_map.insert(tensor.name.clone(), self.name(index));
            }
        }
        let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
        atomic::write_json(&self.folder.join("model.safetensors.index.json"), &index)?;
        Ok(())
    }
}

fn dtype(format: Format) -> &'static str {
    match format {
        Format::F32 => "F32",
        Format::F16 => "F16",
        Format::BF16 => "BF16",
        other => unreachable!("{other:?} isn't planned for a folder"),
    }
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;
    use crate::files::SafetensorsFolder;

    fn entries() -> Vec<Entry> {
        let entry =
            |name: &str, shape: &[usize], format| Entry { name: name.into(), shape: shape.into(), format };
        vec![entry("w", &[2, 3], Format::F32), entry("n", &[3], Format::F32), entry("h", &[5], Format::BF16)]
    }

    fn write(folder: &Path, shard_bytes: usize) {
        fs_err::write(folder.join("config.json"), "{}").unwrap();
        let mut sink = SafetensorsSink::create(folder, &entries(), shard_bytes).unwrap();
        for tensor in entries() {
            sink.write(&vec![tensor.name.as_bytes()[0]; tensor.num_bytes()]).unwrap();
        }
        sink.finish().unwrap();
    }

    #[test]
    fn one_file_is_what_the_formats_own_library_reads() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), SHARD_BYTES);
        let bytes = fs_err::read(folder.path().join("model.safetensors")).unwrap();
        let read = SafeTensors::deserialize(&bytes).unwrap();
        let w = read.tensor("w").unwrap();
        assert_eq!((w.shape(), w.data()), ([2, 3].as_slice(), [b'w'; 24].as_slice()));
        assert_eq!(read.tensor("h").unwrap().dtype(), safetensors::Dtype::BF16);
    }

    #[test]
    fn shards_hold_what_one_file_holds() {
        let folder = tempfile::tempdir().unwrap();
        // Room for the first alone, then for the other two.
        write(folder.path(), 25);
        assert!(folder.path().join("model-00002-of-00002.safetensors").is_file());
        let open = SafetensorsFolder::open(folder.path()).unwrap();
        for tensor in entries() {
            let view = open.tensor(&tensor.name).unwrap();
            assert!(view.bytes.iter().all(|&byte| byte == tensor.name.as_bytes()[0]), "{}", tensor.name);
            assert_eq!((view.shape, view.format), (tensor.shape, tensor.format));
        }
    }
}
