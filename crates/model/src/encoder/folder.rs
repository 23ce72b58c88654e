//! A sentence embedder as the hub has it: a BERT or XLM-RoBERTa folder of safetensors.
//!
//! Read are `config.json`, `tokenizer.json`, the weights, and what sentence-transformers puts beside them: how tokens are
//! pooled, how many are read, and which words stand before questions and passages. Settings that would change the
//! vectors and aren't known are refused by name. Vectors are scaled to length 1 whether or not the folder says so.

use std::path::Path;
use std::sync::Arc;

use hearth_kernels::quant::Format;
use hearth_tokenizer::Tokenizer;
use serde::Deserialize;
use serde_json::Value;

use super::error::{Error, Result};
use super::prompts::Prompts;
use super::tensors::{Config, LayerPart, Place, Pooling, Table, Tensors};
use crate::files::{self, SafetensorsFolder, TensorView};

/// The keys of `config.json` that matter here.
#[derive(Debug, Deserialize)]
struct HfConfig {
    model_type: String,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f32,
    pad_token_id: Option<usize>,
    #[serde(default = "gelu")]
    hidden_act: String,
    #[serde(default = "absolute")]
    position_embedding_type: String,
}

fn gelu() -> String {
    "gelu".into()
}

fn absolute() -> String {
    "absolute".into()
}

/// An opened folder.
#[derive(Debug)]
pub(super) struct Folder {
    files: Arc<SafetensorsFolder>,
    config: Config,
    /// What stands before every name: nothing, `bert.` or `roberta.`.
    prefix: &'static str,
}

impl Folder {
    /// Opens the folder, and says which words it wants before texts, if it does.
    pub(super) fn open(path: &Path) -> Result<(Self, Tokenizer, Option<Prompts>)> {
        let files = Arc::new(SafetensorsFolder::open(path)?);
        let config = read_config(path, &files)?;
        let json = fs_err::read(path.join("tokenizer.json")).map_err(files::Error::from)?;
        let tokenizer = Tokenizer::from_json(&json)
            .map_err(|source| Error::Tokenizer { path: path.join("tokenizer.json"), source })?;
        if tokenizer.vocab_size() > config.vocab_size {
            let (tokens, rows) = (tokenizer.vocab_size(), config.vocab_size);
            let problem = format!("is `{rows}`, but the tokenizer has {tokens} tokens");
            return Err(malformed(path, "vocab_size", problem));
        }
        let words = |prefix: &&str| files.tensor(&format!("{prefix}{WORDS}")).is_some();
        let prefix = ["", "bert.", "roberta."].into_iter().find(words).unwrap_or("");
        let prompts = read_prompts(path)?;
        Ok((Self { files, config, prefix }, tokenizer, prompts))
    }

    fn view(&self, name: &str, shape: &[usize]) -> Result<TensorView<'_>> {
        let view = self.files.require(name)?;
        if view.shape == shape {
            return Ok(view);
        }
        let problem = format!("has shape {:?}, expected {shape:?}", view.shape);
        Err(malformed(self.files.path(), &format!("tensor `{name}`"), problem))
    }

    fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let values = self.view(name, shape)?.to_f32();
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(index) => {
                let problem = format!("holds `{}` at {index}, expected a finite number", values[index]);
                Err(malformed(self.files.path(), &format!("tensor `{name}`"), problem))
            }
        }
    }

    fn name(&self, place: Place, kind: &str) -> String {
        format!("{}{}.{kind}", self.prefix, module(place))
    }
}

const WORDS: &str = "embeddings.word_embeddings.weight";

/// As `transformers` calls the module.
fn module(place: Place) -> String {
    let (index, part) = match place {
        Place::Words => return "embeddings.word_embeddings".into(),
        Place::Positions => return "embeddings.position_embeddings".into(),
        Place::Types => return "embeddings.token_type_embeddings".into(),
        Place::EmbeddingNorm => return "embeddings.LayerNorm".into(),
        Place::Layer(index, part) => (index, part),
    };
    let part = match part {
        LayerPart::Query => "attention.self.query",
        LayerPart::Key => "attention.self.key",
        LayerPart::Value => "attention.self.value",
        LayerPart::AttentionOutput => "attention.output.dense",
        LayerPart::AttentionNorm => "attention.output.LayerNorm",
        LayerPart::Intermediate => "intermediate.dense",
        LayerPart::Output => "output.dense",
        LayerPart::OutputNorm => "output.LayerNorm",
    };
    format!("encoder.layer.{index}.{part}")
}

impl Tensors for Folder {
    fn config(&self) -> &Config {
        &self.config
    }

    fn matrix(&mut self, place: Place, rows: usize, cols: usize) -> Result<(Format, Vec<u8>)> {
        let view = self.view(&self.name(place, "weight"), &[rows, cols])?;
        Ok((view.format, view.bytes.to_vec()))
    }

    fn table(&mut self, place: Place, rows: usize, cols: usize) -> Result<Table> {
        let name = self.name(place, "weight");
        self.view(&name, &[rows, cols])?;
        Ok(Table::Mapped { folder: Arc::clone(&self.files), name })
    }

    fn vector(&mut self, place: Place, len: usize) -> Result<Vec<f32>> {
        let hidden_size = self.config.hidden_size;
        let name = self.name(place, "weight");
        match place {
            Place::Positions | Place::Types => self.floats(&name, &[len / hidden_size, hidden_size]),
            _ => self.floats(&name, &[len]),
        }
    }

    fn bias(&mut self, place: Place, len: usize) -> Result<Vec<f32>> {
        self.floats(&self.name(place, "bias"), &[len])
    }

    fn malformed(&self, place: Place, problem: String) -> files::Error {
        let what = format!("tensor `{}`", self.name(place, "weight"));
        files::Error::Malformed { path: self.files.path().into(), what, problem }
    }
}

fn malformed(path: &Path, what: &str, problem: String) -> Error {
    files::Error::Malformed { path: path.into(), what: what.into(), problem }.into()
}

fn read_config(path: &Path, files: &SafetensorsFolder) -> Result<Config> {
    let file = path.join("config.json");
    let json: HfConfig = serde_json::from_value(files.config().clone())
        .map_err(|error| files::Error::Json { path: file.clone(), reason: error.to_string() })?;
    let known = |key: &str, found: &str, known: &[&str]| match known.contains(&found) {
        true => Ok(()),
        false => Err(malformed(&file, key, format!("is `{found}`, known are {}", known.join(", ")))),
    };
    known("model_type", &json.model_type, &["bert", "xlm-roberta", "roberta"])?;
    known("hidden_act", &json.hidden_act, &["gelu"])?;
    known("position_embedding_type", &json.position_embedding_type, &["absolute"])?;
    let first_position = match json.model_type.as_str() {
        "bert" => 0,
        _ => json.pad_token_id.unwrap_or(1).saturating_add(1),
    };
    let max_tokens = json.max_position_embeddings.saturating_sub(first_position);
    let max_tokens = read_max_tokens(path)?.map_or(max_tokens, |limit| limit.min(max_tokens));
    let config = Config {
        hidden_size: json.hidden_size,
        num_layers: json.num_hidden_layers,
        num_heads: json.num_attention_heads,
        intermediate_size: json.intermediate_size,
        vocab_size: json.vocab_size,
        max_position_embeddings: json.max_position_embeddings,
        type_vocab_size: json.type_vocab_size,
        layer_norm_eps: json.layer_norm_eps,
        first_position,
        max_tokens,
        pooling: read_pooling(path)?,
    };
    for (key, size) in [
        ("hidden_size", config.hidden_size),
        ("num_hidden_layers", config.num_layers),
        ("num_attention_heads", config.num_heads),
        ("intermediate_size", config.intermediate_size),
        ("vocab_size", config.vocab_size),
        ("max_position_embeddings", max_tokens),
        ("type_vocab_size", config.type_vocab_size),
    ] {
        if size == 0 || size > 1 << 24 {
            return Err(malformed(&file, key, format!("makes {size}, which isn't a size of a model")));
        }
    }
    if !config.hidden_size.is_multiple_of(config.num_heads) {
        let problem = format!("`{}` isn't a multiple of {} heads", config.hidden_size, config.num_heads);
        return Err(malformed(&file, "hidden_size", problem));
    }
    if !(config.layer_norm_eps.is_finite() && config.layer_norm_eps > 0.0) {
        let problem = format!("is `{}`, expected a small positive number", config.layer_norm_eps);
        return Err(malformed(&file, "layer_norm_eps", problem));
    }
    Ok(config)
}

/// A JSON file that may be missing.
fn optional(path: &Path) -> Result<Option<Value>> {
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = fs_err::read(path).map_err(files::Error::from)?;
    let value = serde_json::from_slice(&bytes)
        .map_err(|error| files::Error::Json { path: path.into(), reason: error.to_string() })?;
    Ok(Some(value))
}

fn read_max_tokens(path: &Path) -> Result<Option<usize>> {
    let settings = optional(&path.join("sentence_bert_config.json"))?;
    Ok(settings.and_then(|json| json["max_seq_length"].as_u64()).map(|limit| limit as usize))
}

/// The mean, unless the folder asks for something else. Layers behind the pooling are refused.
fn read_pooling(path: &Path) -> Result<Pooling> {
    let modules = path.join("modules.json");
    for module in optional(&modules)?.as_ref().and_then(Value::as_array).into_iter().flatten() {
        let kind = module["type"].as_str().unwrap_or_default();
        let known = ["Transformer", "Pooling", "Normalize"];
        if !known.contains(&kind.rsplit('.').next().unwrap_or_default()) {
            let problem = format!("asks for `{kind}`, known are {}", known.join(", "));
            return Err(malformed(&modules, "a module", problem));
        }
    }
    let file = path.join("1_Pooling/config.json");
    let Some(json) = optional(&file)? else {
        return Ok(Pooling::Mean);
    };
    let modes: Vec<&str> = json
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| key.starts_with("pooling_mode_") && **value == Value::Bool(true))
        .map(|(key, _)| key.as_str())
        .collect();
    match modes[..] {
        [] | ["pooling_mode_mean_tokens"] => Ok(Pooling::Mean),
        ["pooling_mode_cls_token"] => Ok(Pooling::First),
        _ => {
            let problem = format!("is `{}`, known are the mean and the first token", modes.join(", "));
            Err(malformed(&file, "the pooling", problem))
        }
    }
}

fn read_prompts(path: &Path) -> Result<Option<Prompts>> {
    let Some(json) = optional(&path.join("config_sentence_transformers.json"))? else {
        return Ok(None);
    };
    let prompt = |names: &[&str]| {
        names.iter().find_map(|name| json["prompts"][name].as_str()).filter(|text| !text.is_empty())
    };
    let (query, passage) = (prompt(&["query"]), prompt(&["passage", "document"]));
    if query.is_none() && passage.is_none() {
        return Ok(None);
    }
    let text = |prompt: Option<&str>| prompt.unwrap_or_default().to_owned();
    Ok(Some(Prompts { query: text(query), passage: text(passage) }))
}
