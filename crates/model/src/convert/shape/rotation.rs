//! RoPE's settings, in the spellings of `config.json` and of GGUF files.
//!
//! Llama 3's stretching and the lists of `LongRoPE` are tensors in GGUF files.

use serde_json::{Map, Value, json};

use super::{config_error, short};
use crate::config::rope::Scaling;
use crate::config::{Family, LOCAL_THETA, ModelConfig};
use crate::convert::rope::{self, Llama3};
use crate::error::Result;
use crate::files::GgufFile;
use crate::files::gguf::sink::Metadata;

const LONG_FACTORS: &str = "rope_factors_long.weight";
const SHORT_FACTORS: &str = "rope_factors_short.weight";

/// Whether a tensor of a GGUF file is settings in a folder.
pub(in crate::convert) fn is_made_tensor(name: &str) -> bool {
    [rope::TENSOR, LONG_FACTORS, SHORT_FACTORS].contains(&name)
}

/// Settings that a GGUF file holds as tensors.
pub(in crate::convert) fn made_tensors(
    json: &Value,
    config: &ModelConfig,
) -> Result<Vec<(&'static str, Vec<f32>)>> {
    let rope = rope_of(json);
    match rope_type(rope) {
        Some("llama3") => {
            let divisors = Llama3::of_config(rope)?.divisors(theta(json, config), rotary_dim(config));
            Ok(vec![(rope::TENSOR, divisors)])
        }
        Some("longrope" | "su") => Ok(vec![
            (LONG_FACTORS, factors(rope, "long_factor")?),
            (SHORT_FACTORS, factors(rope, "short_factor")?),
        ]),
        _ => Ok(Vec::new()),
    }
}

fn factors(rope: &Value, key: &str) -> Result<Vec<f32>> {
    let list = rope[key].as_array().map(|list| list.iter().map(Value::as_f64).collect::<Option<Vec<_>>>());
    match list.flatten() {
        Some(list) if !list.is_empty() => Ok(list.into_iter().map(|factor| factor as f32).collect()),
        _ => Err(config_error(format!("`config.json`: RoPE scaling's `{key}` isn't a list of numbers"))),
    }
}

/// RoPE's settings: `rope_parameters` in newer files, `rope_scaling` in older ones; those of layers that see everything.
fn rope_of(json: &Value) -> &Value {
    match &json["rope_parameters"] {
        Value::Null => &json["rope_scaling"],
        parameters => parameters.get("full_attention").unwrap_or(parameters),
    }
}

fn rope_type(rope: &Value) -> Option<&str> {
    rope["rope_type"].as_str().or_else(|| rope["type"].as_str())
}

fn number(json: &Value, key: &str) -> Option<f32> {
    json[key].as_f64().map(|number| number as f32)
}

fn theta(json: &Value, config: &ModelConfig) -> f32 {
    let theta = number(rope_of(json), "rope_theta").or_else(|| number(json, "rope_theta"));
    theta.unwrap_or(config.family.default_rope_theta())
}

/// Of layers with a window, where they rotate otherwise.
fn local_theta(json: &Value) -> f32 {
    let own = number(&json["rope_parameters"]["sliding_attention"], "rope_theta");
    own.or_else(|| number(json, "rope_local_base_freq")).unwrap_or(LOCAL_THETA)
}

fn rotary_dim(config: &ModelConfig) -> usize {
    config.layers[0].rope.frequencies.len() * 2
}

/// Factor on rotated channels, of layers that see everything if there are any.
fn magnitude(config: &ModelConfig) -> f32 {
    let layer = config.layers.iter().find(|layer| layer.window.is_none());
    layer.unwrap_or(&config.layers[0]).rope.magnitude
}

pub(super) fn to_metadata(json: &Value, config: &ModelConfig, metadata: &mut Metadata) -> Result<()> {
    let arch = config.family.architecture();
    let key = |name: &str| format!("{arch}.rope.{name}");
    metadata.f32(&key("freq_base"), theta(json, config));
    if config.family == Family::Gemma3 {
        metadata.f32(&key("freq_base_swa"), local_theta(json));
        let kind = rope_type(&json["rope_parameters"]["sliding_attention"]);
        if kind.is_some_and(|kind| kind != "default") {
            let what = "`config.json`: RoPE scaling of layers with a window can't be carried over".to_owned();
            return Err(config_error(what));
        }
    }
    let rope = rope_of(json);
    let factor = || {
        number(rope, "factor")
            .ok_or_else(|| config_error("`config.json`: RoPE scaling has no number `factor`".into()))
    };
    let original = || {
        let own = rope["original_max_position_embeddings"].as_u64();
        own.or_else(|| json["original_max_position_embeddings"].as_u64())
            .or_else(|| json["max_position_embeddings"].as_u64())
            .unwrap_or(0) as u32
    };
    match rope_type(rope) {
        // Llama 3's way is a tensor; the dynamic kind begins where this program's contexts end.
        None | Some("default" | "dynamic" | "llama3") => {}
        Some("linear") => {
            metadata.string(&key("scaling.type"), "linear");
            metadata.f32(&key("scaling.factor"), factor()?);
        }
        Some("yarn") => {
            if rope["truncate"] == false {
                let what = "`config.json`: RoPE scaling's `truncate` false can't be carried over".to_owned();
                return Err(config_error(what));
            }
            metadata.string(&key("scaling.type"), "yarn");
            metadata.f32(&key("scaling.factor"), factor()?);
            metadata.u32(&key("scaling.original_context_length"), original());
            for (json, gguf) in [("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")] {
                if let Some(beta) = number(rope, json) {
                    metadata.f32(&key(&format!("scaling.{gguf}")), beta);
                }
            }
            let attention = magnitude(config) / Scaling::yarn_magnitude(factor()?);
            if (attention - 1.0).abs() > 1e-6 {
                metadata.f32(&key("scaling.attn_factor"), attention);
            }
        }
        Some("longrope" | "su") => {
            metadata.u32(&key("scaling.original_context_length"), original());
            metadata.f32(&key("scaling.attn_factor"), magnitude(config));
        }
        Some(other) => {
            let what = format!("`config.json`: RoPE scaling `{other}` can't be carried over");
            return Err(config_error(what));
        }
    }
    Ok(())
}

pub(super) fn to_config(
    file: &GgufFile,
    config: &ModelConfig,
    settings: &mut Map<String, Value>,
) -> Result<()> {
    let arch = config.family.architecture();
    let find = |name: &str| file.find::<f32>(&format!("{arch}.rope.{name}"));
    let theta = find("freq_base")?.unwrap_or(10_000.0);
    settings.insert("rope_theta".into(), short(theta));
    if config.family == Family::Gemma3 {
        let local = find("freq_base_swa")?.unwrap_or(LOCAL_THETA);
        settings.insert("rope_local_base_freq".into(), short(local));
    }
    if rotary_dim(config) != config.head_dim {
        let part = rotary_dim(config) as f32 / config.head_dim as f32;
        settings.insert("partial_rotary_factor".into(), short(part));
    }
    let original = file.find::<u32>(&format!("{arch}.rope.scaling.original_context_length"))?;
    if let Some(original) = original.filter(|_| config.family == Family::Phi3) {
        settings.insert("original_max_position_embeddings".into(), json!(original));
    }
    settings.insert("rope_scaling".into(), scaling(file, config, theta, original)?);
    Ok(())
}

fn scaling(file: &GgufFile, config: &ModelConfig, theta: f32, original: Option<u32>) -> Result<Value> {
    let arch = config.family.architecture();
    let find = |name: &str| file.find::<f32>(&format!("{arch}.rope.scaling.{name}"));
    let longest = super::max_position_embeddings(file, config)?;
    let original = original.unwrap_or(longest);
    if let Some(divisors) = file.tensor(rope::TENSOR) {
        return Ok(Llama3::of_divisors(&divisors.to_f32(), theta)?.to_json());
    }
    if let (Some(short_factors), Some(long)) = (file.tensor(SHORT_FACTORS), file.tensor(LONG_FACTORS)) {
        let list = |values: &[f32]| values.iter().map(|&value| short(value)).collect::<Vec<_>>();
        let mut scaling = json!({
            "type": "longrope", "short_factor": list(&short_factors.to_f32()), "long_factor": list(&long.to_f32()),
        });
        let implied = Scaling::longrope_magnitude(longest as f32 / original as f32, original as usize);
        if (magnitude(config) / implied - 1.0).abs() > 1e-5 {
            scaling["attention_factor"] = short(magnitude(config));
        }
        return Ok(scaling);
    }
    let kind = file.find::<&str>(&format!("{arch}.rope.scaling.type"))?.unwrap_or("none");
    let factor = find("factor")?;
    match (kind, factor) {
        ("none", _) => Ok(match file.find::<f32>(&format!("{arch}.rope.scale_linear"))? {
            Some(factor) => json!({ "rope_type": "linear", "factor": short(factor) }),
            None => Value::Null,
        }),
        ("linear", Some(factor)) => Ok(json!({ "rope_type": "linear", "factor": short(factor) })),
        ("yarn", Some(factor)) => {
            let mut scaling = json!({
                "rope_type": "yarn", "factor": short(factor), "original_max_position_embeddings": original,
            });
            for (json, gguf) in [("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")] {
                if let Some(beta) = find(gguf)? {
                    scaling[json] = short(beta);
                }
            }
            if (magnitude(config) / Scaling::yarn_magnitude(factor) - 1.0).abs() > 1e-5 {
                scaling["attention_factor"] = short(magnitude(config));
            }
            Ok(scaling)
        }
        (other, _) => Err(config_error(format!("RoPE scaling `{other}` can't be carried over"))),
    }
}
