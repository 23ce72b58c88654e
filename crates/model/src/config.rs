//! A decoder's shape, read from a GGUF file's metadata or a Hugging Face `config.json`.
//!
//! A family is data: how its keys are called, how its heads are rotated, whether projections have a bias.
//! Doors left for later families: QK-norm, sliding windows, soft caps and RoPE scaling are refused by name
//! instead of being ignored.

use hearth_tensor::graph::Rope;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::{GgufFile, SafetensorsFolder};

/// Model families whose weights this decoder can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    Llama,
    Qwen2,
}

impl Family {
    /// From `general.architecture` or `model_type`: both use the same words.
    fn from_name(name: &str) -> Result<Self> {
        match name {
            "llama" => Ok(Self::Llama),
            "qwen2" => Ok(Self::Qwen2),
            _ => Err(Error::Family { name: name.into() }),
        }
    }

    /// How GGUF files of this family store q and k: the llama converter reorders rows for adjacent pairs.
    fn interleaved_in_gguf(self) -> bool {
        self == Self::Llama
    }
}

/// Everything about a decoder but its weights. Names are those of `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    pub family: Family,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub num_layers: usize,
    pub num_heads: usize,
    pub num_kv_heads: usize,
    pub head_dim: usize,
    pub intermediate_size: usize,
    /// Positions the model was trained for.
    pub max_seq_len: usize,
    pub rope: Rope,
    pub rms_norm_eps: f32,
}

impl ModelConfig {
    /// Reads `<architecture>.*`; the vocabulary's size is that of the embedding.
    pub fn from_gguf(file: &GgufFile) -> Result<Self> {
        let family = Family::from_name(file.meta_str("general.architecture")?)?;
        let arch = file.meta_str("general.architecture")?;
        let number = |key: &str| Ok::<_, Error>(file.meta_u32(&format!("{arch}.{key}"))? as usize);
        let optional =
            |key: &str| Ok::<_, Error>(file.find::<u32>(&format!("{arch}.{key}"))?.map(|n| n as usize));
        if let Some(scaling) = file.find::<&str>(&format!("{arch}.rope.scaling.type"))? {
            refuse("rope.scaling.type", scaling, "none")?;
        }
        let num_heads = number("attention.head_count")?;
        let hidden_size = number("embedding_length")?;
        let embedding = file.require("token_embd.weight")?;
        let config = Self {
            family,
            vocab_size: embedding.shape.first().copied().unwrap_or(0),
            hidden_size,
            num_layers: number("block_count")?,
            num_heads,
            num_kv_heads: optional("attention.head_count_kv")?.unwrap_or(num_heads),
            head_dim: optional("attention.key_length")?.unwrap_or(hidden_size / num_heads.max(1)),
            intermediate_size: number("feed_forward_length")?,
            max_seq_len: number("context_length")?,
            rope: Rope {
                theta: file.find::<f32>(&format!("{arch}.rope.freq_base"))?.unwrap_or(10_000.0),
                interleaved: family.interleaved_in_gguf(),
            },
            rms_norm_eps: file.meta_f32(&format!("{arch}.attention.layer_norm_rms_epsilon"))?,
        };
        config.check()
    }

    /// Reads `config.json` of a Hugging Face folder.
    pub fn from_folder(folder: &SafetensorsFolder) -> Result<Self> {
        let json: HfConfig = serde_json::from_value(folder.config().clone()).map_err(|error| {
            Error::Config { what: format!("`{}/config.json`: {error}", folder.path().display()) }
        })?;
        if let Some(scaling) = json.rope_scaling.as_ref().filter(|scaling| !scaling.is_null()) {
            refuse("rope_scaling", &scaling.to_string(), "null")?;
        }
        if json.use_sliding_window == Some(true) {
            refuse("use_sliding_window", "true", "false")?;
        }
        refuse("hidden_act", &json.hidden_act, "silu")?;
        let config = Self {
            family: Family::from_name(&json.model_type)?,
            vocab_size: json.vocab_size,
            hidden_size: json.hidden_size,
            num_layers: json.num_hidden_layers,
            num_heads: json.num_attention_heads,
            num_kv_heads: json.num_key_value_heads.unwrap_or(json.num_attention_heads),
            head_dim: json.head_dim.unwrap_or(json.hidden_size / json.num_attention_heads.max(1)),
            intermediate_size: json.intermediate_size,
            max_seq_len: json.max_position_embeddings,
            rope: Rope { theta: json.rope_theta.unwrap_or(10_000.0), interleaved: false },
            rms_norm_eps: json.rms_norm_eps,
        };
        config.check()
    }

    fn check(self) -> Result<Self> {
        let named = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_layers", self.num_layers),
            ("num_heads", self.num_heads),
            ("num_kv_heads", self.num_kv_heads),
            ("head_dim", self.head_dim),
            ("intermediate_size", self.intermediate_size),
            ("max_seq_len", self.max_seq_len),
        ];
        if let Some((name, value)) = named.into_iter().find(|&(_, value)| value == 0 || value > 1 << 24) {
            return Err(Error::Config { what: format!("`{name}` {value} isn't a size of a model") });
        }
        if !self.num_heads.is_multiple_of(self.num_kv_heads) {
            let (heads, kv) = (self.num_heads, self.num_kv_heads);
            let what = format!("`num_heads` {heads} isn't a multiple of `num_kv_heads` {kv}");
            return Err(Error::Config { what });
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(Error::Config { what: format!("`head_dim` {} is odd", self.head_dim) });
        }
        Ok(self)
    }
}

fn refuse(key: &str, found: &str, known: &str) -> Result<()> {
    if found == known {
        return Ok(());
    }
    Err(Error::Config { what: format!("`{key}` {found} isn't supported yet, only {known}") })
}

/// The keys of `config.json` that matter here.
#[derive(Debug, Deserialize)]
struct HfConfig {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: usize,
    max_position_embeddings: usize,
    rope_theta: Option<f32>,
    rope_scaling: Option<serde_json::Value>,
    rms_norm_eps: f32,
    use_sliding_window: Option<bool>,
    #[serde(default = "silu")]
    hidden_act: String,
}

fn silu() -> String {
    "silu".into()
}
