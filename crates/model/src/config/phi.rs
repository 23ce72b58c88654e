//! Phi-3 (Abdin et al. 2024): a Llama whose q, k and v share one matrix, and gate and up another.
//! The long variants run up to their original length (see `rope`).

use super::family::{Family, Gguf, HuggingFace, Traits};
use super::names::{self, Names, Place};
use crate::decoder::Projection;

const QKV: &[Projection] = &[Projection::Q, Projection::K, Projection::V];
const GATE_UP: &[Projection] = &[Projection::Gate, Projection::Up];

const fn fused(tensor: &'static str, fused: &'static [Projection]) -> Place {
    Place { tensor, fused }
}

pub(super) const PHI3: Traits = Traits {
    family: Family::Phi3,
    gguf: Some(Gguf {
        architecture: "phi3",
        interleaved: false,
        names: Names {
            q: fused("attn_qkv", QKV),
            k: fused("attn_qkv", QKV),
            v: fused("attn_qkv", QKV),
            gate: fused("ffn_up", GATE_UP),
            up: fused("ffn_up", GATE_UP),
            ..names::GGUF
        },
        read: |keys, config| keys.window_everywhere(config),
    }),
    hugging_face: HuggingFace {
        model_types: &["phi3"],
        class: "Phi3ForCausalLM",
        rope_theta: 10_000.0,
        names: Names {
            q: fused("self_attn.qkv_proj", QKV),
            k: fused("self_attn.qkv_proj", QKV),
            v: fused("self_attn.qkv_proj", QKV),
            gate: fused("mlp.gate_up_proj", GATE_UP),
            up: fused("mlp.gate_up_proj", GATE_UP),
            ..names::HUGGING_FACE
        },
        read: |json, config| json.window_everywhere(config),
    },
};
