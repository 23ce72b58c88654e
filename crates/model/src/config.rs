//! A decoder's shape, read from a GGUF file's metadata or a Hugging Face `config.json`.
//!
//! A family is data: `family` lists them, and one file a family holds what it reads besides the common keys and
//! what its tensors are called. What a reader can't compute is refused by the key's name instead of being ignored.
//!
//! * `family` — the families, and what each is made of
//! * `llama`, `mistral`, `qwen`, `gemma`, `phi` — the families themselves
//! * `gguf`, `hugging_face` — the keys that families share, in either kind of file
//! * `rope` — ways of stretching a context, as frequencies
//! * `names` — what tensors are called

mod family;

mod gemma;
mod llama;
mod mistral;
mod phi;
mod qwen;

mod gguf;
mod hugging_face;

pub(crate) mod names;
pub(crate) mod rope;

use hearth_kernels::attention::PageLayout;
use hearth_tensor::graph::{Activation, KvOptions, Rope, Routing};

pub use family::Family;
pub(crate) use gemma::{LAYERS_OF_27B, LOCAL_THETA};

use crate::error::{Error, Result};
use crate::files::{GgufFile, SafetensorsFolder};

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
    /// Of a dense MLP.
    pub intermediate_size: usize,
    /// Positions the model was trained for.
    pub max_seq_len: usize,
    pub rms_norm_eps: f32,
    /// Pairs of channels that rotate are neighbours, as GGUF's llama family stores them.
    pub interleaved: bool,
    /// Norms are stored as their difference to 1.
    pub norms_from_one: bool,
    /// Factor on embedded tokens.
    pub embedding_scale: Option<f32>,
    /// Factor on q·k before the softmax.
    pub attention_scale: f32,
    pub attention_soft_cap: Option<f32>,
    pub final_soft_cap: Option<f32>,
    pub activation: Activation,
    /// The output head is the embedding. Where a file doesn't say, it is if there is no head.
    pub is_tied: Option<bool>,
    /// Of the layers that have experts.
    pub experts: Option<ExpertsConfig>,
    /// In order, one a layer.
    pub layers: Vec<LayerConfig>,
}

/// What differs from layer to layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerConfig {
    pub rope: Rope,
    /// How many positions a row sees, its own included; without one, all up to its own.
    pub window: Option<usize>,
    /// A mixture of experts in the place of the dense MLP.
    pub has_experts: bool,
}

/// A mixture of experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertsConfig {
    pub num_experts: usize,
    /// Of one expert.
    pub intermediate_size: usize,
    pub routing: Routing,
}

impl ModelConfig {
    /// Reads `<architecture>.*`; the vocabulary's size is that of the embedding.
    pub fn from_gguf(file: &GgufFile) -> Result<Self> {
        let name = file.meta_str("general.architecture")?;
        let (family, gguf) = Family::from_gguf(name)?;
        let keys = gguf::Keys { file, architecture: name };
        let mut config = gguf::read(&keys, family, gguf)?;
        (gguf.read)(&keys, &mut config)?;
        config.check()
    }

    /// Reads `config.json` of a Hugging Face folder.
    pub fn from_folder(folder: &SafetensorsFolder) -> Result<Self> {
        Self::from_keys(&hugging_face::Json::new(folder))
    }

    /// Reads a `config.json` that isn't on a disk yet.
    pub fn from_json(json: &serde_json::Value) -> Result<Self> {
        Self::from_keys(&hugging_face::Json::of(json))
    }

    fn from_keys(json: &hugging_face::Json<'_>) -> Result<Self> {
        let (family, hugging_face) = Family::from_hugging_face(&json.require::<String>("model_type")?)?;
        let mut config = hugging_face::read(json, family, hugging_face)?;
        (hugging_face.read)(json, &mut config)?;
        config.check()
    }

    /// How a sequence's keys and values are laid out.
    pub fn page_layout(&self, kv: KvOptions) -> PageLayout {
        PageLayout {
            num_layers: self.num_layers,
            num_kv_heads: self.num_kv_heads,
            head_dim: self.head_dim,
            kv_type: kv.kv_type,
            has_bounds: kv.sparse_pages.is_some(),
        }
    }

    fn check(self) -> Result<Self> {
        let experts = self.experts.unwrap_or(ExpertsConfig {
            num_experts: 1,
            intermediate_size: 1,
            routing: Routing { top_k: 1, normalised: true },
        });
        let windows = self.layers.iter().filter_map(|layer| layer.window).min();
        for (name, value) in [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_layers", self.num_layers),
            ("num_heads", self.num_heads),
            ("num_kv_heads", self.num_kv_heads),
            ("head_dim", self.head_dim),
            ("intermediate_size", self.intermediate_size),
            ("max_seq_len", self.max_seq_len),
            ("sliding_window", windows.unwrap_or(1)),
            ("num_experts", experts.num_experts),
            ("moe_intermediate_size", experts.intermediate_size),
            ("num_experts_per_tok", experts.routing.top_k),
        ] {
            check_size(name, value)?;
        }
        if !self.num_heads.is_multiple_of(self.num_kv_heads) {
            let (heads, kv) = (self.num_heads, self.num_kv_heads);
            return Err(config_error(format!("`num_heads` {heads} isn't a multiple of `num_kv_heads` {kv}")));
        }
        if experts.routing.top_k > experts.num_experts {
            let (chosen, all) = (experts.routing.top_k, experts.num_experts);
            return Err(config_error(format!("`num_experts_per_tok` {chosen} exceeds `num_experts` {all}")));
        }
        for (name, value) in [
            ("embedding_scale", self.embedding_scale.unwrap_or(1.0)),
            ("query_pre_attn_scalar", self.attention_scale),
            ("attn_logit_softcapping", self.attention_soft_cap.unwrap_or(1.0)),
            ("final_logit_softcapping", self.final_soft_cap.unwrap_or(1.0)),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Err(config_error(format!("`{name}` leads to {value}, expected a positive number")));
            }
        }
        if !(self.rms_norm_eps.is_finite() && self.rms_norm_eps >= 0.0) {
            let what = format!("`rms_norm_eps` is {}, expected 0 or a little more", self.rms_norm_eps);
            return Err(config_error(what));
        }
        Ok(self)
    }
}

/// The largest size of a model that is believed; a larger one would only be allocated for.
fn check_size(name: &str, value: usize) -> Result<()> {
    let largest = if name == "num_layers" || name == "head_dim" { 1 << 14 } else { 1 << 24 };
    if value == 0 || value > largest {
        return Err(config_error(format!("`{name}` {value} isn't a size of a model")));
    }
    Ok(())
}

fn config_error(what: String) -> Error {
    Error::Config { what }
}

fn refuse(key: &str, found: &str, known: &str) -> Result<()> {
    if found == known {
        return Ok(());
    }
    Err(config_error(format!("`{key}` {found} isn't supported yet, only {known}")))
}
