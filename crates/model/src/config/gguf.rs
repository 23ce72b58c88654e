//! The keys of a GGUF file that families share: `<architecture>.*` of ggml's `docs/gguf.md`.

use hearth_tensor::graph::{Activation, Routing};

use super::family::{Family, Gguf};
use super::rope::{Rotation, Scaling};
use super::{ExpertsConfig, LayerConfig, ModelConfig, check_size, config_error, gemma};
use crate::error::Result;
use crate::files::GgufFile;
use crate::files::gguf::FromValue;

/// A file's metadata below its architecture's name.
pub(super) struct Keys<'a> {
    pub(super) file: &'a GgufFile,
    pub(super) architecture: &'a str,
}

/// A Llama of the file's sizes: what every family begins with.
pub(super) fn read(keys: &Keys<'_>, family: Family, gguf: &Gguf) -> Result<ModelConfig> {
    let num_heads = keys.size("attention.head_count")?;
    let hidden_size = keys.size("embedding_length")?;
    let num_layers = keys.size("block_count")?;
    check_size("num_layers", num_layers)?;
    let head_dim = keys.optional_size("attention.key_length")?.unwrap_or(hidden_size / num_heads.max(1));
    check_size("head_dim", head_dim)?;
    if let Some(of_values) = keys.optional_size("attention.value_length")?.filter(|&dim| dim != head_dim) {
        let what = format!("`attention.value_length` {of_values} isn't `attention.key_length` {head_dim}");
        return Err(config_error(what));
    }
    let rotation = rotation(keys, head_dim)?;
    let rope = rotation.rope(head_dim, gguf.interleaved)?;
    let embedding = keys.file.require("token_embd.weight")?;
    Ok(ModelConfig {
        family,
        vocab_size: embedding.shape.first().copied().unwrap_or(0),
        hidden_size,
        num_layers,
        num_heads,
        num_kv_heads: keys.optional_size("attention.head_count_kv")?.unwrap_or(num_heads),
        head_dim,
        intermediate_size: keys.size("feed_forward_length")?,
        max_seq_len: rotation.max_seq_len,
        rms_norm_eps: keys.require("attention.layer_norm_rms_epsilon")?,
        interleaved: gguf.interleaved,
        norms_from_one: false,
        embedding_scale: None,
        attention_scale: 1.0 / (head_dim as f32).sqrt(),
        attention_soft_cap: None,
        final_soft_cap: None,
        activation: Activation::Silu,
        is_tied: None,
        experts: None,
        layers: vec![LayerConfig { rope, window: None, has_experts: false }; num_layers],
    })
}

fn rotation(keys: &Keys<'_>, head_dim: usize) -> Result<Rotation> {
    let longest = keys.size("context_length")?;
    let attention_factor = keys.find::<f32>("rope.scaling.attn_factor")?.unwrap_or(1.0);
    let rotation = Rotation {
        theta: keys.find("rope.freq_base")?.unwrap_or(10_000.0),
        rotary_dim: keys.optional_size("rope.dimension_count")?.unwrap_or(head_dim),
        scaling: Scaling::None,
        factors: keys.file.tensor("rope_freqs.weight").map(|factors| factors.to_f32()),
        magnitude: 1.0,
        max_seq_len: longest,
    };
    if let Some(short) = keys.file.tensor("rope_factors_short.weight") {
        let original = keys.size("rope.scaling.original_context_length")?;
        let max_seq_len = longest.min(original);
        let factors = Some(short.to_f32());
        return Ok(Rotation { factors, magnitude: attention_factor, max_seq_len, ..rotation });
    }
    let factor = keys.find::<f32>("rope.scaling.factor")?;
    let scaling = match (keys.find::<&str>("rope.scaling.type")?, factor) {
        (None | Some("none"), _) => match keys.find::<f32>("rope.scale_linear")? {
            Some(factor) => Scaling::Linear { factor },
            None => Scaling::None,
        },
        (Some("linear"), Some(factor)) => Scaling::Linear { factor },
        (Some("yarn"), Some(factor)) => Scaling::Yarn {
            factor,
            original_max_seq_len: keys
                .optional_size("rope.scaling.original_context_length")?
                .unwrap_or(longest),
            beta_fast: keys.find("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
            beta_slow: keys.find("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
            truncated: true,
        },
        (Some("linear" | "yarn"), None) => {
            return Err(config_error("`rope.scaling.type` without `rope.scaling.factor`".into()));
        }
        (Some(other), _) => {
            let what = format!("`rope.scaling.type` {other} isn't supported yet, only none, linear and yarn");
            return Err(config_error(what));
        }
    };
    let magnitude = match scaling {
        Scaling::Yarn { factor, .. } => attention_factor * Scaling::yarn_magnitude(factor),
        _ => 1.0,
    };
    Ok(Rotation { scaling, magnitude, ..rotation })
}

impl Keys<'_> {
    pub(super) fn find<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>> {
        Ok(self.file.find(&format!("{}.{key}", self.architecture))?)
    }

    fn require<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T> {
        Ok(self.file.meta(&format!("{}.{key}", self.architecture))?)
    }

    fn size(&self, key: &str) -> Result<usize> {
        Ok(self.require::<u32>(key)? as usize)
    }

    fn optional_size(&self, key: &str) -> Result<Option<usize>> {
        Ok(self.find::<u32>(key)?.map(|size| size as usize))
    }

    /// `attention.sliding_window`, if there is one, for all layers.
    pub(super) fn window_everywhere(&self, config: &mut ModelConfig) -> Result<()> {
        let window = self.optional_size("attention.sliding_window")?.filter(|&window| window > 0);
        config.layers.iter_mut().for_each(|layer| layer.window = window);
        Ok(())
    }

    /// `attention.sliding_window` for all layers but every `pattern`-th, unless the file has a pattern of its own.
    pub(super) fn windows(&self, config: &mut ModelConfig, pattern: usize) -> Result<()> {
        let window = self.size("attention.sliding_window")?;
        let key = "attention.sliding_window_pattern";
        let is_list = matches!(
            self.file.value(&format!("{}.{key}", self.architecture)),
            Some(crate::files::gguf::Value::Array(_))
        );
        if is_list {
            let what = format!("`{key}` as a list isn't supported yet, only a number");
            return Err(config_error(what));
        }
        let pattern = self.optional_size(key)?.unwrap_or(pattern);
        for (index, layer) in config.layers.iter_mut().enumerate() {
            layer.window = gemma::slides(index, pattern).then_some(window);
        }
        Ok(())
    }

    /// Experts in every layer, if the file has any.
    pub(super) fn experts_everywhere(&self, config: &mut ModelConfig, normalised: bool) -> Result<()> {
        let Some(num_experts) = self.optional_size("expert_count")?.filter(|&count| count > 0) else {
            return Ok(());
        };
        let of_expert = self.optional_size("expert_feed_forward_length")?;
        config.experts = Some(ExpertsConfig {
            num_experts,
            intermediate_size: of_expert.unwrap_or(config.intermediate_size),
            routing: Routing { top_k: self.size("expert_used_count")?, normalised },
        });
        config.layers.iter_mut().for_each(|layer| layer.has_experts = true);
        Ok(())
    }
}
