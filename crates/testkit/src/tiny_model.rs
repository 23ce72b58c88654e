//! A model folder as the hub has it, small enough to be made by code in a test.
//!
//! Out: config.json, model.safetensors (F32), tokenizer.json, `tokenizer_config.json` and
//! `chat_template.jinja` (`ChatML`). Weights are random from a seed. Rows of the output head that aren't printable
//! ASCII are zero, so that greedy answers are readable text and never end by themselves.

use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::tokenizer_json::{SPECIAL, VOCAB_SIZE, tokenizer_json};

pub(crate) const CHAT_TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n\
    {{ message.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Llama,
    /// With biases on q, k and v.
    Qwen2,
    /// With norms of q and k, and experts in every layer.
    Qwen3Moe,
    /// With a window in every second layer, four norms a layer, and its norms from one.
    Gemma3,
}

/// Positions that a row of [`Family::Gemma3`] sees in a layer with a window: fewer than a page of keys.
const WINDOW: usize = 40;
const NUM_EXPERTS: usize = 4;

/// The shape of a tiny model; names as in `config.json`.
#[derive(Debug, Clone, Copy)]
pub struct TinyModel {
    pub family: Family,
    pub seed: u64,
    pub hidden_size: usize,
    pub num_layers: usize,
    pub num_heads: usize,
    pub num_kv_heads: usize,
    pub intermediate_size: usize,
    pub max_seq_len: usize,
}

/// Two layers of 64 with grouped heads, and a context that takes a while to fill.
pub const TINY: TinyModel = TinyModel {
    family: Family::Qwen2,
    seed: 1,
    hidden_size: 64,
    num_layers: 2,
    num_heads: 4,
    num_kv_heads: 2,
    intermediate_size: 128,
    max_seq_len: 4096,
};

/// Writes [`TINY`] into a folder, which is made if need be.
pub fn tiny_model(folder: &Path) -> io::Result<()> {
    TINY.write(folder)
}

impl TinyModel {
    /// Writes the model into a folder, which is made if need be.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        fs_err::create_dir_all(folder)?;
        let json =
            |name: &str, value: &Value| fs_err::write(folder.join(name), serde_json::to_vec_pretty(value)?);
        json("config.json", &self.config_json())?;
        json("tokenizer.json", &tokenizer_json())?;
        json("tokenizer_config.json", &json!({ "eos_token": SPECIAL[2], "pad_token": SPECIAL[0] }))?;
        fs_err::write(folder.join("chat_template.jinja"), CHAT_TEMPLATE)?;
        fs_err::write(folder.join("model.safetensors"), safetensors(&self.tensors()))
    }

    fn config_json(&self) -> Value {
        let mut config = json!({
            "model_type": match self.family {
                Family::Llama => "llama",
                Family::Qwen2 => "qwen2",
                Family::Qwen3Moe => "qwen3_moe",
                Family::Gemma3 => "gemma3_text",
            },
            "vocab_size": VOCAB_SIZE,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_seq_len,
            "rope_theta": 10_000.0,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": false,
        });
        let own = match self.family {
            Family::Llama | Family::Qwen2 => json!({ "hidden_act": "silu" }),
            Family::Qwen3Moe => json!({
                "hidden_act": "silu",
                "num_experts": NUM_EXPERTS,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": self.intermediate_size,
                "norm_topk_prob": true,
            }),
            Family::Gemma3 => json!({
                "hidden_activation": "gelu_pytorch_tanh",
                "query_pre_attn_scalar": self.hidden_size / self.num_heads,
                "sliding_window": WINDOW,
                "sliding_window_pattern": 2,
            }),
        };
        if let (Value::Object(config), Value::Object(own)) = (&mut config, own) {
            config.extend(own);
        }
        config
    }

    /// Matrices of a layer's MLP with rows and columns.
    fn mlp(&self) -> Vec<(String, usize, usize)> {
        let of = |module: &str| {
            [
                (format!("{module}.gate_proj"), self.intermediate_size, self.hidden_size),
                (format!("{module}.up_proj"), self.intermediate_size, self.hidden_size),
                (format!("{module}.down_proj"), self.hidden_size, self.intermediate_size),
            ]
        };
        if self.family != Family::Qwen3Moe {
            return of("mlp").into();
        }
        let experts = (0..NUM_EXPERTS).flat_map(|expert| of(&format!("mlp.experts.{expert}")));
        experts.chain([("mlp.gate".into(), NUM_EXPERTS, self.hidden_size)]).collect()
    }

    /// Norms of a layer with their lengths.
    fn norms(&self) -> Vec<(&'static str, usize)> {
        let (hidden, head_dim) = (self.hidden_size, self.hidden_size / self.num_heads);
        let mut norms = vec![("input_layernorm", hidden), ("post_attention_layernorm", hidden)];
        if self.family == Family::Gemma3 {
            norms.extend([("pre_feedforward_layernorm", hidden), ("post_feedforward_layernorm", hidden)]);
        }
        if matches!(self.family, Family::Qwen3Moe | Family::Gemma3) {
            norms.extend([("self_attn.q_norm", head_dim), ("self_attn.k_norm", head_dim)]);
        }
        norms
    }

    pub(crate) fn tensors(&self) -> Vec<Tensor> {
        let hidden = self.hidden_size;
        let head_dim = hidden / self.num_heads;
        let (q, kv) = (self.num_heads * head_dim, self.num_kv_heads * head_dim);
        let mut random = Random::new(self.seed);
        let mut tensors = vec![random.matrix("model.embed_tokens.weight", VOCAB_SIZE, hidden, 1.0)];
        for layer in 0..self.num_layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}");
            for (part, len) in self.norms() {
                tensors.push(self.norm(&name(&format!("{part}.weight")), len));
            }
            let attention = [
                ("self_attn.q_proj", q, hidden),
                ("self_attn.k_proj", kv, hidden),
                ("self_attn.v_proj", kv, hidden),
                ("self_attn.o_proj", hidden, q),
            ];
            let attention = attention.map(|(part, rows, cols)| (part.to_owned(), rows, cols));
            for (part, rows, cols) in attention.into_iter().chain(self.mlp()) {
                let scale = 1.0 / (cols as f32).sqrt();
                tensors.push(random.matrix(&name(&format!("{part}.weight")), rows, cols, scale));
                let has_bias = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"].contains(&&*part);
                if has_bias && self.family == Family::Qwen2 {
                    let mut bias = random.matrix(&name(&format!("{part}.bias")), 1, rows, 0.1);
                    bias.shape = vec![rows];
                    tensors.push(bias);
                }
            }
        }
        tensors.push(self.norm("model.norm.weight", hidden));
        let mut head = random.matrix("lm_head.weight", VOCAB_SIZE, hidden, 0.5);
        for (id, row) in head.data.chunks_exact_mut(hidden).enumerate() {
            if !(usize::from(b' ')..=usize::from(b'~')).contains(&id) {
                row.fill(0.0);
            }
        }
        tensors.push(head);
        tensors
    }

    /// A norm that multiplies by one.
    fn norm(&self, name: &str, len: usize) -> Tensor {
        let one = if self.family == Family::Gemma3 { 0.0 } else { 1.0 };
        Tensor { name: name.into(), shape: vec![len], data: vec![one; len] }
    }
}

pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<f32>,
}

/// `SplitMix64` (Steele et al. 2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn matrix(&mut self, name: &str, rows: usize, cols: usize, scale: f32) -> Tensor {
        let data = (0..rows * cols).map(|_| self.signed() * scale).collect();
        Tensor { name: name.into(), shape: vec![rows, cols], data }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in −√3..√3: variance 1.
    pub(crate) fn signed(&mut self) -> f32 {
        let unit = (self.next() >> 40) as f32 / (1u32 << 24) as f32;
        (2.0 * unit - 1.0) * 3.0f32.sqrt()
    }
}

/// Eight bytes of header length, a JSON header padded by spaces to a multiple of eight, the data.
pub(crate) fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let mut header = Map::new();
    let mut end = 0;
    for tensor in tensors {
        let start = end;
        end += tensor.data.len() * size_of::<f32>();
        let entry = json!({ "dtype": "F32", "shape": tensor.shape, "data_offsets": [start, end] });
        header.insert(tensor.name.clone(), entry);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(&header);
    file.extend(tensors.iter().flat_map(|tensor| &tensor.data).flat_map(|value| value.to_le_bytes()));
    file
}
