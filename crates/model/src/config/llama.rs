//! Llama (Touvron et al. 2023) and what is built like it, `SmolLM2` among them: the plain family.

use super::family::{Family, Gguf, HuggingFace, Traits};
use super::names;

pub(super) const LLAMA: Traits = Traits {
    family: Family::Llama,
    gguf: Some(Gguf {
        architecture: "llama",
        interleaved: true,
        // Mixtral's files say `llama` as well.
        names: names::Names { experts: names::GGUF_EXPERTS, ..names::GGUF },
        read: |keys, config| {
            keys.window_everywhere(config)?;
            keys.experts_everywhere(config, true)
        },
    }),
    hugging_face: HuggingFace {
        model_types: &["llama"],
        class: "LlamaForCausalLM",
        rope_theta: 10_000.0,
        names: names::HUGGING_FACE,
        read: |_, _| Ok(()),
    },
};
