//! The tiny model as one GGUF file (version 3), with F32 tensors, vocabulary and template inside.
//!
//! Follows `docs/gguf.md` of ggml. Tensors are stored as they are drawn: GGUF's order of the channels that rotate
//! together is not made up for, which random weights don't notice.

use std::io;
use std::path::Path;

use crate::tiny_model::{CHAT_TEMPLATE, Family, TINY, TinyModel};
use crate::tokenizer_json::{SPECIAL, merges, tokens};

/// Where tensors begin, from the start of the data.
const ALIGNMENT: usize = 32;

// Value types of the specification.
const I32: u32 = 5;
const U32: u32 = 4;
const F32: u32 = 6;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Writes [`TINY`] as a GGUF file.
pub fn tiny_gguf(path: &Path) -> io::Result<()> {
    TINY.write_gguf(path)
}

impl TinyModel {
    /// Writes the model as a GGUF file.
    pub fn write_gguf(&self, path: &Path) -> io::Result<()> {
        let tensors = self.tensors();
        let keys = self.keys()?;
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((tensors.len() as u64).to_le_bytes());
        out.extend(keys.count.to_le_bytes());
        out.extend(keys.bytes);
        let mut offset = 0;
        for tensor in &tensors {
            put_text(&mut out, &gguf_name(&tensor.name));
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            for &dim in tensor.shape.iter().rev() {
                out.extend((dim as u64).to_le_bytes());
            }
            // Tensor type 0: F32.
            out.extend(0u32.to_le_bytes());
            out.extend((offset as u64).to_le_bytes());
            offset += size_of_val(tensor.data.as_slice()).next_multiple_of(ALIGNMENT);
        }
        for tensor in &tensors {
            out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
            out.extend(tensor.data.iter().flat_map(|value| value.to_le_bytes()));
        }
        fs_err::write(path, out)
    }

    fn keys(&self) -> io::Result<Keys> {
        let arch = match self.family {
            Family::Llama => "llama",
            Family::Qwen2 => "qwen2",
            Family::Qwen3Moe | Family::Gemma3 => {
                let what = format!("{:?} isn't written as GGUF by code; golden/gguf has files", self.family);
                return Err(io::Error::new(io::ErrorKind::Unsupported, what));
            }
        };
        let mut keys = Keys::default();
        keys.text("general.architecture", arch);
        keys.text("general.name", "tiny");
        for (key, value) in [
            ("block_count", self.num_layers),
            ("context_length", self.max_seq_len),
            ("embedding_length", self.hidden_size),
            ("feed_forward_length", self.intermediate_size),
            ("attention.head_count", self.num_heads),
            ("attention.head_count_kv", self.num_kv_heads),
        ] {
            keys.number(&format!("{arch}.{key}"), value);
        }
        keys.put(&format!("{arch}.rope.freq_base"), F32, &10_000f32.to_le_bytes());
        keys.put(&format!("{arch}.attention.layer_norm_rms_epsilon"), F32, &1e-6f32.to_le_bytes());
        let mut tokens = tokens();
        let num_normal = tokens.len();
        tokens.extend(SPECIAL.map(str::to_owned));
        // Token types: 1 normal, 3 control.
        let types: Vec<u8> =
            (0..tokens.len()).flat_map(|id| if id < num_normal { 1i32 } else { 3 }.to_le_bytes()).collect();
        keys.text("tokenizer.ggml.model", "gpt2");
        keys.text("tokenizer.ggml.pre", "gpt-2");
        keys.texts("tokenizer.ggml.tokens", &tokens);
        keys.array("tokenizer.ggml.token_type", I32, tokens.len(), &types);
        keys.texts("tokenizer.ggml.merges", &merges());
        keys.number("tokenizer.ggml.eos_token_id", num_normal + 2);
        keys.number("tokenizer.ggml.padding_token_id", num_normal);
        keys.text("tokenizer.chat_template", CHAT_TEMPLATE);
        Ok(keys)
    }
}

/// GGUF's name of a tensor of a Hugging Face folder.
fn gguf_name(name: &str) -> String {
    let name = match name {
        "model.embed_tokens.weight" => "token_embd.weight",
        "model.norm.weight" => "output_norm.weight",
        "lm_head.weight" => "output.weight",
        layer => layer,
    };
    let parts = [
        ("model.layers.", "blk."),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("post_attention_layernorm", "ffn_norm"),
        ("input_layernorm", "attn_norm"),
    ];
    parts.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.bytes());
}

/// Metadata as bytes.
#[derive(Default)]
struct Keys {
    count: u64,
    bytes: Vec<u8>,
}

impl Keys {
    fn put(&mut self, key: &str, kind: u32, value: &[u8]) {
        put_text(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend(value);
        self.count += 1;
    }

    fn number(&mut self, key: &str, value: usize) {
        self.put(key, U32, &(value as u32).to_le_bytes());
    }

    fn text(&mut self, key: &str, value: &str) {
        let mut bytes = Vec::new();
        put_text(&mut bytes, value);
        self.put(key, STRING, &bytes);
    }

    fn array(&mut self, key: &str, kind: u32, len: usize, elements: &[u8]) {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend((len as u64).to_le_bytes());
        bytes.extend(elements);
        self.put(key, ARRAY, &bytes);
    }

    fn texts(&mut self, key: &str, values: &[String]) {
        let mut bytes = Vec::new();
        for value in values {
            put_text(&mut bytes, value);
        }
        self.array(key, STRING, values.len(), &bytes);
    }
}
