//! Importance matrices: how much an error in each column of a tensor counts.
//!
//! llama.cpp's `llama-imatrix` writes them, as mean squares of the activations that met each column: older ones in a
//! file of its own kind (counted entries of name, calls and values), newer ones as GGUF (`NAME.in_sum2` and
//! `NAME.counts`).
//!
//! * `collect` — computes one over a text

pub mod collect;

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::Result;
use crate::files::{Error, GgufFile};

/// Weights of columns by the GGUF name of the tensor.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Importance {
    columns: BTreeMap<String, Vec<f32>>,
}

impl Importance {
    /// Reads either kind of file.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = fs_err::read(path).map_err(Error::from)?;
        let columns = match bytes.starts_with(b"GGUF") {
            true => read_gguf(path)?,
            false => read_entries(path, &bytes)?,
        };
        for (name, values) in &columns {
            if values.is_empty() || !values.iter().all(|value| value.is_finite() && *value >= 0.0) {
                let problem = "holds no values, or some that aren't finite and positive";
                return Err(malformed(path, format!("entry `{name}`"), problem).into());
            }
        }
        Ok(Self { columns })
    }

    /// The weights of a tensor's columns.
    pub fn of(&self, name: &str) -> Option<&[f32]> {
        self.columns.get(name).map(Vec::as_slice)
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }
}

fn malformed(path: &Path, what: String, problem: impl Into<String>) -> Error {
    Error::Malformed { path: path.into(), what, problem: problem.into() }
}

fn read_gguf(path: &Path) -> Result<BTreeMap<String, Vec<f32>>> {
    let file = GgufFile::open(path)?;
    let mut columns = BTreeMap::new();
    for info in file.tensors() {
        let Some(name) = info.name.strip_suffix(".in_sum2") else { continue };
        let mut sums = file.require(&info.name)?.to_f32();
        let counts = file.require(&format!("{name}.counts"))?.to_f32();
        if counts.is_empty() || !sums.len().is_multiple_of(counts.len()) {
            let problem = format!("has {} counts for {} sums", counts.len(), sums.len());
            return Err(malformed(path, format!("entry `{name}`"), problem).into());
        }
        let cols = sums.len() / counts.len();
        for (sums, count) in sums.chunks_exact_mut(cols).zip(&counts) {
            divide(sums, *count);
        }
        columns.insert(name.to_owned(), sums);
    }
    Ok(columns)
}

/// Sums to means; what was never met counts alike everywhere.
fn divide(sums: &mut [f32], count: f32) {
    if count > 0.0 {
        for sum in sums {
            *sum /= count;
        }
    } else {
        sums.fill(1.0);
    }
}

/// Takes pieces off the front of the file.
struct Cursor<'a> {
    path: &'a Path,
    rest: &'a [u8],
    len: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            let expected = (self.len - self.rest.len()).saturating_add(len) as u64;
            let (path, what) = (self.path.into(), "the importance matrix".into());
            return Err(Error::Truncated { path, what, expected, actual: self.len as u64 }.into());
        };
        self.rest = rest;
        Ok(taken)
    }

    /// A count or length; never negative.
    fn count(&mut self, what: &str) -> Result<usize> {
        let bytes = self.take(4)?;
        let number = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        Ok(usize::try_from(number).map_err(|_| malformed(self.path, what.into(), format!("is {number}")))?)
    }
}

fn read_entries(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Vec<f32>>> {
    let mut cursor = Cursor { path, rest: bytes, len: bytes.len() };
    let num_entries = cursor.count("the number of entries")?;
    let mut columns = BTreeMap::new();
    for _ in 0..num_entries {
        let len = cursor.count("the length of a name")?;
        let name = String::from_utf8_lossy(cursor.take(len)?).into_owned();
        let num_calls = cursor.count("the number of calls")?;
        let len = cursor.count("the number of values")?;
        let values = cursor.take(len.saturating_mul(4))?.as_chunks::<4>().0;
        let mut values: Vec<f32> = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        divide(&mut values, num_calls as f32);
        if columns.insert(name.clone(), values).is_some() {
            return Err(malformed(path, format!("entry `{name}`"), "stands there twice").into());
        }
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::gguf::writer::GgufWriter;

    fn open(bytes: &[u8]) -> Result<Importance> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("imatrix.dat");
        fs_err::write(&path, bytes).unwrap();
        Importance::open(&path)
    }

    fn entries() -> Vec<u8> {
        let mut bytes = 1_i32.to_le_bytes().to_vec();
        bytes.extend(5_i32.to_le_bytes());
        bytes.extend(b"w.one");
        bytes.extend(4_i32.to_le_bytes());
        bytes.extend(2_i32.to_le_bytes());
        bytes.extend([8.0_f32, 2.0].iter().flat_map(|value| value.to_le_bytes()));
        bytes
    }

    #[test]
    fn both_kinds_of_file_say_the_same() {
        let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
        let gguf = GgufWriter::default().tensor("w.one.in_sum2", &[1, 2], 0, &floats(&[8.0, 2.0])).tensor(
            "w.one.counts",
            &[1],
            0,
            &floats(&[4.0]),
        );
        let (old, new) = (open(&entries()).unwrap(), open(&gguf.finish()).unwrap());
        assert_eq!(old.of("w.one"), Some([2.0, 0.5].as_slice()));
        assert_eq!(old, new);
    }

    #[test]
    fn damaged_files_are_errors() {
        let whole = entries();
        for len in 0..whole.len() {
            assert!(open(&whole[..len]).is_err(), "{len}");
        }
        let mut negative = whole.clone();
        negative[..4].copy_from_slice(&(-1_i32).to_le_bytes());
        assert!(open(&negative).unwrap_err().to_string().contains("is -1"));
        let mut not_finite = whole;
        let at = not_finite.len() - 4;
        not_finite[at..].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(open(&not_finite).unwrap_err().to_string().contains("entry `w.one`"));
    }
}
