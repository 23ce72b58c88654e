//! What will be written: each tensor's name, format and source, the metadata, the other files.

use std::path::Path;

use hearth_kernels::quant::{Format, can_quantize};
use serde_json::Value;

use super::mix::{Mix, Tensor};
use super::names::{Family, Rows};
use super::rope;
use super::shape::{self, Shape};
use super::tokenizer::{self, Files};
use super::{Encoding, Options};
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
    /// Its name in the source.
    pub(super) from: String,
    /// Its name in GGUF's spelling, by which importances are found.
    pub(super) gguf_name: String,
    /// Rows of a head where rows change places.
    pub(super) head_dim: Option<usize>,
    pub(super) to_gguf: bool,
    /// Its bytes, where it isn't in the source but follows from `config.json`.
    pub(super) made: Option<Vec<u8>>,
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
            (Source::Gguf(file), true) => gguf_to_gguf(source, file, options),
            (Source::Gguf(file), false) => gguf_to_folder(source, file, options),
            (Source::Folder(folder), true) => folder_to_gguf(source, folder, options),
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

fn unknown_family(name: &str) -> Error {
    let known = Family::known();
    Error::Unconvertible { what: format!("model family `{name}` can't be converted yet; known are {known}") }
}

/// The same model with its weights in other formats; every key is carried over, whatever the family.
fn gguf_to_gguf(source: &Source, file: &GgufFile, options: &Options<'_>) -> Result<Plan> {
    let arch = file.meta_str("general.architecture")?;
    let shape = Shape::of_gguf(file, arch)?;
    let mut notes = Vec::new();
    let mut tensors = Vec::new();
    for name in source.names() {
        let view = source.require(name)?;
        let format = gguf_format(name, &view, &shape, options, &mut notes);
        let entry = Entry { name: name.into(), shape: view.shape, format };
        tensors.push(Planned {
            entry,
            from: name.into(),
            gguf_name: name.into(),
            head_dim: None,
            to_gguf: true,
            made: None,
        });
    }
    let mut metadata = Metadata::default();
    metadata.string("general.architecture", arch);
    put_file_type(&mut metadata, &tensors, options.encoding, file.find("general.file_type")?);
    for key in file.keys().filter(|key| !FILE_KEYS.contains(key)) {
        if let Some((kind, value)) = file.raw(key) {
            metadata.raw(key, kind, value);
        }
    }
    Ok(Plan { tensors, metadata, files: Files::new(), notes })
}

fn folder_to_gguf(source: &Source, folder: &SafetensorsFolder, options: &Options<'_>) -> Result<Plan> {
    let config = folder.config();
    let model_type = config["model_type"].as_str().unwrap_or_default();
    let family = Family::of_model_type(model_type).ok_or_else(|| unknown_family(model_type))?;
    let shape = Shape::of_config(config)?;
    let mut notes: Vec<String> = Vec::new();
    if let Some((name, dtype)) = folder.unreadable().find(|(name, _)| !is_left_out(name)) {
        let what = format!("tensor `{name}` is stored as {dtype}, which can't be converted");
        return Err(Error::Unconvertible { what });
    }
    let mut tensors = Vec::new();
    for from in source.names() {
        if is_left_out(from) || (shape.tied && from == "lm_head.weight") {
            notes.push(format!("tensor `{from}` is left out: it is made from others"));
            continue;
        }
        let (name, rows) = family.to_gguf(from).ok_or_else(|| no_place(from, "GGUF file"))?;
        let view = source.require(from)?;
        let head_dim = head_dim_of(family, rows, &shape, &view, from)?;
        let format = gguf_format(&name, &view, &shape, options, &mut notes);
        let entry = Entry { name: name.clone(), shape: view.shape, format };
        tensors.push(Planned {
            entry,
            from: from.into(),
            gguf_name: name,
            head_dim,
            to_gguf: true,
            made: None,
        });
    }
    tensors.extend(shape::rope_divisors(config)?.map(|divisors| rope_tensor(&divisors)));
    tensors.sort_by_key(|tensor| place_in_file(&tensor.entry.name));
    let mut metadata = Metadata::default();
    metadata.string("general.architecture", family.arch);
    metadata.string("general.type", "model");
    let name = folder.path().canonicalize().ok();
    if let Some(name) = name.as_deref().and_then(Path::file_name) {
        metadata.string("general.name", &name.to_string_lossy());
    }
    put_file_type(&mut metadata, &tensors, options.encoding, None);
    shape::to_metadata(config, family, &mut metadata)?;
    let vocab_size = source.require("model.embed_tokens.weight")?.shape[0];
    tokenizer::to_metadata(folder.path(), config, vocab_size, &mut metadata)?;
    Ok(Plan { tensors, metadata, files: Files::new(), notes })
}

fn gguf_to_folder(source: &Source, file: &GgufFile, options: &Options<'_>) -> Result<Plan> {
    let arch = file.meta_str("general.architecture")?;
    let family = Family::of_arch(arch).ok_or_else(|| unknown_family(arch))?;
    let shape = Shape::of_gguf(file, arch)?;
    let main = match options.encoding {
        Encoding::Dense(format) => format,
        Encoding::Keep => dense_of(file.require("token_embd.weight")?.format),
        Encoding::Mix(mix) => {
            let what = format!("a folder can't hold {}: name a target that ends in `.gguf`", mix.name());
            return Err(Error::Unconvertible { what });
        }
    };
    let mut notes = Vec::new();
    let mut tensors = Vec::new();
    let mut num_decoded = 0;
    // Divisors of RoPE become settings in config.json.
    for from in source.names().into_iter().filter(|name| *name != rope::TENSOR) {
        let (name, rows) = family.to_folder(from).ok_or_else(|| no_place(from, "folder"))?;
        let view = source.require(from)?;
        let head_dim = head_dim_of(family, rows, &shape, &view, from)?;
        let format = match (view.shape.len(), options.encoding) {
            (1, _) => vector_format(&view, main),
            (_, Encoding::Dense(format)) => format,
            _ => dense_of(view.format),
        };
        num_decoded += usize::from(!view.format.is_dense());
        let entry = Entry { name, shape: view.shape, format };
        let gguf_name = from.to_owned();
        tensors.push(Planned { entry, from: from.into(), gguf_name, head_dim, to_gguf: false, made: None });
    }
    if num_decoded > 0 {
        notes.push(format!("{num_decoded} quantised tensors are decoded to {}", main.name()));
    }
    // Four-byte values first, so that each tensor lies at a multiple of its value's size.
    tensors.sort_by_key(|tensor| std::cmp::Reverse(tensor.entry.format.block_bytes()));
    let dtype = match main {
        Format::F16 => "float16",
        Format::BF16 => "bfloat16",
        _ => "float32",
    };
    let config = shape::to_config(file, family, dtype)?;
    let max_seq_len = file.meta_u32(&format!("{arch}.context_length"))?;
    let mut files = tokenizer::to_files(file, max_seq_len)?;
    files.push(("config.json", tokenizer::pretty(&Value::Object(config))));
    Ok(Plan { tensors, metadata: Metadata::default(), files, notes })
}

fn rope_tensor(divisors: &[f32]) -> Planned {
    let entry = Entry { name: rope::TENSOR.into(), shape: vec![divisors.len()], format: Format::F32 };
    let bytes = divisors.iter().flat_map(|divisor| divisor.to_le_bytes()).collect();
    let name = rope::TENSOR.to_owned();
    Planned { entry, from: name.clone(), gguf_name: name, head_dim: None, to_gguf: true, made: Some(bytes) }
}

fn no_place(name: &str, target: &str) -> Error {
    Error::Unconvertible { what: format!("tensor `{name}` has no place in a {target} of this family") }
}

/// Tables that older folders hold and that follow from `config.json`.
fn is_left_out(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq") || name.ends_with("self_attn.masked_bias")
}

fn head_dim_of(
    family: &Family,
    rows: Rows,
    shape: &Shape,
    view: &TensorView<'_>,
    name: &str,
) -> Result<Option<usize>> {
    let num_heads = match rows {
        Rows::Query if family.interleaved => shape.num_heads,
        Rows::Key if family.interleaved => shape.num_kv_heads,
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

/// The format of the matrices if it holds every value of the vector, else F32: GGUF files hold vectors in F32 even
/// where the model they were made from didn't.
fn vector_format(view: &TensorView<'_>, main: Format) -> Format {
    let values = view.to_f32();
    let is_kept = |value: &f32| {
        let back = match main {
            Format::F16 => half::f16::from_f32(*value).to_f32(),
            Format::BF16 => half::bf16::from_f32(*value).to_f32(),
            _ => *value,
        };
        back.to_bits() == value.to_bits()
    };
    if values.iter().all(is_kept) { main } else { Format::F32 }
}

/// The format of a tensor of a GGUF file. Vectors are F32, which is what its readers multiply with.
fn gguf_format(
    name: &str,
    view: &TensorView<'_>,
    shape: &Shape,
    options: &Options<'_>,
    notes: &mut Vec<String>,
) -> Format {
    let dense_vector = view.shape.len() == 1 && view.format.is_dense();
    let format = match options.encoding {
        _ if dense_vector => return Format::F32,
        Encoding::Keep => return view.format,
        Encoding::Dense(format) => return format,
        Encoding::Mix(mix) => {
            let tensor = Tensor {
                name,
                shape: &view.shape,
                num_layers: shape.num_layers,
                tied: shape.tied,
                has_importance: options.importance.is_some(),
            };
            let Some(format) = mix.format(tensor) else { return view.format };
            note_fallback(mix, name, &view.shape, format, notes);
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
