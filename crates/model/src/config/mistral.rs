//! Mistral (Jiang et al. 2023), a Llama with a sliding window, and Mixtral (Jiang et al. 2024), its experts.
//!
//! In GGUF files both are called `llama`.

use super::family::{Family, HuggingFace, Traits};
use super::names::{self, ExpertNames, Names};

pub(super) const MISTRAL: Traits = Traits {
    family: Family::Mistral,
    gguf: None,
    hugging_face: HuggingFace {
        model_types: &["mistral"],
        class: "MistralForCausalLM",
        rope_theta: 10_000.0,
        names: names::HUGGING_FACE,
        read: |json, config| json.window_everywhere(config),
    },
};

pub(super) const MIXTRAL: Traits = Traits {
    family: Family::Mixtral,
    gguf: None,
    hugging_face: HuggingFace {
        model_types: &["mixtral"],
        class: "MixtralForCausalLM",
        rope_theta: 1e6,
        names: Names {
            experts: Some(ExpertNames {
                router: "block_sparse_moe.gate.weight",
                gate: "block_sparse_moe.experts.{}.w1.weight",
                up: "block_sparse_moe.experts.{}.w3.weight",
                down: "block_sparse_moe.experts.{}.w2.weight",
            }),
            ..names::HUGGING_FACE
        },
        read: |json, config| {
            json.window_everywhere(config)?;
            json.experts(config, "num_local_experts", "intermediate_size", true)?;
            config.layers.iter_mut().for_each(|layer| layer.has_experts = true);
            Ok(())
        },
    },
};
