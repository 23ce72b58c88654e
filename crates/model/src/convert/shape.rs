//! `config.json` to the keys of a GGUF file that describe a model's shape, and back.

use serde_json::{Map, Value, json};

use super::names::Family;
use super::rope::{self, Llama3};
use crate::error::{Error, Result};
use crate::files::GgufFile;
use crate::files::gguf::sink::Metadata;

/// Names of the same number on either side; a GGUF file has its architecture in front.
const SIZES: &[(&str, &str)] = &[
    ("num_hidden_layers", "block_count"),
    ("max_position_embeddings", "context_length"),
    ("hidden_size", "embedding_length"),
    ("intermediate_size", "feed_forward_length"),
    ("num_attention_heads", "attention.head_count"),
];

/// Keys of `config.json` that would change the forward pass, with the only value that can be carried over.
fn must_be() -> [(&'static str, Value); 5] {
    [
        ("hidden_act", json!("silu")),
        ("use_sliding_window", json!(false)),
        ("sliding_window", Value::Null),
        ("mlp_bias", json!(false)),
        ("partial_rotary_factor", json!(1.0)),
    ]
}

/// The sizes that the weights' plan needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) num_layers: usize,
    pub(super) num_heads: usize,
    pub(super) num_kv_heads: usize,
    pub(super) tied: bool,
}

fn config_error(what: String) -> Error {
    Error::Config { what }
}

fn size(config: &Value, key: &str) -> Result<usize> {
    let found = &config[key];
    found
        .as_u64()
        .filter(|&size| size > 0 && u32::try_from(size).is_ok())
        .map(|size| size as usize)
        .ok_or_else(|| config_error(format!("`config.json`: `{key}` is {found}, expected a size")))
}

fn number(config: &Value, key: &str) -> Option<f32> {
    config[key].as_f64().map(|number| number as f32)
}

impl Shape {
    pub(super) fn of_config(config: &Value) -> Result<Self> {
        let num_heads = size(config, "num_attention_heads")?;
        let has_kv = !config["num_key_value_heads"].is_null();
        Ok(Self {
            num_layers: size(config, "num_hidden_layers")?,
            num_heads,
            num_kv_heads: if has_kv { size(config, "num_key_value_heads")? } else { num_heads },
            tied: config["tie_word_embeddings"].as_bool().unwrap_or(false),
        })
    }

    pub(super) fn of_gguf(file: &GgufFile, arch: &str) -> Result<Self> {
        let find = |key: &str| file.find::<u32>(&format!("{arch}.{key}"));
        let num_heads = file.meta_u32(&format!("{arch}.attention.head_count"))? as usize;
        Ok(Self {
            num_layers: file.meta_u32(&format!("{arch}.block_count"))? as usize,
            num_heads,
            num_kv_heads: find("attention.head_count_kv")?.map_or(num_heads, |count| count as usize),
            tied: file.tensor("output.weight").is_none(),
        })
    }
}

/// Writes `<arch>.*` from a folder's `config.json`.
pub(super) fn to_metadata(config: &Value, family: &Family, metadata: &mut Metadata) -> Result<()> {
    for (key, expected) in must_be() {
        if !config[key].is_null() && config[key] != expected && !is_unused_window(config, key) {
            let found = &config[key];
            let what = format!("`config.json`: `{key}` {found} can't be carried over, only {expected}");
            return Err(config_error(what));
        }
    }
    let arch = family.arch;
    let shape = Shape::of_config(config)?;
    for (json, gguf) in SIZES {
        metadata.u32(&format!("{arch}.{gguf}"), size(config, json)? as u32);
    }
    metadata.u32(&format!("{arch}.attention.head_count_kv"), shape.num_kv_heads as u32);
    let eps = number(config, "rms_norm_eps")
        .ok_or_else(|| config_error("`config.json` has no number `rms_norm_eps`".into()))?;
    metadata.f32(&format!("{arch}.attention.layer_norm_rms_epsilon"), eps);
    let head_dim = head_dim(config)?;
    if head_dim * shape.num_heads != size(config, "hidden_size")? {
        metadata.u32(&format!("{arch}.attention.key_length"), head_dim as u32);
        metadata.u32(&format!("{arch}.attention.value_length"), head_dim as u32);
    }
    metadata.u32(&format!("{arch}.rope.dimension_count"), head_dim as u32);
    metadata.f32(&format!("{arch}.rope.freq_base"), theta(config));
    if !config["vocab_size"].is_null() {
        metadata.u32(&format!("{arch}.vocab_size"), size(config, "vocab_size")? as u32);
    }
    scaling_to_metadata(rope_of(config), arch, metadata)
}

fn head_dim(config: &Value) -> Result<usize> {
    match config["head_dim"].is_null() {
        true => Ok(size(config, "hidden_size")? / size(config, "num_attention_heads")?),
        false => size(config, "head_dim"),
    }
}

fn theta(config: &Value) -> f32 {
    let theta = number(rope_of(config), "rope_theta").or_else(|| number(config, "rope_theta"));
    theta.unwrap_or(10_000.0)
}

/// What a GGUF file holds as a tensor where RoPE is stretched in Llama 3's way.
pub(super) fn rope_divisors(config: &Value) -> Result<Option<Vec<f32>>> {
    let rope = rope_of(config);
    if rope_type(rope) != Some("llama3") {
        return Ok(None);
    }
    Ok(Some(Llama3::of_config(rope)?.divisors(theta(config), head_dim(config)?)))
}

fn rope_type(rope: &Value) -> Option<&str> {
    rope["rope_type"].as_str().or_else(|| rope["type"].as_str())
}

/// A window's size means nothing where `use_sliding_window` is false.
fn is_unused_window(config: &Value, key: &str) -> bool {
    key == "sliding_window" && config["use_sliding_window"] == false
}

/// RoPE's settings: `rope_parameters` in newer files, `rope_scaling` in older ones.
fn rope_of(config: &Value) -> &Value {
    match &config["rope_parameters"] {
        Value::Null => &config["rope_scaling"],
        parameters => parameters,
    }
}

fn scaling_to_metadata(rope: &Value, arch: &str, metadata: &mut Metadata) -> Result<()> {
    let kind = rope_type(rope);
    let known: &[&str] = match kind {
        // Llama 3's way is a tensor.
        None | Some("default" | "llama3") => return Ok(()),
        Some("linear") => &["factor"],
        Some("yarn") => &["factor", "original_max_position_embeddings"],
        Some(other) => {
            let what = format!(
                "`config.json`: RoPE scaling `{other}` can't be carried over, only linear, yarn and llama3"
            );
            return Err(config_error(what));
        }
    };
    let others = ["rope_type", "type", "rope_theta"];
    let fields = rope.as_object().into_iter().flatten();
    if let Some((key, _)) =
        fields.into_iter().find(|(key, _)| !known.contains(&key.as_str()) && !others.contains(&key.as_str()))
    {
        return Err(config_error(format!("`config.json`: RoPE scaling's `{key}` can't be carried over")));
    }
    let factor = number(rope, "factor")
        .ok_or_else(|| config_error("`config.json`: RoPE scaling has no number `factor`".into()))?;
    metadata.string(&format!("{arch}.rope.scaling.type"), kind.unwrap_or_default());
    metadata.f32(&format!("{arch}.rope.scaling.factor"), factor);
    if kind == Some("yarn") {
        let original = size(rope, "original_max_position_embeddings")?;
        metadata.u32(&format!("{arch}.rope.scaling.original_context_length"), original as u32);
    }
    Ok(())
}

/// The number that a person would write for an f32: 1e-6, not 9.999999974752427e-7.
fn short(number: f32) -> Value {
    json!(number.to_string().parse::<f64>().unwrap_or(f64::from(number)))
}

/// Makes `config.json` from `<arch>.*`.
pub(super) fn to_config(file: &GgufFile, family: &Family, dtype: &str) -> Result<Map<String, Value>> {
    let arch = family.arch;
    let shape = Shape::of_gguf(file, arch)?;
    let mut config = Map::new();
    let mut put = |key: &str, value: Value| drop(config.insert(key.into(), value));
    put("architectures", json!([family.class]));
    put("model_type", json!(family.model_type));
    for (json, gguf) in SIZES {
        put(json, json!(file.meta_u32(&format!("{arch}.{gguf}"))?));
    }
    put("num_key_value_heads", json!(shape.num_kv_heads));
    let hidden_size = file.meta_u32(&format!("{arch}.embedding_length"))? as usize;
    let head_dim = file.find::<u32>(&format!("{arch}.attention.key_length"))?;
    let head_dim = head_dim.map_or(hidden_size / shape.num_heads.max(1), |dim| dim as usize);
    put("head_dim", json!(head_dim));
    let vocab_size = file.require("token_embd.weight")?.shape[0];
    put("vocab_size", json!(vocab_size));
    put("rms_norm_eps", short(file.meta_f32(&format!("{arch}.attention.layer_norm_rms_epsilon"))?));
    let theta = file.find::<f32>(&format!("{arch}.rope.freq_base"))?.unwrap_or(10_000.0);
    put("rope_theta", short(theta));
    put("rope_scaling", scaling_to_config(file, arch, theta)?);
    put("hidden_act", json!("silu"));
    put("tie_word_embeddings", json!(shape.tied));
    put("torch_dtype", json!(dtype));
    put("use_cache", json!(true));
    if family.model_type == "llama" {
        put("attention_bias", json!(file.tensor("blk.0.attn_q.bias").is_some()));
        put("mlp_bias", json!(false));
    }
    if family.model_type.starts_with("qwen") {
        put("use_sliding_window", json!(false));
    }
    for (key, gguf) in [("bos_token_id", "bos"), ("eos_token_id", "eos"), ("pad_token_id", "padding")] {
        let id = file.find::<u32>(&format!("tokenizer.ggml.{gguf}_token_id"))?;
        put(key, id.map_or(Value::Null, |id| json!(id)));
    }
    Ok(config)
}

fn scaling_to_config(file: &GgufFile, arch: &str, theta: f32) -> Result<Value> {
    if let Some(divisors) = file.tensor(rope::TENSOR) {
        return Ok(Llama3::of_divisors(&divisors.to_f32(), theta)?.to_json());
    }
    let kind = file.find::<&str>(&format!("{arch}.rope.scaling.type"))?.unwrap_or("none");
    if kind == "none" {
        return Ok(Value::Null);
    }
    let factor = short(file.meta_f32(&format!("{arch}.rope.scaling.factor"))?);
    match kind {
        "linear" => Ok(json!({ "rope_type": "linear", "factor": factor })),
        "yarn" => {
            let original = file.meta_u32(&format!("{arch}.rope.scaling.original_context_length"))?;
            Ok(json!({
                "rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original,
            }))
        }
        other => Err(config_error(format!(
            "RoPE scaling `{other}` can't be carried over, only linear, yarn and llama3"
        ))),
    }
}
