//! What a family's tensors are called: patterns in which `{}` is the number of a layer or of an expert.

use std::borrow::Cow;

use crate::decoder::Projection;

/// The names of one family in one kind of file. Those of a layer follow the layer's prefix.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) embedding: &'static str,
    pub(crate) norm: &'static str,
    /// The output head; where there is none, the embedding is.
    pub(crate) head: &'static str,
    /// `{}` is the layer.
    pub(crate) layer: &'static str,
    pub(crate) attention_norm: &'static str,
    pub(crate) q: Place,
    pub(crate) k: Place,
    pub(crate) v: Place,
    pub(crate) o: Place,
    /// Norms of each head of q and of k.
    pub(crate) qk_norms: Option<[&'static str; 2]>,
    pub(crate) post_attention_norm: Option<&'static str>,
    pub(crate) mlp_norm: &'static str,
    pub(crate) gate: Place,
    pub(crate) up: Place,
    pub(crate) down: Place,
    pub(crate) post_mlp_norm: Option<&'static str>,
    pub(crate) experts: Option<ExpertNames>,
}

/// Where a matrix lies: a tensor of its own, or consecutive rows of one that several share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Without `.weight` or `.bias`.
    pub(crate) tensor: &'static str,
    /// The matrices whose rows are in the tensor, in order; this one's alone if empty.
    pub(crate) fused: &'static [Projection],
}

/// The names of a mixture of experts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExpertNames {
    pub(crate) router: &'static str,
    /// `{}` is the expert; without it all experts lie in one tensor, one after the other.
    pub(crate) gate: &'static str,
    pub(crate) up: &'static str,
    pub(crate) down: &'static str,
}

impl Place {
    /// A tensor of its own.
    pub(crate) const fn own(tensor: &'static str) -> Self {
        Self { tensor, fused: &[] }
    }
}

impl Names {
    pub(crate) fn place(&self, which: Projection) -> Place {
        match which {
            Projection::Q => self.q,
            Projection::K => self.k,
            Projection::V => self.v,
            Projection::O => self.o,
            Projection::Gate => self.gate,
            Projection::Up => self.up,
            Projection::Down => self.down,
        }
    }

    /// The full name of a part of a layer.
    pub(crate) fn in_layer(&self, layer: usize, part: &str) -> String {
        format!("{}{part}", numbered(self.layer, layer))
    }
}

/// `pattern` with the number in the place of `{}`.
pub(crate) fn numbered(pattern: &'static str, number: usize) -> Cow<'static, str> {
    match pattern.split_once("{}") {
        Some((before, after)) => format!("{before}{number}{after}").into(),
        None => pattern.into(),
    }
}

/// The plain names of GGUF files, those of Llama.
pub(crate) const GGUF: Names = Names {
    embedding: "token_embd.weight",
    norm: "output_norm.weight",
    head: "output.weight",
    layer: "blk.{}.",
    attention_norm: "attn_norm.weight",
    q: Place::own("attn_q"),
    k: Place::own("attn_k"),
    v: Place::own("attn_v"),
    o: Place::own("attn_output"),
    qk_norms: None,
    post_attention_norm: None,
    mlp_norm: "ffn_norm.weight",
    gate: Place::own("ffn_gate"),
    up: Place::own("ffn_up"),
    down: Place::own("ffn_down"),
    post_mlp_norm: None,
    experts: None,
};

/// The plain names of Hugging Face folders, those of Llama.
pub(crate) const HUGGING_FACE: Names = Names {
    embedding: "model.embed_tokens.weight",
    norm: "model.norm.weight",
    head: "lm_head.weight",
    layer: "model.layers.{}.",
    attention_norm: "input_layernorm.weight",
    q: Place::own("self_attn.q_proj"),
    k: Place::own("self_attn.k_proj"),
    v: Place::own("self_attn.v_proj"),
    o: Place::own("self_attn.o_proj"),
    qk_norms: None,
    post_attention_norm: None,
    mlp_norm: "post_attention_layernorm.weight",
    gate: Place::own("mlp.gate_proj"),
    up: Place::own("mlp.up_proj"),
    down: Place::own("mlp.down_proj"),
    post_mlp_norm: None,
    experts: None,
};

/// Norms of q's and k's heads in GGUF files.
pub(crate) const GGUF_QK_NORMS: Option<[&str; 2]> = Some(["attn_q_norm.weight", "attn_k_norm.weight"]);

/// Norms of q's and k's heads in Hugging Face folders.
pub(crate) const HUGGING_FACE_QK_NORMS: Option<[&str; 2]> =
    Some(["self_attn.q_norm.weight", "self_attn.k_norm.weight"]);

/// Experts in GGUF files.
pub(crate) const GGUF_EXPERTS: Option<ExpertNames> = Some(ExpertNames {
    router: "ffn_gate_inp.weight",
    gate: "ffn_gate_exps.weight",
    up: "ffn_up_exps.weight",
    down: "ffn_down_exps.weight",
});
