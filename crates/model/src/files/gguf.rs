//! GGUF versions 2 and 3: metadata and tensors of one little-endian file, read in place.
//!
//! Follows `docs/gguf.md` of ggml: magic, version, counts, key–value pairs, tensor table, then the tensors'
//! data, each at a multiple of `general.alignment`. Opening walks the whole header once and checks all of it;
//! afterwards every slice that is handed out is known to lie in the file. A model may be split over several files
//! (`split.count`); the first is opened and finds the others. Left out on purpose: big-endian files, version 1, and
//! formats the kernels don't decode.

mod reader;
pub mod sink;
mod split;
mod value;
#[cfg(test)]
pub(crate) mod writer;

pub use value::{Array, FromValue, Value};

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use hearth_artifacts::map::{self, Mmap};
use hearth_kernels::quant::Format;

use super::{Error, Result, TensorView, tensor_bytes};
use reader::Reader;

/// ggml's `GGML_MAX_DIMS`.
const MAX_DIMS: u32 = 4;
/// `general.alignment` where the file doesn't say.
const DEFAULT_ALIGNMENT: u32 = 32;

/// An open GGUF file.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    /// The file, and the further ones of a split model.
    maps: Vec<Mmap>,
    version: u32,
    /// Where the values lie; they are decoded when asked for.
    metadata: BTreeMap<String, value::Place>,
    tensors: Vec<TensorInfo>,
    by_name: BTreeMap<String, usize>,
}

/// A row of the tensor table, checked.
#[derive(Debug, Clone)]
pub struct TensorInfo {
    pub name: String,
    /// Row-major, the reverse of the file's order.
    pub shape: Vec<usize>,
    pub format: Format,
    /// Which of the files of a split model it lies in.
    part: usize,
    /// From the start of the file.
    range: Range<usize>,
}

impl TensorInfo {
    /// Bytes from the start of the file.
    pub fn offset(&self) -> usize {
        self.range.start
    }

    pub fn num_bytes(&self) -> usize {
        self.range.len()
    }
}

impl GgufFile {
    /// Opens and checks `path`, and the further files of a split model; reads the headers only.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let mut file = Self::open_one(path.as_ref())?;
        split::add_others(&mut file)?;
        Ok(file)
    }

    fn open_one(path: &Path) -> Result<Self> {
        let map = map::map(path)?;
        let mut reader = Reader::new(path, &map);
        let version = read_version(&mut reader)?;
        let num_tensors = reader.u64("the number of tensors")?;
        let num_keys = reader.u64("the number of metadata keys")?;
        let metadata = read_metadata(&mut reader, num_keys)?;
        let rows = read_table(&mut reader, num_tensors)?;
        let alignment = alignment(&reader, &metadata)?;
        let tensors = place_tensors(&reader, rows, alignment)?;
        let by_name = index_names(path, &tensors)?;
        Ok(Self { path: path.into(), version, metadata, tensors, by_name, maps: vec![map] })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn version(&self) -> u32 {
        self.version
    }

    /// All metadata keys in alphabetical order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.metadata.keys().map(String::as_str)
    }

    pub fn value(&self, key: &str) -> Option<Value<'_>> {
        self.metadata.get(key).map(|place| place.value(&self.maps[0]))
    }

    /// The number of a value's type and its bytes as they lie in the file, to be carried over.
    pub fn raw(&self, key: &str) -> Option<(u32, &[u8])> {
        self.metadata.get(key).map(|place| place.raw(&self.maps[0]))
    }

    /// The value of `key` if it is there; an error if it has another type or doesn't fit.
    pub fn find<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        match T::from_value(&value) {
            Some(found) => Ok(Some(found)),
            None => Err(Error::KeyType {
                path: self.path.clone(),
                key: key.into(),
                found: value.describe(),
                expected: T::EXPECTED,
            }),
        }
    }

    /// The value of `key`; an error if it isn't there.
    pub fn meta<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T> {
        self.find(key)?.ok_or_else(|| Error::MissingKey { path: self.path.clone(), key: key.into() })
    }

    pub fn meta_str(&self, key: &str) -> Result<&str> {
        self.meta(key)
    }

    /// Any integer type whose value fits.
    pub fn meta_u32(&self, key: &str) -> Result<u32> {
        self.meta(key)
    }

    pub fn meta_f32(&self, key: &str) -> Result<f32> {
        self.meta(key)
    }

    pub fn meta_bool(&self, key: &str) -> Result<bool> {
        self.meta(key)
    }

    pub fn meta_strs(&self, key: &str) -> Result<Vec<&str>> {
        self.meta(key)
    }

    pub fn meta_f32s(&self, key: &str) -> Result<Vec<f32>> {
        self.meta(key)
    }

    pub fn meta_u32s(&self, key: &str) -> Result<Vec<u32>> {
        self.meta(key)
    }

    /// The tensor table in the file's order.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.tensors.iter()
    }

    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let info = &self.tensors[*self.by_name.get(name)?];
        Some(TensorView {
            shape: info.shape.clone(),
            format: info.format,
            bytes: &self.maps[info.part][info.range.clone()],
        })
    }

    /// As [`Self::tensor`], with an error that names the tensor that isn't there.
    pub fn require(&self, name: &str) -> Result<TensorView<'_>> {
        self.tensor(name).ok_or_else(|| Error::MissingTensor { path: self.path.clone(), tensor: name.into() })
    }
}

fn read_version(reader: &mut Reader<'_>) -> Result<u32> {
    let magic = reader.bytes(4, "the magic number")?;
    if magic != b"GGUF" {
        return Err(Error::NotGguf { path: reader.path().into(), found: magic.escape_ascii().to_string() });
    }
    match reader.u32("the version")? {
        version @ (2 | 3) => Ok(version),
        version => Err(Error::Version { path: reader.path().into(), version }),
    }
}

fn read_metadata(reader: &mut Reader<'_>, num_keys: u64) -> Result<BTreeMap<String, value::Place>> {
    // No key takes fewer bytes than its length, its type and a one-byte value.
    reader.check_count(num_keys, 8 + 4 + 1, "the metadata")?;
    let mut metadata = BTreeMap::new();
    for index in 0..num_keys {
        let key = reader.string(&format!("metadata key {index}"))?.to_owned();
        let place = value::read_place(reader, &key)?;
        if metadata.insert(key.clone(), place).is_some() {
            return Err(reader.malformed(format!("metadata key `{key}`"), "stands there twice"));
        }
    }
    Ok(metadata)
}

/// A row of the tensor table before its data is looked for.
struct Row {
    name: String,
    shape: Vec<usize>,
    format: Format,
    /// From the start of the data.
    offset: u64,
}

fn read_table(reader: &mut Reader<'_>, num_tensors: u64) -> Result<Vec<Row>> {
    // Name's length, one dimension's count and size, type, offset.
    reader.check_count(num_tensors, 8 + 4 + 8 + 4 + 8, "the tensor table")?;
    let mut rows = Vec::new();
    for index in 0..num_tensors {
        let name = reader.string(&format!("the name of tensor {index}"))?.to_owned();
        let what = format!("tensor `{name}`");
        let num_dims = reader.u32(&what)?;
        if !(1..=MAX_DIMS).contains(&num_dims) {
            let problem = format!("has {num_dims} dimensions, expected 1 to {MAX_DIMS}");
            return Err(reader.malformed(what, problem));
        }
        let mut shape = Vec::new();
        for _ in 0..num_dims {
            let dim = reader.u64(&what)?;
            match usize::try_from(dim) {
                Ok(dim) if dim > 0 => shape.push(dim),
                _ => return Err(reader.malformed(what, format!("has a dimension of {dim}"))),
            }
        }
        shape.reverse();
        let number = reader.u32(&what)?;
        let format = Format::from_ggml(number).ok_or_else(|| Error::UnsupportedFormat {
            path: reader.path().into(),
            tensor: name.clone(),
            format: ggml_type_name(number),
        })?;
        let offset = reader.u64(&what)?;
        rows.push(Row { name, shape, format, offset });
    }
    Ok(rows)
}

/// Names from ggml's `enum ggml_type`, for the formats that can't be read.
fn ggml_type_name(number: u32) -> String {
    let name = match number {
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        21 => "IQ3_S",
        22 => "IQ2_S",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => return format!("ggml type {number}"),
    };
    name.into()
}

fn alignment(reader: &Reader<'_>, metadata: &BTreeMap<String, value::Place>) -> Result<u64> {
    let Some(place) = metadata.get("general.alignment") else {
        return Ok(DEFAULT_ALIGNMENT.into());
    };
    let value = place.value(reader.file());
    match u32::from_value(&value) {
        Some(alignment) if alignment.is_power_of_two() => Ok(alignment.into()),
        _ => Err(reader.malformed(
            "metadata key `general.alignment`".into(),
            format!("is {}, expected a power of two", value.describe()),
        )),
    }
}

/// Turns offsets into ranges of the file and checks that they lie in it, aligned and apart.
fn place_tensors(reader: &Reader<'_>, rows: Vec<Row>, alignment: u64) -> Result<Vec<TensorInfo>> {
    let file_bytes = reader.file().len() as u64;
    let data_start = (reader.position() as u64)
        .checked_next_multiple_of(alignment)
        .ok_or_else(|| reader.malformed("the header".into(), "ends beyond 64 bits"))?;
    let mut tensors = Vec::new();
    for row in rows {
        let what = format!("tensor `{}`", row.name);
        let Some(num_bytes) = tensor_bytes(&row.shape, row.format) else {
            let problem = format!("has shape {:?}, which isn't whole blocks of {:?}", row.shape, row.format);
            return Err(reader.malformed(what, problem));
        };
        if row.offset % alignment != 0 {
            let problem = format!("begins at {}, not a multiple of {alignment}", row.offset);
            return Err(reader.malformed(what, problem));
        }
        let start = data_start.checked_add(row.offset);
        let Some((start, end)) = start.and_then(|s| Some((s, s.checked_add(num_bytes as u64)?))) else {
            return Err(reader.malformed(what, "ends beyond 64 bits"));
        };
        if end > file_bytes {
            return Err(reader.truncated(&what, end));
        }
        tensors.push(TensorInfo {
            name: row.name,
            shape: row.shape,
            format: row.format,
            part: 0,
            range: start as usize..end as usize,
        });
    }
    check_apart(reader, &tensors)?;
    Ok(tensors)
}

fn check_apart(reader: &Reader<'_>, tensors: &[TensorInfo]) -> Result<()> {
    let mut order: Vec<_> = tensors.iter().collect();
    order.sort_by_key(|info| (info.range.start, info.range.end));
    for pair in order.windows(2) {
        if let [first, second] = pair
            && first.range.end > second.range.start
        {
            let problem = format!("shares bytes with tensor `{}`", first.name);
            return Err(reader.malformed(format!("tensor `{}`", second.name), problem));
        }
    }
    Ok(())
}

fn index_names(path: &Path, tensors: &[TensorInfo]) -> Result<BTreeMap<String, usize>> {
    let mut by_name = BTreeMap::new();
    for (index, info) in tensors.iter().enumerate() {
        if by_name.insert(info.name.clone(), index).is_some() {
            return Err(Error::Malformed {
                path: path.into(),
                what: format!("tensor `{}`", info.name),
                problem: "stands in the table twice".into(),
            });
        }
    }
    Ok(by_name)
}

#[cfg(test)]
mod tests;
