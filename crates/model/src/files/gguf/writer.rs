//! A small GGUF writer for tests: the reader's counterpart, written from the specification alone.

use hearth_kernels::quant::Format;

#[derive(Debug, Clone)]
pub(crate) struct GgufWriter {
    version: u32,
    alignment: usize,
    keys: Vec<u8>,
    num_keys: u64,
    tensors: Vec<(String, Vec<usize>, u32, Vec<u8>)>,
}

impl Default for GgufWriter {
    fn default() -> Self {
        Self { version: 3, alignment: 32, keys: Vec::new(), num_keys: 0, tensors: Vec::new() }
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// The type number in a tensor table.
pub(crate) fn number(format: Format) -> u32 {
    (0..64).find(|&number| Format::from_ggml(number) == Some(format)).unwrap()
}

impl GgufWriter {
    pub(crate) fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// Places the data; the key that says so is the caller's.
    pub(crate) fn alignment(mut self, alignment: usize) -> Self {
        self.alignment = alignment;
        self
    }

    /// A key with the bytes of its value after the type number.
    pub(crate) fn raw(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        put_string(&mut self.keys, key);
        self.keys.extend(kind.to_le_bytes());
        self.keys.extend(value);
        self.num_keys += 1;
        self
    }

    pub(crate) fn u32(self, key: &str, value: u32) -> Self {
        self.raw(key, 4, &value.to_le_bytes())
    }

    pub(crate) fn f32(self, key: &str, value: f32) -> Self {
        self.raw(key, 6, &value.to_le_bytes())
    }

    pub(crate) fn bool(self, key: &str, value: bool) -> Self {
        self.raw(key, 7, &[u8::from(value)])
    }

    pub(crate) fn string(self, key: &str, value: &str) -> Self {
        let mut bytes = Vec::new();
        put_string(&mut bytes, value);
        self.raw(key, 8, &bytes)
    }

    fn array(self, key: &str, kind: u32, len: usize, elements: &[u8]) -> Self {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend((len as u64).to_le_bytes());
        bytes.extend(elements);
        self.raw(key, 9, &bytes)
    }

    pub(crate) fn strings(self, key: &str, values: &[&str]) -> Self {
        let mut bytes = Vec::new();
        for value in values {
            put_string(&mut bytes, value);
        }
        self.array(key, 8, values.len(), &bytes)
    }

    pub(crate) fn i32s(self, key: &str, values: &[i32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.array(key, 5, values.len(), &bytes)
    }

    pub(crate) fn f32s(self, key: &str, values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.array(key, 6, values.len(), &bytes)
    }

    /// `shape` is row-major; the type is given by its number so that tests can write unknown ones.
    pub(crate) fn tensor(mut self, name: &str, shape: &[usize], kind: u32, bytes: &[u8]) -> Self {
        self.tensors.push((name.into(), shape.into(), kind, bytes.into()));
        self
    }

    pub(crate) fn finish(&self) -> Vec<u8> {
        let mut offset = 0;
        let offsets: Vec<_> = self
            .tensors
            .iter()
            .map(|(.., bytes)| {
                let at = offset;
                offset += bytes.len().next_multiple_of(self.alignment);
                at as u64
            })
            .collect();
        self.finish_at(&offsets)
    }

    /// As [`Self::finish`], with made-up offsets in the tensor table.
    pub(crate) fn finish_at(&self, offsets: &[u64]) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend(self.num_keys.to_le_bytes());
        out.extend(&self.keys);
        for ((name, shape, kind, _), offset) in self.tensors.iter().zip(offsets) {
            put_string(&mut out, name);
            out.extend((shape.len() as u32).to_le_bytes());
            for &dim in shape.iter().rev() {
                out.extend((dim as u64).to_le_bytes());
            }
            out.extend(kind.to_le_bytes());
            out.extend(offset.to_le_bytes());
        }
        for (index, (.., bytes)) in self.tensors.iter().enumerate() {
            out.resize(out.len().next_multiple_of(self.alignment), 0);
            out.extend(bytes);
            assert!(index + 1 == self.tensors.len() || !bytes.is_empty());
        }
        out
    }
}
