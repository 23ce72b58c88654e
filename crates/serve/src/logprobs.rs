//! Log-probabilities in the two shapes of the OpenAI API.

use hearth_engine::Token;
use hearth_tokenizer::{TokenId, Tokenizer};
use serde_json::{Map, Value, json};

/// The shape of chat completions: an entry a token.
pub(crate) fn chat<'a>(tokenizer: &Tokenizer, tokens: impl IntoIterator<Item = &'a Token>) -> Value {
    let entry = |token: &Token| {
        let top: Vec<Value> = token.top.iter().map(|&(id, logprob)| one(tokenizer, id, logprob)).collect();
        let mut entry = one(tokenizer, token.id, token.logprob.unwrap_or(f32::NEG_INFINITY));
        entry["top_logprobs"] = top.into();
        entry
    };
    let content: Vec<Value> = tokens.into_iter().map(entry).collect();
    json!({ "content": content, "refusal": null })
}

fn one(tokenizer: &Tokenizer, id: TokenId, logprob: f32) -> Value {
    let bytes = tokenizer.token_bytes(id);
    json!({ "token": String::from_utf8_lossy(bytes), "logprob": logprob, "bytes": bytes })
}

/// The shape of plain completions: parallel lists. `offset` is where the first token stands in the text, in characters.
pub(crate) fn plain<'a>(
    tokenizer: &Tokenizer,
    tokens: impl IntoIterator<Item = &'a Token>,
    mut offset: usize,
) -> Value {
    let (mut texts, mut logprobs, mut tops, mut offsets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for token in tokens {
        texts.push(spelled(tokenizer, token.id));
        logprobs.push(token.logprob);
        let top = token.top.iter().map(|&(id, logprob)| (spelled(tokenizer, id), json!(logprob)));
        let top = Value::Object(top.collect::<Map<_, _>>());
        // Nothing stands before a prompt's first token.
        tops.push(if token.logprob.is_some() { top } else { Value::Null });
        offsets.push(offset);
        offset += token.text.chars().count();
    }
    json!({ "tokens": texts, "token_logprobs": logprobs, "top_logprobs": tops, "text_offset": offsets })
}

/// A token that is part of a character is spelt by its bytes, as the OpenAI API does.
fn spelled(tokenizer: &Tokenizer, id: TokenId) -> String {
    let bytes = tokenizer.token_bytes(id);
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => bytes.iter().fold("bytes:".into(), |text: String, byte| format!("{text}\\x{byte:02x}")),
    }
}
