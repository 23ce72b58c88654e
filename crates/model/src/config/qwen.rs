//! Qwen2 (Yang et al. 2024): biases on q, k and v. Qwen3 (Yang et al. 2025): norms of q and k instead; and its
//! mixture of experts.

use super::family::{Family, Gguf, HuggingFace, Traits};
use super::hugging_face::Json;
use super::names::{self, ExpertNames, Names};
use super::{ModelConfig, config_error};
use crate::error::Result;

pub(super) const QWEN2: Traits = Traits {
    family: Family::Qwen2,
    gguf: Some(Gguf { architecture: "qwen2", interleaved: false, names: names::GGUF, read: |_, _| Ok(()) }),
    hugging_face: HuggingFace {
        model_types: &["qwen2"],
        class: "Qwen2ForCausalLM",
        rope_theta: 10_000.0,
        names: names::HUGGING_FACE,
        read: windows,
    },
};

pub(super) const QWEN3: Traits = Traits {
    family: Family::Qwen3,
    gguf: Some(Gguf {
        architecture: "qwen3",
        interleaved: false,
        names: Names { qk_norms: names::GGUF_QK_NORMS, ..names::GGUF },
        read: |_, _| Ok(()),
    }),
    hugging_face: HuggingFace {
        model_types: &["qwen3"],
        class: "Qwen3ForCausalLM",
        rope_theta: 10_000.0,
        names: Names { qk_norms: names::HUGGING_FACE_QK_NORMS, ..names::HUGGING_FACE },
        read: windows,
    },
};

pub(super) const QWEN3_MOE: Traits = Traits {
    family: Family::Qwen3Moe,
    gguf: Some(Gguf {
        architecture: "qwen3moe",
        interleaved: false,
        names: Names { qk_norms: names::GGUF_QK_NORMS, experts: names::GGUF_EXPERTS, ..names::GGUF },
        read: |keys, config| keys.experts_everywhere(config, true),
    }),
    hugging_face: HuggingFace {
        model_types: &["qwen3_moe"],
        class: "Qwen3MoeForCausalLM",
        rope_theta: 10_000.0,
        names: Names {
            qk_norms: names::HUGGING_FACE_QK_NORMS,
            experts: Some(ExpertNames {
                router: "mlp.gate.weight",
                gate: "mlp.experts.{}.gate_proj.weight",
                up: "mlp.experts.{}.up_proj.weight",
                down: "mlp.experts.{}.down_proj.weight",
            }),
            ..names::HUGGING_FACE
        },
        read: |json, config| {
            if json.find("use_sliding_window")?.unwrap_or(false) {
                json.window_everywhere(config)?;
            }
            let normalised = json.find("norm_topk_prob")?.unwrap_or(false);
            json.experts(config, "num_experts", "moe_intermediate_size", normalised)?;
            let step = json.find::<usize>("decoder_sparse_step")?.unwrap_or(1);
            if step == 0 {
                return Err(config_error("`decoder_sparse_step` is 0, expected at least 1".into()));
            }
            let dense: Vec<usize> = json.find("mlp_only_layers")?.unwrap_or_default();
            for (index, layer) in config.layers.iter_mut().enumerate() {
                layer.has_experts = (index + 1).is_multiple_of(step) && !dense.contains(&index);
            }
            Ok(())
        },
    },
};

/// The layers from `max_window_layers` on have a window, unless `layer_types` says otherwise.
fn windows(json: &Json<'_>, config: &mut ModelConfig) -> Result<()> {
    if !json.find("use_sliding_window")?.unwrap_or(false) {
        return Ok(());
    }
    let window = json.require::<usize>("sliding_window")?;
    let without = json.find::<usize>("max_window_layers")?.unwrap_or(28);
    let slides = json.sliding_layers(config.num_layers, |index| index >= without)?;
    for (layer, slides) in config.layers.iter_mut().zip(slides) {
        layer.window = slides.then_some(window);
    }
    Ok(())
}
