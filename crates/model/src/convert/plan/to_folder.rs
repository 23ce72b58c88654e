//! The plan of a Hugging Face folder from a GGUF file, or from another folder whose weights change.

use hearth_kernels::quant::Format;
use serde_json::Value;

use super::{Plan, Planned, Source, dense_of, head_dim_of, is_left_out, no_place};
use crate::config::ModelConfig;
use crate::convert::names::{Renamed, Role, Table, family_in_folder, put_number};
use crate::convert::{Encoding, Options, shape, tokenizer};
use crate::error::{Error, Result};
use crate::files::gguf::sink::{Entry, Metadata};
use crate::files::{GgufFile, SafetensorsFolder, TensorView};

pub(super) fn from_file(source: &Source, file: &GgufFile, options: &Options<'_>) -> Result<Plan> {
    let config = ModelConfig::from_gguf(file)?;
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
    let table = Table::of(family_in_folder(&config));
    // Divisors of RoPE become settings in config.json.
    for from in source.names().into_iter().filter(|name| !shape::is_made_tensor(name)) {
        let renamed = table.to_folder(from).ok_or_else(|| no_place(from, "folder"))?;
        let view = source.require(from)?;
        num_decoded += usize::from(!view.format.is_dense());
        let format = match (view.shape.len(), options.encoding) {
            (1, _) => vector_format(&view, main, has_norms_from_one(&config, &renamed)),
            (_, Encoding::Dense(format)) => format,
            _ => dense_of(view.format),
        };
        plan_tensor(from, &renamed, &view, format, &config, &mut tensors)?;
    }
    if num_decoded > 0 {
        notes.push(format!("{num_decoded} quantised tensors are decoded to {}", main.name()));
    }
    // Four-byte values first, so that each tensor lies at a multiple of its value's size.
    tensors.sort_by_key(|tensor| std::cmp::Reverse(tensor.entry.format.block_bytes()));
    let settings = shape::to_config(file, &config, dtype_name(main))?;
    let mut files = tokenizer::to_files(file, shape::max_position_embeddings(file, &config)?)?;
    files.push(("config.json", tokenizer::pretty(&Value::Object(settings))));
    Ok(Plan { tensors, metadata: Metadata::default(), files, notes })
}

/// What a model's folder holds beside its weights and `config.json`.
const COMPANIONS: [&str; 9] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "generation_config.json",
];

/// The same folder with its weights in another type, or changed on the way.
pub(super) fn from_folder(
    source: &Source,
    folder: &SafetensorsFolder,
    options: &Options<'_>,
) -> Result<Plan> {
    let to = match options.encoding {
        Encoding::Keep => None,
        Encoding::Dense(format) => Some(format),
        Encoding::Mix(mix) => {
            let what = format!("a folder can't hold {}: name a target that ends in `.gguf`", mix.name());
            return Err(Error::Unconvertible { what });
        }
    };
    if let Some((name, dtype)) = folder.unreadable().find(|(name, _)| !is_left_out(name)) {
        let what = format!("tensor `{name}` is stored as {dtype}, which can't be converted");
        return Err(Error::Unconvertible { what });
    }
    let mut tensors = Vec::new();
    for name in source.names() {
        let view = source.require(name)?;
        let entry = Entry { name: name.into(), shape: view.shape, format: to.unwrap_or(view.format) };
        tensors.push(Planned { to_gguf: false, ..Planned::plain(entry, name) });
    }
    tensors.sort_by_key(|tensor| std::cmp::Reverse(tensor.entry.format.block_bytes()));
    let mut config = folder.config().clone();
    if let Some(to) = to {
        let key = if config.get("dtype").is_some() { "dtype" } else { "torch_dtype" };
        config[key] = dtype_name(to).into();
    }
    let mut files = vec![("config.json", tokenizer::pretty(&config))];
    for name in COMPANIONS {
        let path = folder.path().join(name);
        if path.is_file() {
            files.push((name, fs_err::read(path).map_err(crate::files::Error::from)?));
        }
    }
    Ok(Plan { tensors, metadata: Metadata::default(), files, notes: Vec::new() })
}

fn dtype_name(format: Format) -> &'static str {
    match format {
        Format::F16 => "float16",
        Format::BF16 => "bfloat16",
        _ => "float32",
    }
}

/// Folders of Gemma hold norms as their difference to 1.
fn has_norms_from_one(config: &ModelConfig, renamed: &Renamed) -> bool {
    renamed.role == Role::Norm && shape::is_gemma(config.family)
}

/// Adds the tensor, or one for each expert whose rows are in it.
fn plan_tensor(
    from: &str,
    renamed: &Renamed,
    view: &TensorView<'_>,
    format: Format,
    config: &ModelConfig,
    tensors: &mut Vec<Planned>,
) -> Result<()> {
    let planned = |name: String, shape: &[usize], expert| Planned {
        expert,
        to_gguf: false,
        from_one: has_norms_from_one(config, renamed),
        ..Planned::plain(Entry { name, shape: shape.to_vec(), format }, from)
    };
    if renamed.role != Role::Experts {
        let head_dim = head_dim_of(renamed.role, config, view, from)?;
        tensors.push(Planned { head_dim, ..planned(renamed.name.clone(), &view.shape, None) });
        return Ok(());
    }
    let [num_experts, shape @ ..] = view.shape.as_slice() else {
        return Err(no_place(from, "folder"));
    };
    if shape.len() != 2 {
        let what =
            format!("tensor `{from}` has the shape {:?}, expected experts of rows and columns", view.shape);
        return Err(Error::Unconvertible { what });
    }
    for expert in 0..*num_experts {
        tensors.push(planned(put_number(&renamed.name, expert), shape, Some(expert)));
    }
    Ok(())
}

/// The format of the matrices if it holds every value of the vector, else F32: GGUF files hold vectors in F32 even
/// where the model they were made from didn't.
fn vector_format(view: &TensorView<'_>, main: Format, from_one: bool) -> Format {
    let values = view.to_f32();
    let is_kept = |value: &f32| {
        let value = if from_one { value - 1.0 } else { *value };
        let back = match main {
            Format::F16 => half::f16::from_f32(value).to_f32(),
            Format::BF16 => half::bf16::from_f32(value).to_f32(),
            _ => value,
        };
        back.to_bits() == value.to_bits()
    };
    if values.iter().all(is_kept) { main } else { Format::F32 }
}
