//! `hearth show`: what a model file or folder holds, read from its header.

use std::path::{Path, PathBuf};

use anyhow::Result;
use hearth_kernels::quant::Format;
use hearth_model::ModelConfig;
use hearth_model::files::{GgufFile, SafetensorsFolder, TensorView, vocabulary};
use hearth_tensor::graph::{KvOptions, KvType};
use serde_json::{Value, json};

use super::Context;
use crate::args::ModelArg;

/// Keys whose values are as long as the vocabulary.
const LONG: usize = 16;

/// What is known of a model without loading it.
struct Card {
    kind: &'static str,
    architecture: String,
    name: Option<String>,
    license: Option<String>,
    template: Option<String>,
    /// Metadata or `config.json`, long arrays as their lengths.
    keys: Vec<(String, Value)>,
    tensors: Vec<(String, Vec<usize>, Format, usize)>,
    /// Of a decoder that hearth runs.
    config: Option<ModelConfig>,
}

pub(super) fn run(context: &Context, args: &ModelArg) -> Result<()> {
    let path = match Path::new(&args.model).exists() {
        true => PathBuf::from(&args.model),
        false => context.machine.pull(&args.model, &context.terminal)?.path,
    };
    let card = if path.is_dir() { of_folder(&path)? } else { of_file(&path)? };
    if context.json {
        context.print_json(&card.to_json(&path));
    } else {
        card.print(context, &path);
    }
    Ok(())
}

fn of_file(path: &Path) -> Result<Card> {
    let file = GgufFile::open(path)?;
    let about = vocabulary::card(&file)?;
    let keys = file.keys().filter(|key| *key != "tokenizer.chat_template");
    let keys = keys.map(|key| (key.to_owned(), file.value(key).map_or(Value::Null, |value| brief(&value))));
    let tensors =
        file.tensors().map(|info| (info.name.clone(), info.shape.clone(), info.format, info.num_bytes()));
    Ok(Card {
        kind: "GGUF",
        architecture: about.architecture,
        name: about.name,
        license: about.license,
        template: vocabulary::chat_template(&file)?.map(str::to_owned),
        keys: keys.collect(),
        tensors: tensors.collect(),
        config: ModelConfig::from_gguf(&file).ok(),
    })
}

/// A value as JSON, an array by its length.
fn brief(value: &hearth_model::files::gguf::Value<'_>) -> Value {
    use hearth_model::files::gguf::Value as Gguf;
    match value {
        Gguf::Integer(number) => {
            i64::try_from(*number).map_or_else(|_| json!(number.to_string()), |n| json!(n))
        }
        Gguf::Float(number) => json!(number),
        Gguf::Bool(flag) => json!(flag),
        Gguf::String(text) => json!(text),
        Gguf::Array(array) if array.len() <= LONG => array.iter().map(|value| brief(&value)).collect(),
        Gguf::Array(array) => json!(format!("{} values", array.len())),
    }
}

fn of_folder(path: &Path) -> Result<Card> {
    let folder = SafetensorsFolder::open(path)?;
    let template = hearth_model::load::folder_template(path)?;
    let config = folder.config();
    let text = |key: &str| config[key].as_str().map(str::to_owned);
    let keys = config.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone()));
    let tensors = folder.names().filter_map(|name| {
        let TensorView { shape, format, bytes } = folder.tensor(name)?;
        Some((name.to_owned(), shape, format, bytes.len()))
    });
    Ok(Card {
        kind: "safetensors folder",
        architecture: text("model_type").unwrap_or_default(),
        name: text("_name_or_path"),
        license: text("license"),
        template,
        keys: keys.collect(),
        tensors: tensors.collect(),
        config: ModelConfig::from_folder(&folder).ok(),
    })
}

impl Card {
    /// Bytes that keys and values of a token take, by their type.
    fn kv_bytes(&self) -> Vec<(KvType, usize)> {
        let bytes = |config: &ModelConfig, kv_type| {
            config.page_layout(KvOptions { kv_type, sparse_pages: None }).position_bytes()
        };
        let of_config = |config| KvType::ALL.map(|kv_type| (kv_type, bytes(config, kv_type))).to_vec();
        self.config.as_ref().map(of_config).unwrap_or_default()
    }

    fn num_weights(&self) -> usize {
        self.tensors.iter().map(|(_, shape, ..)| shape.iter().product::<usize>()).sum()
    }

    /// Format, number of tensors, bytes.
    fn by_format(&self) -> Vec<(Format, usize, usize)> {
        let of = |format| {
            let tensors = self.tensors.iter().filter(|tensor| tensor.2 == format);
            tensors
                .fold((format, 0, 0), |(format, count, bytes), tensor| (format, count + 1, bytes + tensor.3))
        };
        Format::ALL.into_iter().map(of).filter(|(_, count, _)| *count > 0).collect()
    }

    fn to_json(&self, path: &Path) -> Value {
        let formats = self.by_format().into_iter().map(
            |(format, tensors, bytes)| json!({ "format": format.name(), "tensors": tensors, "bytes": bytes }),
        );
        let tensors = self.tensors.iter().map(|(name, shape, format, bytes)| {
            json!({ "name": name, "shape": shape, "format": format.name(), "bytes": bytes })
        });
        let kv_bytes =
            self.kv_bytes().into_iter().map(|(kv_type, bytes)| (kv_type.name().into(), json!(bytes)));
        json!({
            "kv_bytes_per_token": kv_bytes.collect::<serde_json::Map<_, _>>(),
            "path": path, "kind": self.kind, "architecture": self.architecture, "name": self.name,
            "license": self.license, "parameters": self.num_weights(), "chat_template": self.template,
            "metadata": self.keys.iter().cloned().collect::<serde_json::Map<_, _>>(),
            "formats": formats.collect::<Vec<_>>(), "tensors": tensors.collect::<Vec<_>>(),
        })
    }

    fn print(&self, context: &Context, path: &Path) {
        context.print(&format!("{}  ({})", path.display(), self.kind));
        context.print(&format!("  architecture  {}", self.architecture));
        for (what, value) in [("name", &self.name), ("licence", &self.license)] {
            context.print(&format!("  {what:12}  {}", value.as_deref().unwrap_or("not stated")));
        }
        context.print(&format!("  parameters    {:.1} M", self.num_weights() as f64 / 1e6));
        for (format, tensors, bytes) in self.by_format() {
            let megabytes = bytes as f64 / 1e6;
            context.print(&format!("  {:12}  {tensors} tensors, {megabytes:.1} MB", format.name()));
        }
        for (kv_type, bytes) in self.kv_bytes() {
            let kib = bytes as f64 / 1024.0;
            context.print(&format!("  keys, values  {kib:.1} KiB a token as {}", kv_type.name()));
        }
        for (key, value) in &self.keys {
            context.print(&format!("  {key} = {value}"));
        }
        for (name, shape, format, _) in &self.tensors {
            context.print(&format!("  {name}  {shape:?}  {}", format.name()));
        }
        match &self.template {
            Some(template) => context.print(&format!("chat template:\n{template}")),
            None => context.print("no chat template"),
        }
    }
}
