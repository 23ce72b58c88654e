//! What will be written: each tensor's name, format and source, the metadata, the other files.
//!
//! * `to_file` — for a GGUF file, from a folder or another file
//! * `to_folder` — for a folder, from a GGUF file

mod to_file;
mod to_folder;

use hearth_kernels::quant::{Format, can_quantize};

use super::mix::{Mix, Tensor};
use super::names::Role;
use super::tokenizer::Files;
use super::{Encoding, Options};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::files::gguf::sink::{Entry, Metadata};
use crate::files::{GgufFile, SafetensorsFolder, TensorView};

/// The model that is read.
#[derive(Debug)]
pub(super) enum Source {
    Gguf(GgufFile),
    Folder(SafetensorsFolder),
}

impl Source {
    pub(super) fn require(&self, name: &str) -> Result<TensorView<'_>> {
        let view = match self {
            Self::Gguf(file) => file.require(name)?,
            Self::Folder(folder) => folder.require(name)?,
        };
        if view.num_elements() == 0 {
            let shape = &view.shape;
            return Err(Error::Unconvertible {
                what: format!("tensor `{name}` of shape {shape:?} holds nothing"),
            });
        }
        Ok(view)
    }

    /// Bytes that are read for a tensor of the plan.
    pub(super) fn num_bytes(&self, tensor: &Planned) -> Result<u64> {
        let mut sum = 0;
        for name in &tensor.from {
            let view = self.require(name)?;
            sum += view.bytes.len() / tensor.expert.map_or(1, |_| view.shape[0]);
        }
        Ok(sum as u64)
    }

    /// Names, in the file's order or the alphabet's.
    fn names(&self) -> Vec<&str> {
        match self {
            Self::Gguf(file) => file.tensors().map(|info| info.name.as_str()).collect(),
            Self::Folder(folder) => folder.names().collect(),
        }
    }
}

/// A tensor to be written.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) entry: Entry,
    /// The tensors of the source whose rows it is made of, of equal shapes and formats.
    pub(super) from: Vec<String>,
    /// The expert whose rows are meant, where the source's tensor holds those of all.
    pub(super) expert: Option<usize>,
    /// Its name in GGUF's spelling, by which importances are found.
    pub(super) gguf_name: String,
    /// Rows of a head where rows change places.
    pub(super) head_dim: Option<usize>,
    pub(super) to_gguf: bool,
    /// Norms that a folder holds as their difference to 1, and GGUF files whole.
    pub(super) from_one: bool,
    /// Its bytes, where it isn't in the source but follows from `config.json`.
    pub(super) made: Option<Vec<u8>>,
}

impl Planned {
    /// A tensor that is written as it is read.
    fn plain(entry: Entry, from: &str) -> Self {
        Self {
            entry,
            from: vec![from.to_owned()],
            expert: None,
            gguf_name: from.to_owned(),
            head_dim: None,
            to_gguf: true,
            from_one: false,
            made: None,
        }
    }
}

/// All that a target will hold.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) tensors: Vec<Planned>,
    /// Of a GGUF file.
    pub(super) metadata: Metadata,
    /// Of a folder, beside the weights.
    pub(super) files: Files,
    pub(super) notes: Vec<String>,
}

/// Keys that speak of the file rather than of the model.
const FILE_KEYS: [&str; 7] = [
    "general.alignment",
    "general.file_type",
    "general.quantization_version",
    "split.no",
    "split.count",
    "split.tensors.count",
    "general.architecture",
];

/// Version of the block formats, in `general.quantization_version`.
const QUANTIZATION_VERSION: u32 = 2;

impl Plan {
    pub(super) fn new(source: &Source, to_gguf: bool, options: &Options<'_>) -> Result<Self> {
        let plan = match (source, to_gguf) {
            (Source::Gguf(file), true) => to_file::from_file(source, file, options),
            (Source::Gguf(file), false) => to_folder::from_file(source, file, options),
            (Source::Folder(folder), true) => to_file::from_folder(source, folder, options),
            (Source::Folder(folder), false) if options.merged.is_some() => {
                to_folder::from_folder(source, folder, options)
            }
            (Source::Folder(_), false) => {
                let what = "a folder is converted to a GGUF file: name a target that ends in `.gguf`";
                Err(Error::Unconvertible { what: what.into() })
            }
        }?;
        match plan.tensors.is_empty() {
            true => Err(Error::Unconvertible { what: "the source has no tensors".into() }),
            false => Ok(plan),
        }
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.tensors.iter().map(|tensor| tensor.entry.clone()).collect()
    }
}

fn no_place(name: &str, target: &str) -> Error {
    Error::Unconvertible { what: format!("tensor `{name}` has no place in a {target} of this family") }
}

/// Tables that older folders hold and that follow from `config.json`.
fn is_left_out(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq") || name.ends_with("self_attn.masked_bias")
}

/// Rows of a head, where they change their places.
fn head_dim_of(role: Role, config: &ModelConfig, view: &TensorView<'_>, name: &str) -> Result<Option<usize>> {
    let num_heads = match role {
        Role::Query if config.family.is_interleaved_in_gguf() => config.num_heads,
        Role::Key if config.family.is_interleaved_in_gguf() => config.num_kv_heads,
        _ => return Ok(None),
    };
    let num_rows = view.shape[0];
    if num_heads == 0 || !num_rows.is_multiple_of(num_heads * 2) {
        let what =
            format!("tensor `{name}` has {num_rows} rows, which aren't {num_heads} heads of even size");
        return Err(Error::Config { what });
    }
    Ok(Some(num_rows / num_heads))
}

/// F32, F16 and BF16 stay; what is quantised is decoded to F16.
fn dense_of(format: Format) -> Format {
    if format.is_dense() { format } else { Format::F16 }
}

/// What the choice of formats depends on.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    num_layers: usize,
    /// The embedding is the output head too.
    tied: bool,
}

/// The format of a tensor of a GGUF file. Vectors are F32, which is what its readers multiply with.
fn gguf_format(
    name: &str,
    (from, shape): (Format, &[usize]),
    sizes: Sizes,
    options: &Options<'_>,
    notes: &mut Vec<String>,
) -> Format {
    let dense_vector = shape.len() == 1 && from.is_dense();
    let format = match options.encoding {
        _ if dense_vector => return Format::F32,
        Encoding::Keep => return from,
        Encoding::Dense(format) => return format,
        Encoding::Mix(mix) => {
            let tensor = Tensor {
                name,
                shape,
                num_layers: sizes.num_layers,
                tied: sizes.tied,
                has_importance: options.importance.is_some(),
            };
            let Some(format) = mix.format(tensor) else { return from };
            note_fallback(mix, name, shape, format, notes);
            format
        }
    };
    debug_assert!(can_quantize(format), "{format:?}");
    format
}

/// Rows that aren't whole blocks of 256 make a file larger than its name says; once is enough to say so.
fn note_fallback(mix: Mix, name: &str, shape: &[usize], format: Format, notes: &mut Vec<String>) {
    let cols = shape.last().copied().unwrap_or(0);
    let is_k = matches!(mix, Mix::Q4KM | Mix::Q5KM | Mix::Q6K);
    if is_k && format.block_len() < 256 && !notes.iter().any(|note| note.contains("blocks of 256")) {
        let what = format.name();
        notes.push(format!(
            "rows of {cols}, as in `{name}`, aren't whole blocks of 256: such tensors get {what} or the like"
        ));
    }
}

fn put_file_type(metadata: &mut Metadata, tensors: &[Planned], encoding: Encoding, before: Option<u32>) {
    let matrices = tensors.iter().filter(|tensor| tensor.entry.shape.len() > 1);
    let first = matrices.map(|tensor| tensor.entry.format).next().unwrap_or(Format::F32);
    let file_type = match (encoding, first) {
        (Encoding::Mix(mix), _) => Some(mix.file_type()),
        (Encoding::Keep, _) if before.is_some() => before,
        (_, Format::F32) => Some(0),
        (_, Format::F16) => Some(1),
        (_, Format::BF16) => Some(32),
        _ => None,
    };
    if let Some(file_type) = file_type {
        metadata.u32("general.file_type", file_type);
    }
    if tensors.iter().any(|tensor| !tensor.entry.format.is_dense()) {
        metadata.u32("general.quantization_version", QUANTIZATION_VERSION);
    }
}

/// The embedding, the layers in order, then the rest.
fn place_in_file(name: &str) -> (usize, usize, String) {
    match super::mix::layer_of(name) {
        Some(layer) => (1, layer, name.to_owned()),
        None if name == "token_embd.weight" => (0, 0, name.to_owned()),
        None => (2, 0, name.to_owned()),
    }
}
