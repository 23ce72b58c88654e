//! The plan of a GGUF file: the same model in other formats, or what a folder holds under GGUF's names.

use std::collections::BTreeMap;
use std::path::Path;

use super::{
    FILE_KEYS, Plan, Planned, Sizes, Source, gguf_format, head_dim_of, is_left_out, no_place, place_in_file,
    put_file_type,
};
use crate::config::ModelConfig;
use crate::convert::names::{Renamed, Role, Table};
use crate::convert::tokenizer::{self, Files};
use crate::convert::{Options, shape};
use crate::error::{Error, Result};
use crate::files::gguf::sink::{Entry, Metadata};
use crate::files::{GgufFile, SafetensorsFolder};

/// The same model with its weights in other formats; every key is carried over, whatever the family.
pub(super) fn from_file(source: &Source, file: &GgufFile, options: &Options<'_>) -> Result<Plan> {
    let arch = file.meta_str("general.architecture")?;
    let sizes = Sizes {
        num_layers: file.meta_u32(&format!("{arch}.block_count"))? as usize,
        tied: file.tensor("output.weight").is_none(),
    };
    let mut notes = Vec::new();
    let mut tensors = Vec::new();
    for name in source.names() {
        let view = source.require(name)?;
        let format = gguf_format(name, (view.format, &view.shape), sizes, options, &mut notes);
        tensors.push(Planned::plain(Entry { name: name.into(), shape: view.shape, format }, name));
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

pub(super) fn from_folder(
    source: &Source,
    folder: &SafetensorsFolder,
    options: &Options<'_>,
) -> Result<Plan> {
    let config = ModelConfig::from_folder(folder)?;
    shape::check_gguf_can_hold(&config)?;
    if let Some((name, dtype)) = folder.unreadable().find(|(name, _)| !is_left_out(name)) {
        let what = format!("tensor `{name}` is stored as {dtype}, which can't be converted");
        return Err(Error::Unconvertible { what });
    }
    let mut notes: Vec<String> = Vec::new();
    let names = config.family.hugging_face_names();
    let has_head = source.names().contains(&names.head);
    let sizes = Sizes { num_layers: config.num_layers, tied: config.is_tied.unwrap_or(!has_head) };
    let groups = groups(source, &config, sizes.tied, &mut notes)?;
    let mut tensors = Vec::new();
    for (name, group) in groups {
        tensors.push(group.plan(name, source, &config, |shape, name| {
            gguf_format(name, shape, sizes, options, &mut notes)
        })?);
    }
    tensors.extend(shape::made_tensors(folder.config(), &config)?.into_iter().map(made));
    tensors.sort_by_key(|tensor| place_in_file(&tensor.entry.name));
    let mut metadata = Metadata::default();
    metadata.string("general.architecture", config.family.architecture());
    metadata.string("general.type", "model");
    let name = folder.path().canonicalize().ok();
    if let Some(name) = name.as_deref().and_then(Path::file_name) {
        metadata.string("general.name", &name.to_string_lossy());
    }
    put_file_type(&mut metadata, &tensors, options.encoding, None);
    shape::to_metadata(folder.config(), &config, &mut metadata)?;
    let vocab_size = source.require(names.embedding)?.shape[0];
    tokenizer::to_metadata(folder.path(), folder.config(), vocab_size, &mut metadata)?;
    Ok(Plan { tensors, metadata, files: Files::new(), notes })
}

/// Tensors of the folder that become one of the file: one, or one of each expert.
struct Group {
    role: Role,
    /// By expert.
    from: BTreeMap<usize, String>,
}

impl Group {
    fn plan(
        self,
        name: String,
        source: &Source,
        config: &ModelConfig,
        format: impl FnOnce((hearth_kernels::quant::Format, &[usize]), &str) -> hearth_kernels::quant::Format,
    ) -> Result<Planned> {
        let from: Vec<String> = self.from.into_values().collect();
        let view = source.require(&from[0])?;
        for other in &from[1..] {
            let other_view = source.require(other)?;
            if (other_view.format, &other_view.shape) != (view.format, &view.shape) {
                let what =
                    format!("tensors `{}` and `{other}` of two experts differ in shape or type", from[0]);
                return Err(Error::Unconvertible { what });
            }
        }
        let head_dim = head_dim_of(self.role, config, &view, &from[0])?;
        let mut shape = view.shape.clone();
        if self.role == Role::Experts {
            shape.insert(0, from.len());
        }
        let format = format((view.format, &shape), &name);
        Ok(Planned {
            entry: Entry { name: name.clone(), shape, format },
            from,
            expert: None,
            gguf_name: name,
            head_dim,
            to_gguf: true,
            from_one: self.role == Role::Norm && config.norms_from_one,
            made: None,
        })
    }
}

fn groups(
    source: &Source,
    config: &ModelConfig,
    tied: bool,
    notes: &mut Vec<String>,
) -> Result<BTreeMap<String, Group>> {
    let table = Table::of(config.family);
    let head = config.family.hugging_face_names().head;
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for from in source.names() {
        if is_left_out(from) || (tied && from == head) {
            notes.push(format!("tensor `{from}` is left out: it is made from others"));
            continue;
        }
        let Renamed { name, role, expert } =
            table.to_gguf(from).ok_or_else(|| no_place(from, "GGUF file"))?;
        let group = groups.entry(name).or_insert_with(|| Group { role, from: BTreeMap::new() });
        group.from.insert(expert.unwrap_or(0), from.to_owned());
    }
    let num_experts = config.experts.map_or(0, |experts| experts.num_experts);
    for (name, group) in groups.iter().filter(|(_, group)| group.role == Role::Experts) {
        let found = group.from.len();
        if found != num_experts || group.from.keys().next_back() != Some(&(num_experts - 1)) {
            let what = format!(
                "`{name}` would hold {found} experts, but `config.json` says there are {num_experts}"
            );
            return Err(Error::Unconvertible { what });
        }
    }
    Ok(groups)
}

/// A tensor that follows from `config.json`.
fn made((name, values): (&'static str, Vec<f32>)) -> Planned {
    let entry =
        Entry { name: name.into(), shape: vec![values.len()], format: hearth_kernels::quant::Format::F32 };
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Planned { from: Vec::new(), made: Some(bytes), ..Planned::plain(entry, name) }
}
