//! Writes a GGUF file, version 3: the header at once, then tensor after tensor as the bytes come.
//!
//! What is held in memory is the header. The file appears under its name when it is whole.

use std::io::Write;
use std::path::Path;

use hearth_artifacts::atomic::PartialFile;
use hearth_kernels::quant::Format;

use super::DEFAULT_ALIGNMENT;
use crate::error::Result;
use crate::files::tensor_bytes;

/// Metadata in the order in which it will stand in the file.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    bytes: Vec<u8>,
    count: u64,
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

impl Metadata {
    /// A value by its type's number and its bytes, as [`super::GgufFile::raw`] gives them.
    pub fn raw(&mut self, key: &str, kind: u32, value: &[u8]) {
        put_string(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend(value);
        self.count += 1;
    }

    pub fn u32(&mut self, key: &str, value: u32) {
        self.raw(key, 4, &value.to_le_bytes());
    }

    pub fn f32(&mut self, key: &str, value: f32) {
        self.raw(key, 6, &value.to_le_bytes());
    }

    pub fn bool(&mut self, key: &str, value: bool) {
        self.raw(key, 7, &[u8::from(value)]);
    }

    pub fn string(&mut self, key: &str, value: &str) {
        let mut bytes = Vec::new();
        put_string(&mut bytes, value);
        self.raw(key, 8, &bytes);
    }

    pub fn strings<S: AsRef<str>>(&mut self, key: &str, values: &[S]) {
        let mut bytes = Vec::new();
        for value in values {
            put_string(&mut bytes, value.as_ref());
        }
        self.array(key, 8, values.len(), &bytes);
    }

    pub fn i32s(&mut self, key: &str, values: &[i32]) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.array(key, 5, values.len(), &bytes);
    }

    pub fn f32s(&mut self, key: &str, values: &[f32]) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.array(key, 6, values.len(), &bytes);
    }

    pub fn bytes(&mut self, key: &str, values: &[u8]) {
        self.array(key, 0, values.len(), values);
    }

    fn array(&mut self, key: &str, kind: u32, len: usize, elements: &[u8]) {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend((len as u64).to_le_bytes());
        bytes.extend(elements);
        self.raw(key, 9, &bytes);
    }
}

/// A tensor that will be written: its name, its row-major shape and its format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub shape: Vec<usize>,
    pub format: Format,
}

impl Entry {
    /// Bytes of its data.
    ///
    /// # Panics
    /// If a row isn't whole blocks; who plans a file checks that.
    pub fn num_bytes(&self) -> usize {
        tensor_bytes(&self.shape, self.format).expect("a planned tensor is whole blocks")
    }
}

/// A GGUF file that is being written.
#[derive(Debug)]
pub struct GgufSink {
    file: PartialFile,
    /// Bytes of each tensor, in order.
    sizes: Vec<usize>,
    /// The tensor that is being written, and how many of its bytes are.
    current: usize,
    written: usize,
}

impl GgufSink {
    /// Writes the header. The metadata must not hold `general.alignment`: data lies at multiples of 32.
    pub fn create(path: &Path, metadata: &Metadata, tensors: &[Entry]) -> Result<Self> {
        let alignment = DEFAULT_ALIGNMENT as usize;
        let mut header = b"GGUF".to_vec();
        header.extend(3_u32.to_le_bytes());
        header.extend((tensors.len() as u64).to_le_bytes());
        header.extend(metadata.count.to_le_bytes());
        header.extend(&metadata.bytes);
        let mut offset = 0;
        for tensor in tensors {
            put_string(&mut header, &tensor.name);
            header.extend((tensor.shape.len() as u32).to_le_bytes());
            for &dim in tensor.shape.iter().rev() {
                header.extend((dim as u64).to_le_bytes());
            }
            header.extend(tensor.format.to_ggml().to_le_bytes());
            header.extend((offset as u64).to_le_bytes());
            offset += tensor.num_bytes().next_multiple_of(alignment);
        }
        header.resize(header.len().next_multiple_of(alignment), 0);
        let mut file = PartialFile::create(path)?;
        file.write_all(&header).map_err(hearth_artifacts::Error::from)?;
        Ok(Self { file, sizes: tensors.iter().map(Entry::num_bytes).collect(), current: 0, written: 0 })
    }

    /// Appends bytes to the tensor that is being written; when it is full the next one begins.
    ///
    /// # Panics
    /// If there are more bytes than the tensor takes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let size = self.sizes[self.current];
        self.written += bytes.len();
        assert!(self.written <= size, "{} bytes for {size} of tensor {}", self.written, self.current);
        self.file.write_all(bytes).map_err(hearth_artifacts::Error::from)?;
        if self.written == size {
            let padding = size.next_multiple_of(DEFAULT_ALIGNMENT as usize) - size;
            self.file
                .write_all(&[0; DEFAULT_ALIGNMENT as usize][..padding])
                .map_err(hearth_artifacts::Error::from)?;
            (self.current, self.written) = (self.current + 1, 0);
        }
        Ok(())
    }

    /// Gives the file its name.
    ///
    /// # Panics
    /// If a tensor isn't full.
    pub fn finish(self) -> Result<()> {
        assert_eq!(self.current, self.sizes.len(), "tensors written vs. planned");
        Ok(self.file.commit()?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{GgufFile, Value};
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        let mut metadata = Metadata::default();
        metadata.string("general.architecture", "llama");
        metadata.u32("llama.block_count", 2);
        metadata.f32("eps", 1e-6);
        metadata.bool("flag", true);
        metadata.strings("tokens", &["a", "中文", ""]);
        metadata.i32s("types", &[1, -3]);
        metadata.f32s("scores", &[0.5]);
        let entry =
            |name: &str, shape: &[usize], format| Entry { name: name.into(), shape: shape.into(), format };
        let tensors = [entry("odd", &[3], Format::F32), entry("w", &[2, 64], Format::Q4_0)];
        let mut sink = GgufSink::create(&path, &metadata, &tensors).unwrap();
        assert!(!path.exists());
        sink.write(&[1; 12]).unwrap();
        sink.write(&[2; 36]).unwrap();
        sink.write(&[3; 36]).unwrap();
        sink.finish().unwrap();
        let file = GgufFile::open(&path).unwrap();
        assert_eq!(file.meta_str("general.architecture").unwrap(), "llama");
        assert_eq!(file.meta_u32("llama.block_count").unwrap(), 2);
        assert_eq!(file.meta_f32("eps").unwrap().to_bits(), 1e-6f32.to_bits());
        assert_eq!(file.value("flag"), Some(Value::Bool(true)));
        assert_eq!(file.meta_strs("tokens").unwrap(), ["a", "中文", ""]);
        assert_eq!(file.meta::<Vec<i32>>("types").unwrap(), [1, -3]);
        assert_eq!(file.meta_f32s("scores").unwrap(), [0.5]);
        assert_eq!(file.tensor("odd").unwrap().bytes, [1; 12]);
        let w = file.tensor("w").unwrap();
        assert_eq!((w.shape.as_slice(), w.format), ([2, 64].as_slice(), Format::Q4_0));
        assert_eq!((w.bytes[35], w.bytes[36]), (2, 3));
        let (kind, bytes) = file.raw("llama.block_count").unwrap();
        assert_eq!((kind, bytes), (4, 2_u32.to_le_bytes().as_slice()));
    }
}
