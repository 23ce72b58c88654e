//! The keys of a Hugging Face `config.json` that families share, in the spellings of transformers 4 and 5.

use std::path::Path;

use hearth_tensor::graph::{Activation, Rope, Routing};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::family::{Family, HuggingFace};
use super::rope::{Rotation, Scaling};
use super::{ExpertsConfig, LayerConfig, ModelConfig, check_size, config_error, refuse};
use crate::error::Result;
use crate::files::SafetensorsFolder;

/// An object of `config.json`.
#[derive(Clone, Copy)]
pub(super) struct Json<'a> {
    object: &'a Value,
    folder: &'a Path,
}

/// A Llama of the folder's sizes: what every family begins with.
pub(super) fn read(json: &Json<'_>, family: Family, hugging_face: &HuggingFace) -> Result<ModelConfig> {
    let (num_heads, hidden_size): (usize, usize) =
        (json.require("num_attention_heads")?, json.require("hidden_size")?);
    let num_layers = json.require("num_hidden_layers")?;
    check_size("num_layers", num_layers)?;
    let head_dim = json.find("head_dim")?.unwrap_or(hidden_size / num_heads.max(1));
    check_size("head_dim", head_dim)?;
    let rotation = json.rotation("full_attention", head_dim, hugging_face.rope_theta)?;
    let rope = rotation.rope(head_dim, false)?;
    Ok(ModelConfig {
        family,
        vocab_size: json.require("vocab_size")?,
        hidden_size,
        num_layers,
        num_heads,
        num_kv_heads: json.find("num_key_value_heads")?.unwrap_or(num_heads),
        head_dim,
        intermediate_size: json.require("intermediate_size")?,
        max_seq_len: rotation.max_seq_len,
        rms_norm_eps: json.require("rms_norm_eps")?,
        interleaved: false,
        norms_from_one: false,
        embedding_scale: None,
        attention_scale: 1.0 / (head_dim as f32).sqrt(),
        attention_soft_cap: None,
        final_soft_cap: None,
        activation: json.activation(Activation::Silu)?,
        is_tied: json.find("tie_word_embeddings")?,
        experts: None,
        layers: vec![LayerConfig { rope, window: None, has_experts: false }; num_layers],
    })
}

impl<'a> Json<'a> {
    pub(super) fn new(folder: &'a SafetensorsFolder) -> Self {
        Self { object: folder.config(), folder: folder.path() }
    }

    /// Of a model that isn't on a disk yet.
    pub(super) fn of(object: &'a Value) -> Self {
        Self { object, folder: Path::new("new model") }
    }

    /// The value of `key`; `null` counts as not there.
    pub(super) fn find<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let Some(value) = self.object.get(key).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let found = serde_json::from_value(value.clone());
        found.map(Some).map_err(|error| self.error(&format!("`{key}` is {value}: {error}")))
    }

    pub(super) fn require<T: DeserializeOwned>(&self, key: &str) -> Result<T> {
        self.find(key)?.ok_or_else(|| self.error(&format!("`{key}` is missing")))
    }

    /// The value of `key`, `default` if it isn't there, nothing if it is `null`.
    pub(super) fn find_or<T: DeserializeOwned>(&self, key: &str, default: T) -> Result<Option<T>> {
        if self.object.get(key).is_none() { Ok(Some(default)) } else { self.find(key) }
    }

    fn error(&self, problem: &str) -> crate::error::Error {
        config_error(format!("`{}/config.json`: {problem}", self.folder.display()))
    }

    pub(super) fn activation(&self, default: Activation) -> Result<Activation> {
        let found: Option<String> = match self.find("hidden_activation")? {
            Some(name) => Some(name),
            None => self.find("hidden_act")?,
        };
        match found.as_deref() {
            None => Ok(default),
            Some("silu") => Ok(Activation::Silu),
            Some("gelu_pytorch_tanh") => Ok(Activation::Gelu),
            Some(other) => {
                let what =
                    format!("`hidden_act` {other} isn't supported yet, only silu and gelu_pytorch_tanh");
                Err(config_error(what))
            }
        }
    }

    /// `sliding_window`, if there is one, for all layers.
    pub(super) fn window_everywhere(&self, config: &mut ModelConfig) -> Result<()> {
        let window = self.find::<usize>("sliding_window")?;
        config.layers.iter_mut().for_each(|layer| layer.window = window);
        Ok(())
    }

    /// Whether each layer has a window: by `layer_types`, else by the family's rule.
    pub(super) fn sliding_layers(
        &self,
        num_layers: usize,
        rule: impl Fn(usize) -> bool,
    ) -> Result<Vec<bool>> {
        let Some(types) = self.find::<Vec<String>>("layer_types")? else {
            return Ok((0..num_layers).map(rule).collect());
        };
        if types.len() != num_layers {
            let what = format!("`layer_types` has {} entries for {num_layers} layers", types.len());
            return Err(self.error(&what));
        }
        let slides = |kind: &String| match kind.as_str() {
            "sliding_attention" => Ok(true),
            "full_attention" => Ok(false),
            other => Err(self.error(&format!("`layer_types` names `{other}`, which isn't supported yet"))),
        };
        types.iter().map(slides).collect()
    }

    /// Experts of the sizes under the given keys.
    pub(super) fn experts(
        &self,
        config: &mut ModelConfig,
        count: &str,
        intermediate_size: &str,
        normalised: bool,
    ) -> Result<()> {
        let top_k = self.require("num_experts_per_tok")?;
        config.experts = Some(ExpertsConfig {
            // Newer files of transformers spell it `num_local_experts` for all families.
            num_experts: match (self.find("num_experts")?, self.find("num_local_experts")?) {
                (Some(count), _) | (None, Some(count)) => count,
                (None, None) => self.require(count)?,
            },
            intermediate_size: self.require(intermediate_size)?,
            routing: Routing { top_k, normalised },
        });
        Ok(())
    }

    /// The rotation of layers with a window, where it is another.
    pub(super) fn local_rope(&self, head_dim: usize, theta: f32) -> Result<Rope> {
        let has_own = self.object.pointer("/rope_parameters/sliding_attention").is_some();
        let rotation = if has_own {
            self.rotation("sliding_attention", head_dim, theta)?
        } else {
            Rotation {
                theta: self.find("rope_local_base_freq")?.unwrap_or(theta),
                rotary_dim: head_dim,
                scaling: Scaling::None,
                factors: None,
                magnitude: 1.0,
                max_seq_len: self.require("max_position_embeddings")?,
            }
        };
        rotation.rope(head_dim, false)
    }

    /// `rope_parameters`, of the layers of one type if it tells them apart, or `rope_scaling` and `rope_theta`.
    fn rotation(&self, layer_type: &str, head_dim: usize, theta: f32) -> Result<Rotation> {
        let by_type = |object: &'a Value| object.get(layer_type).unwrap_or(object);
        let object = match self.object.get("rope_parameters").filter(|value| !value.is_null()) {
            Some(parameters) => by_type(parameters),
            None => self.object.get("rope_scaling").unwrap_or(&Value::Null),
        };
        let rope = Self { object, ..*self };
        let theta = match rope.find("rope_theta")? {
            Some(theta) => theta,
            None => self.find("rope_theta")?.unwrap_or(theta),
        };
        let part = match rope.find::<f64>("partial_rotary_factor")? {
            Some(part) => part,
            None => self.find("partial_rotary_factor")?.unwrap_or(1.0),
        };
        let rotation = Rotation {
            theta,
            rotary_dim: (head_dim as f64 * part) as usize,
            scaling: Scaling::None,
            factors: None,
            magnitude: 1.0,
            max_seq_len: self.require("max_position_embeddings")?,
        };
        rope.stretched(self, rotation)
    }

    /// A rotation as `rope_type` (`type` before transformers 4.43) asks for; `config` is the whole file.
    fn stretched(&self, config: &Self, plain: Rotation) -> Result<Rotation> {
        let kind = match self.find::<String>("rope_type")? {
            Some(kind) => kind,
            None => self.find("type")?.unwrap_or_else(|| "default".into()),
        };
        let original = match self.find("original_max_position_embeddings")? {
            Some(length) => length,
            None => config.find("original_max_position_embeddings")?.unwrap_or(plain.max_seq_len),
        };
        let magnitude: Option<f32> = self.find("attention_factor")?;
        let scaling = match kind.as_str() {
            // The dynamic kind begins to stretch beyond `max_position_embeddings`, where this program ends.
            "default" | "dynamic" => Scaling::None,
            "linear" => Scaling::Linear { factor: self.require("factor")? },
            "llama3" => Scaling::Llama3 {
                factor: self.require("factor")?,
                low_freq_factor: self.require("low_freq_factor")?,
                high_freq_factor: self.require("high_freq_factor")?,
                original_max_seq_len: original,
            },
            "yarn" => {
                for key in ["mscale", "mscale_all_dim"] {
                    if let Some(value) = self.find::<f32>(key)? {
                        refuse(key, &value.to_string(), "none")?;
                    }
                }
                let factor = self.require("factor")?;
                let scaling = Scaling::Yarn {
                    factor,
                    original_max_seq_len: original,
                    beta_fast: self.find("beta_fast")?.unwrap_or(32.0),
                    beta_slow: self.find("beta_slow")?.unwrap_or(1.0),
                    truncated: self.find("truncate")?.unwrap_or(true),
                };
                let magnitude = magnitude.unwrap_or_else(|| Scaling::yarn_magnitude(factor));
                return Ok(Rotation { scaling, magnitude, ..plain });
            }
            "longrope" | "su" => {
                let factors = Some(self.require("short_factor")?);
                let stretch = plain.max_seq_len as f32 / original as f32;
                let factor = self.find("factor")?.unwrap_or(stretch);
                let magnitude = magnitude.unwrap_or_else(|| Scaling::longrope_magnitude(factor, original));
                let max_seq_len = plain.max_seq_len.min(original);
                return Ok(Rotation { factors, magnitude, max_seq_len, ..plain });
            }
            other => {
                return Err(config_error(format!(
                    "`rope_type` {other} isn't supported yet, only default, linear, dynamic, yarn, llama3 and longrope"
                )));
            }
        };
        Ok(Rotation { scaling, ..plain })
    }
}
