//! `config.json` to the keys of a GGUF file that describe a model's shape, and back.
//!
//! Both are read by the readers of `config` first; what is written here is what those read back to the same shape.
//! What a GGUF file of the family can't say is refused by its name.
//!
//! * `rotation` — RoPE's settings

mod rotation;

use serde_json::{Map, Value, json};

use super::names::family_in_folder;
use crate::config::{Family, ModelConfig};
use crate::error::{Error, Result};
use crate::files::GgufFile;
use crate::files::gguf::sink::Metadata;
use hearth_tensor::graph::Activation;

pub(super) use rotation::{is_made_tensor, made_tensors};

/// Every how many layers of a GGUF file one sees everything, where the file doesn't say.
const GEMMA2_PATTERN: usize = 2;
const GEMMA3_PATTERN: usize = 6;

fn config_error(what: String) -> Error {
    Error::Config { what }
}

fn refused(family: Family, what: &str) -> Error {
    let what = format!("{what} can't be said in a GGUF file of the family {family:?}");
    Error::Unconvertible { what }
}

pub(super) fn is_gemma(family: Family) -> bool {
    matches!(family, Family::Gemma2 | Family::Gemma3)
}

/// An error names what readers of a GGUF file of the family wouldn't know.
pub(super) fn check_gguf_can_hold(config: &ModelConfig) -> Result<()> {
    let family = config.family;
    let gelu = is_gemma(family);
    if (config.activation == Activation::Gelu) != gelu {
        return Err(refused(family, &format!("the activation {:?}", config.activation)));
    }
    let first = config.layers[0].window;
    let windows_fit = match family {
        Family::Llama | Family::Mistral | Family::Mixtral | Family::Phi3 => {
            config.layers.iter().all(|layer| layer.window == first)
        }
        Family::Qwen2 | Family::Qwen3 | Family::Qwen3Moe => {
            config.layers.iter().all(|layer| layer.window.is_none())
        }
        Family::Gemma2 | Family::Gemma3 => pattern(config).is_some(),
    };
    if !windows_fit {
        return Err(refused(family, "this choice of layers with a sliding window"));
    }
    if let Some(experts) = config.experts {
        if !config.layers.iter().all(|layer| layer.has_experts) {
            return Err(refused(
                family,
                "a layer without experts among others (`mlp_only_layers`, `decoder_sparse_step`)",
            ));
        }
        if !experts.routing.normalised {
            return Err(refused(family, "`norm_topk_prob` false"));
        }
    }
    let caps_fit = match family {
        Family::Gemma2 => config.attention_soft_cap.is_some() && config.final_soft_cap.is_some(),
        _ => config.attention_soft_cap.is_none(),
    };
    if !caps_fit {
        return Err(refused(family, &format!("`attn_logit_softcapping` {:?}", config.attention_soft_cap)));
    }
    let scale = implied_attention_scale(config);
    if (config.attention_scale - scale).abs() > scale * 1e-6 {
        let scalar = |scale: f32| (scale.powi(-2) * 1e3).round() / 1e3;
        let (found, known) = (scalar(config.attention_scale), scalar(scale));
        return Err(refused(family, &format!("`query_pre_attn_scalar` {found}, other than {known},")));
    }
    Ok(())
}

/// What readers of a GGUF file multiply scores with.
fn implied_attention_scale(config: &ModelConfig) -> f32 {
    if is_gemma(config.family) && crate::config::LAYERS_OF_27B.contains(&config.num_layers) {
        return (config.hidden_size as f32 / config.num_heads as f32).sqrt().recip();
    }
    (config.head_dim as f32).sqrt().recip()
}

/// Every how many layers one sees everything: the file's default if it says the same.
fn pattern(config: &ModelConfig) -> Option<usize> {
    let default = if config.family == Family::Gemma2 { GEMMA2_PATTERN } else { GEMMA3_PATTERN };
    let fits = |pattern: &usize| {
        let mut layers = config.layers.iter().enumerate();
        layers.all(|(index, layer)| layer.window.is_some() != (index + 1).is_multiple_of(*pattern))
    };
    std::iter::once(default).chain(1..=config.num_layers + 1).find(fits)
}

fn window(config: &ModelConfig) -> Option<usize> {
    config.layers.iter().find_map(|layer| layer.window)
}

/// Writes `<arch>.*` from a folder's settings.
pub(super) fn to_metadata(json: &Value, config: &ModelConfig, metadata: &mut Metadata) -> Result<()> {
    let arch = config.family.architecture();
    let mut size = |key: &str, value: usize| metadata.u32(&format!("{arch}.{key}"), value as u32);
    size("block_count", config.num_layers);
    size("context_length", json["max_position_embeddings"].as_u64().unwrap_or(0) as usize);
    size("embedding_length", config.hidden_size);
    size("feed_forward_length", config.intermediate_size);
    size("attention.head_count", config.num_heads);
    size("attention.head_count_kv", config.num_kv_heads);
    if config.head_dim * config.num_heads != config.hidden_size || is_gemma(config.family) {
        size("attention.key_length", config.head_dim);
        size("attention.value_length", config.head_dim);
    }
    size("rope.dimension_count", config.layers[0].rope.frequencies.len() * 2);
    size("vocab_size", config.vocab_size);
    if let Some(window) = window(config) {
        size("attention.sliding_window", window);
    }
    if let Some(pattern) = is_gemma(config.family).then(|| pattern(config)).flatten() {
        if pattern != if config.family == Family::Gemma2 { GEMMA2_PATTERN } else { GEMMA3_PATTERN } {
            size("attention.sliding_window_pattern", pattern);
        }
        if window(config).is_none() {
            // The readers ask for it; no layer has one.
            size("attention.sliding_window", config.max_seq_len);
        }
    }
    if let Some(experts) = config.experts {
        size("expert_count", experts.num_experts);
        size("expert_used_count", experts.routing.top_k);
        size("expert_feed_forward_length", experts.intermediate_size);
    }
    let mut float = |key: &str, value: f32| metadata.f32(&format!("{arch}.{key}"), value);
    float("attention.layer_norm_rms_epsilon", config.rms_norm_eps);
    if let Some(cap) = config.attention_soft_cap {
        float("attn_logit_softcapping", cap);
    }
    if let Some(cap) = config.final_soft_cap {
        float("final_logit_softcapping", cap);
    }
    rotation::to_metadata(json, config, metadata)
}

/// The number that a person would write for an f32: 1e-6, not 9.999999974752427e-7.
fn short(number: f32) -> Value {
    json!(number.to_string().parse::<f64>().unwrap_or(f64::from(number)))
}

/// The length a file names, beyond which [`ModelConfig::max_seq_len`] may not go.
pub(super) fn max_position_embeddings(file: &GgufFile, config: &ModelConfig) -> Result<u32> {
    Ok(file.meta_u32(&format!("{}.context_length", config.family.architecture()))?)
}

/// Makes `config.json` from the shape that `<arch>.*` says.
pub(super) fn to_config(file: &GgufFile, config: &ModelConfig, dtype: &str) -> Result<Map<String, Value>> {
    let family = family_in_folder(config);
    let tied = file.tensor("output.weight").is_none();
    let experts = config.experts.map_or(config.intermediate_size, |experts| experts.intermediate_size);
    let intermediate_size = if family == Family::Mixtral { experts } else { config.intermediate_size };
    let mut settings = Map::new();
    let mut put = |key: &str, value: Value| drop(settings.insert(key.into(), value));
    put("architectures", json!([family.class()]));
    put("model_type", json!(family.model_type()));
    put("num_hidden_layers", json!(config.num_layers));
    put("max_position_embeddings", json!(max_position_embeddings(file, config)?));
    put("hidden_size", json!(config.hidden_size));
    put("intermediate_size", json!(intermediate_size));
    put("num_attention_heads", json!(config.num_heads));
    put("num_key_value_heads", json!(config.num_kv_heads));
    put("head_dim", json!(config.head_dim));
    put("vocab_size", json!(config.vocab_size));
    put("rms_norm_eps", short(config.rms_norm_eps));
    put("tie_word_embeddings", json!(tied));
    put("torch_dtype", json!(dtype));
    put("use_cache", json!(true));
    for (key, gguf) in [("bos_token_id", "bos"), ("eos_token_id", "eos"), ("pad_token_id", "padding")] {
        let id = file.find::<u32>(&format!("tokenizer.ggml.{gguf}_token_id"))?;
        put(key, id.map_or(Value::Null, |id| json!(id)));
    }
    rotation::to_config(file, config, &mut settings)?;
    settings.extend(of_family(file, family, config));
    Ok(settings)
}

/// The settings that only some families have.
fn of_family(file: &GgufFile, family: Family, config: &ModelConfig) -> Map<String, Value> {
    let mut settings = Map::new();
    let mut put = |key: &str, value: Value| drop(settings.insert(key.into(), value));
    put(
        if is_gemma(family) { "hidden_activation" } else { "hidden_act" },
        match config.activation {
            Activation::Silu => json!("silu"),
            Activation::Gelu => json!("gelu_pytorch_tanh"),
        },
    );
    match family {
        Family::Llama => {
            put("attention_bias", json!(file.tensor("blk.0.attn_q.bias").is_some()));
            put("mlp_bias", json!(file.tensor("blk.0.ffn_up.bias").is_some()));
        }
        Family::Mistral | Family::Mixtral | Family::Phi3 => put("sliding_window", json!(window(config))),
        Family::Qwen2 | Family::Qwen3 | Family::Qwen3Moe => put("use_sliding_window", json!(false)),
        Family::Gemma2 | Family::Gemma3 => {
            let kind = |slides| if slides { "sliding_attention" } else { "full_attention" };
            let kinds = config.layers.iter().map(|layer| kind(layer.window.is_some()));
            put("layer_types", json!(kinds.collect::<Vec<_>>()));
            put("sliding_window", json!(window(config)));
            // transformers takes whole numbers only.
            put("query_pre_attn_scalar", json!(config.attention_scale.powi(-2).round() as u64));
            put("attention_bias", json!(false));
            put("attn_logit_softcapping", config.attention_soft_cap.map_or(Value::Null, short));
            put("final_logit_softcapping", config.final_soft_cap.map_or(Value::Null, short));
        }
    }
    if family == Family::Gemma3 {
        put("sliding_window_pattern", json!(pattern(config)));
    }
    if let Some(experts) = config.experts {
        put("num_experts_per_tok", json!(experts.routing.top_k));
        if family == Family::Mixtral {
            put("num_local_experts", json!(experts.num_experts));
        } else {
            put("num_experts", json!(experts.num_experts));
            put("moe_intermediate_size", json!(experts.intermediate_size));
            put("norm_topk_prob", json!(experts.routing.normalised));
            put("decoder_sparse_step", json!(1));
            put("mlp_only_layers", json!([]));
        }
    }
    settings
}
