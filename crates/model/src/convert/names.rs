//! What tensors are called in GGUF files and in Hugging Face folders: a family is a table.
//!
//! GGUF's names follow `docs/gguf.md` of ggml, a folder's those of the `transformers` library.

/// In which order a GGUF file holds the rows of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// As a folder does.
    Same,
    /// Heads of q or k, whose halves rotate together in a folder: interleaved where the family's files are.
    Query,
    Key,
}

/// One kind of tensor; `{}` stands for the layer.
#[derive(Debug)]
pub(super) struct Name {
    gguf: &'static str,
    folder: &'static str,
    rows: Rows,
}

const fn name(gguf: &'static str, folder: &'static str) -> Name {
    Name { gguf, folder, rows: Rows::Same }
}

/// A family's files.
#[derive(Debug)]
pub(super) struct Family {
    /// `general.architecture`.
    pub(super) arch: &'static str,
    /// `model_type`.
    pub(super) model_type: &'static str,
    /// Of `transformers`, in `architectures`.
    pub(super) class: &'static str,
    /// Whether GGUF files hold q and k with neighbouring rows rotating together.
    pub(super) interleaved: bool,
    names: &'static [&'static [Name]],
}

const DECODER: &[Name] = &[
    name("token_embd.weight", "model.embed_tokens.weight"),
    name("blk.{}.attn_norm.weight", "model.layers.{}.input_layernorm.weight"),
    Name {
        gguf: "blk.{}.attn_q.weight",
        folder: "model.layers.{}.self_attn.q_proj.weight",
        rows: Rows::Query,
    },
    Name { gguf: "blk.{}.attn_k.weight", folder: "model.layers.{}.self_attn.k_proj.weight", rows: Rows::Key },
    name("blk.{}.attn_v.weight", "model.layers.{}.self_attn.v_proj.weight"),
    name("blk.{}.attn_output.weight", "model.layers.{}.self_attn.o_proj.weight"),
    name("blk.{}.ffn_norm.weight", "model.layers.{}.post_attention_layernorm.weight"),
    name("blk.{}.ffn_gate.weight", "model.layers.{}.mlp.gate_proj.weight"),
    name("blk.{}.ffn_up.weight", "model.layers.{}.mlp.up_proj.weight"),
    name("blk.{}.ffn_down.weight", "model.layers.{}.mlp.down_proj.weight"),
    name("output_norm.weight", "model.norm.weight"),
    name("output.weight", "lm_head.weight"),
];

const BIASES: &[Name] = &[
    Name { gguf: "blk.{}.attn_q.bias", folder: "model.layers.{}.self_attn.q_proj.bias", rows: Rows::Query },
    Name { gguf: "blk.{}.attn_k.bias", folder: "model.layers.{}.self_attn.k_proj.bias", rows: Rows::Key },
    name("blk.{}.attn_v.bias", "model.layers.{}.self_attn.v_proj.bias"),
    name("blk.{}.attn_output.bias", "model.layers.{}.self_attn.o_proj.bias"),
];

const QK_NORMS: &[Name] = &[
    name("blk.{}.attn_q_norm.weight", "model.layers.{}.self_attn.q_norm.weight"),
    name("blk.{}.attn_k_norm.weight", "model.layers.{}.self_attn.k_norm.weight"),
];

/// All families that can be converted; where two share an architecture the first is what a GGUF file becomes.
const FAMILIES: &[Family] = &[
    Family {
        arch: "llama",
        model_type: "llama",
        class: "LlamaForCausalLM",
        interleaved: true,
        names: &[DECODER, BIASES],
    },
    Family {
        arch: "llama",
        model_type: "mistral",
        class: "MistralForCausalLM",
        interleaved: true,
        names: &[DECODER],
    },
    Family {
        arch: "qwen2",
        model_type: "qwen2",
        class: "Qwen2ForCausalLM",
        interleaved: false,
        names: &[DECODER, BIASES],
    },
    Family {
        arch: "qwen3",
        model_type: "qwen3",
        class: "Qwen3ForCausalLM",
        interleaved: false,
        names: &[DECODER, QK_NORMS],
    },
];

impl Family {
    pub(super) fn of_arch(arch: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.arch == arch)
    }

    pub(super) fn of_model_type(model_type: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.model_type == model_type)
    }

    /// All model types, for an error message.
    pub(super) fn known() -> String {
        FAMILIES.iter().map(|family| family.model_type).collect::<Vec<_>>().join(", ")
    }

    /// A folder's name of a GGUF tensor.
    pub(super) fn to_folder(&self, gguf: &str) -> Option<(String, Rows)> {
        self.all().find_map(|name| Some((renamed(gguf, name.gguf, name.folder)?, name.rows)))
    }

    /// A GGUF file's name of a folder's tensor.
    pub(super) fn to_gguf(&self, folder: &str) -> Option<(String, Rows)> {
        self.all().find_map(|name| Some((renamed(folder, name.folder, name.gguf)?, name.rows)))
    }

    fn all(&self) -> impl Iterator<Item = &'static Name> {
        self.names.iter().flat_map(|names| names.iter())
    }
}

/// `name` in the other spelling, if it has the form of `from`.
fn renamed(name: &str, from: &str, to: &str) -> Option<String> {
    let Some((before, after)) = from.split_once("{}") else {
        return (name == from).then(|| to.to_owned());
    };
    let layer = name.strip_prefix(before)?.strip_suffix(after)?;
    let is_number = !layer.is_empty() && layer.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| to.replace("{}", layer))
}

/// The row of the other file that becomes row `row` here. Folders rotate row i of a head with row i + half of it,
/// interleaved files row 2i with row 2i + 1.
pub(super) fn source_row(row: usize, head_dim: usize, to_gguf: bool) -> usize {
    let (head, at, half) = (row / head_dim * head_dim, row % head_dim, head_dim / 2);
    match to_gguf {
        true => head + at % 2 * half + at / 2,
        false => head + at % half * 2 + at / half,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for family in FAMILIES {
            for name in family.all() {
                let (gguf, folder) = (name.gguf.replace("{}", "12"), name.folder.replace("{}", "12"));
                assert_eq!(family.to_folder(&gguf), Some((folder.clone(), name.rows)));
                assert_eq!(family.to_gguf(&folder), Some((gguf, name.rows)));
            }
            assert_eq!(family.to_folder("blk.x.attn_q.weight"), None);
            assert_eq!(family.to_gguf("model.layers..mlp.up_proj.weight"), None);
        }
    }

    #[test]
    fn rows_go_to_pairs_and_back() {
        // By hand: heads of 4, whose rows 0 and 2 rotate together in a folder and stand side by side in the file.
        let to_gguf: Vec<_> = (0..8).map(|row| source_row(row, 4, true)).collect();
        assert_eq!(to_gguf, [0, 2, 1, 3, 4, 6, 5, 7]);
        for row in 0..128 {
            assert_eq!(source_row(source_row(row, 64, true), 64, false), row);
        }
    }
}
