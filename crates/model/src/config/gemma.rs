//! Gemma 2 (Gemma Team 2024): soft caps, windows in every second layer, four norms a layer. Gemma 3 (Gemma Team
//! 2025): norms of q and k instead of caps, windows in five of six layers, with a rotation of their own.
//!
//! Hugging Face folders hold norms as their difference to 1; GGUF files hold them whole.

use hearth_tensor::graph::{Activation, Rope};

use super::family::{Family, Gguf, HuggingFace, Traits};
use super::gguf::Keys;
use super::hugging_face::Json;
use super::names::{self, Names};
use super::{ModelConfig, refuse};
use crate::error::Result;

/// The rotation of Gemma 3's layers with a window.
pub(crate) const LOCAL_THETA: f32 = 10_000.0;

/// Layers of Gemma 2 27B and Gemma 3 27B, whose scores are scaled by the width of a head's share of the hidden
/// size instead of by `head_dim`. GGUF files don't say so.
pub(crate) const LAYERS_OF_27B: [usize; 2] = [46, 62];

const GGUF_NAMES: Names = Names {
    post_attention_norm: Some("post_attention_norm.weight"),
    post_mlp_norm: Some("post_ffw_norm.weight"),
    ..names::GGUF
};

const HUGGING_FACE_NAMES: Names = Names {
    post_attention_norm: Some("post_attention_layernorm.weight"),
    mlp_norm: "pre_feedforward_layernorm.weight",
    post_mlp_norm: Some("post_feedforward_layernorm.weight"),
    ..names::HUGGING_FACE
};

pub(super) const GEMMA2: Traits = Traits {
    family: Family::Gemma2,
    gguf: Some(Gguf {
        architecture: "gemma2",
        interleaved: false,
        names: GGUF_NAMES,
        read: |keys, config| {
            config.attention_soft_cap = Some(keys.find("attn_logit_softcapping")?.unwrap_or(50.0));
            config.final_soft_cap = Some(keys.find("final_logit_softcapping")?.unwrap_or(30.0));
            gguf(keys, config, 2)
        },
    }),
    hugging_face: HuggingFace {
        model_types: &["gemma2"],
        class: "Gemma2ForCausalLM",
        rope_theta: 10_000.0,
        names: HUGGING_FACE_NAMES,
        read: |json, config| {
            config.attention_soft_cap = json.find_or("attn_logit_softcapping", 50.0)?;
            config.final_soft_cap = json.find_or("final_logit_softcapping", 30.0)?;
            hugging_face(json, config, 2)
        },
    },
};

pub(super) const GEMMA3: Traits = Traits {
    family: Family::Gemma3,
    gguf: Some(Gguf {
        architecture: "gemma3",
        interleaved: false,
        names: Names { qk_norms: names::GGUF_QK_NORMS, ..GGUF_NAMES },
        read: |keys, config| {
            config.final_soft_cap = keys.find("final_logit_softcapping")?;
            gguf(keys, config, 6)?;
            let theta = keys.find("rope.freq_base_swa")?.unwrap_or(LOCAL_THETA);
            let local = Rope::new(theta, config.head_dim, config.interleaved);
            rotate_locally(config, &local);
            Ok(())
        },
    }),
    hugging_face: HuggingFace {
        model_types: &["gemma3_text"],
        class: "Gemma3ForCausalLM",
        rope_theta: 1e6,
        names: Names { qk_norms: names::HUGGING_FACE_QK_NORMS, ..HUGGING_FACE_NAMES },
        read: |json, config| {
            config.attention_soft_cap = json.find("attn_logit_softcapping")?;
            config.final_soft_cap = json.find("final_logit_softcapping")?;
            let is_bidirectional: bool = json.find("use_bidirectional_attention")?.unwrap_or(false);
            refuse("use_bidirectional_attention", &is_bidirectional.to_string(), "false")?;
            let pattern = json.find("sliding_window_pattern")?.unwrap_or(6);
            hugging_face(json, config, pattern)?;
            let local = json.local_rope(config.head_dim, LOCAL_THETA)?;
            rotate_locally(config, &local);
            Ok(())
        },
    },
};

fn gguf(keys: &Keys<'_>, config: &mut ModelConfig, pattern: usize) -> Result<()> {
    config.activation = Activation::Gelu;
    scale_embedding(config);
    if LAYERS_OF_27B.contains(&config.num_layers) {
        config.attention_scale = (config.hidden_size as f32 / config.num_heads as f32).sqrt().recip();
    }
    keys.windows(config, pattern)
}

fn hugging_face(json: &Json<'_>, config: &mut ModelConfig, pattern: usize) -> Result<()> {
    config.activation = json.activation(Activation::Gelu)?;
    scale_embedding(config);
    config.norms_from_one = true;
    let scalar: f32 = json.find("query_pre_attn_scalar")?.unwrap_or(256.0);
    config.attention_scale = scalar.sqrt().recip();
    let window = json.find::<usize>("sliding_window")?.unwrap_or(4096);
    let slides = json.sliding_layers(config.num_layers, |index| slides(index, pattern))?;
    for (layer, slides) in config.layers.iter_mut().zip(slides) {
        layer.window = slides.then_some(window);
    }
    Ok(())
}

fn scale_embedding(config: &mut ModelConfig) {
    config.embedding_scale = Some((config.hidden_size as f32).sqrt());
}

/// Every `pattern`-th layer sees everything.
pub(super) fn slides(index: usize, pattern: usize) -> bool {
    pattern > 0 && !(index + 1).is_multiple_of(pattern)
}

fn rotate_locally(config: &mut ModelConfig, local: &Rope) {
    for layer in config.layers.iter_mut().filter(|layer| layer.window.is_some()) {
        layer.rope = local.clone();
    }
}
