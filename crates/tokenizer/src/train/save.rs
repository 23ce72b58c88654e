//! A trained vocabulary as `tokenizer.json` and `tokenizer_config.json`, in the shape that `transformers` writes.

use serde_json::{Map, Value, json};

use super::Trained;

/// The special tokens of `ChatML`, with the one that ends a document first.
pub const CHATML_SPECIAL_TOKENS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// The template that goes with them; messages stand as they are, and no system message is made up.
pub const CHATML_TEMPLATE: &str = crate::chat::CHATML;

impl Trained {
    /// `tokenizer.json`.
    pub fn to_json(&self) -> Value {
        let added: Vec<Value> = self.special_tokens.iter().enumerate().map(added_token).collect();
        let vocab: Map<String, Value> =
            self.tokens.iter().zip(0_u32..).map(|(token, id)| (token.clone(), id.into())).collect();
        let spelled = |id: u32| self.tokens[id as usize].as_str();
        let merges: Vec<Value> =
            self.merges.iter().map(|(left, right)| json!([spelled(*left), spelled(*right)])).collect();
        let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": if self.nfc { json!({"type": "NFC"}) } else { Value::Null },
            "pre_tokenizer": self.pattern.pre_tokenizer(),
            "post_processor": byte_level,
            "decoder": byte_level,
            "model": {
                "type": "BPE",
                "dropout": null,
                "unk_token": null,
                "continuing_subword_prefix": null,
                "end_of_word_suffix": null,
                "fuse_unk": false,
                "byte_fallback": false,
                "ignore_merges": false,
                "vocab": vocab,
                "merges": merges,
            },
        })
    }

    /// `tokenizer_config.json`. With the tokens of `ChatML` an answer ends in `<|im_end|>` and a template is there;
    /// else the first special token ends what there is.
    pub fn config_json(&self) -> Value {
        let has = |token: &str| self.special_tokens.iter().any(|other| other == token);
        let is_chatml = CHATML_SPECIAL_TOKENS[1..].iter().all(|token| has(token));
        let first = self.special_tokens.first().map(String::as_str);
        let decoder: Map<String, Value> =
            self.special_tokens.iter().enumerate().map(|(id, token)| decoder_entry(id, token)).collect();
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "added_tokens_decoder": decoder,
            "bos_token": null,
            "eos_token": if is_chatml { Some(CHATML_SPECIAL_TOKENS[2]) } else { first },
            "pad_token": first,
            "unk_token": null,
            "add_bos_token": false,
            "add_prefix_space": false,
            "clean_up_tokenization_spaces": false,
        });
        if is_chatml {
            config["chat_template"] = CHATML_TEMPLATE.into();
        }
        config
    }
}

fn added_token((id, token): (usize, &String)) -> Value {
    json!({
        "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true,
    })
}

fn decoder_entry(id: usize, token: &str) -> (String, Value) {
    let entry = json!({
        "content": token, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true,
    });
    (id.to_string(), entry)
}
