//! Phi-3 (Abdin et al. 2024): a Llama whose q, k and v share one matrix, and gate and up another.
//!
//! Left out: the long variants, whose rotation depends on the length of the prompt (`longrope`).

use super::family::{Family, Gguf, HuggingFace, Traits};
use super::names::{self, Names, Place};
use crate::decoder::Projection;

const QKV: &[Projection] = &[Projection::Q, Projection::K, Projection::V];
const GATE_UP: &[Projection] = &[Projection::Gate, Projection::Up];

/// A family's names with q, k and v in one tensor, gate and up in another.
const fn fused(qkv: &'static str, gate_up: &'static str, names: Names) -> Names {
    let (qkv, gate_up) = (Place { tensor: qkv, fused: QKV }, Place { tensor: gate_up, fused: GATE_UP });
    Names { q: qkv, k: qkv, v: qkv, gate: gate_up, up: gate_up, ..names }
}

pub(super) const PHI3: Traits = Traits {
    family: Family::Phi3,
    gguf: Some(Gguf {
        architecture: "phi3",
        interleaved: false,
        names: fused("attn_qkv", "ffn_up", names::GGUF),
        read: |keys, config| keys.window_everywhere(config),
    }),
    hugging_face: HuggingFace {
        model_types: &["phi3"],
        rope_theta: 10_000.0,
        names: fused("self_attn.qkv_proj", "mlp.gate_up_proj", names::HUGGING_FACE),
        read: |json, config| json.window_everywhere(config),
    },
};
