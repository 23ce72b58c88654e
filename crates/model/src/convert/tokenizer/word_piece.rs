//! BERT's pieces. GGUF files write `▁` in front of pieces that start a word, `tokenizer.json` writes `##` in front of
//! those that don't. The steps around them are those of the uncased model, the only ones that a GGUF file implies.

use hearth_tokenizer::{TokenKind, Vocabulary};
use serde_json::{Map, Value, json};

use super::{NORMAL, Steps, TokenList, refused, steps_of};
use crate::error::Result;
use crate::files::gguf::sink::Metadata;

const START: &str = "▁";
const INSIDE: &str = "##";

/// Of the published files. GGUF files have no such limit.
const MAX_WORD_CHARS: u64 = 100;

pub(super) fn to_json(vocabulary: &Vocabulary, tokens: &[String], kinds: &[TokenKind]) -> Steps {
    let spelled = |(token, kind): (&String, &TokenKind)| match (*kind, token.strip_prefix(START)) {
        (TokenKind::Normal, Some(word)) => word.to_owned(),
        (TokenKind::Normal, None) => format!("{INSIDE}{token}"),
        _ => token.clone(),
    };
    let vocab: Map<String, Value> =
        tokens.iter().zip(kinds).map(spelled).enumerate().map(|(id, token)| (token, json!(id))).collect();
    Steps {
        normalizer: json!({
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": true,
            "lowercase": true,
        }),
        pre_tokenizer: json!({ "type": "BertPreTokenizer" }),
        decoder: json!({ "type": "WordPiece", "prefix": INSIDE, "cleanup": true }),
        model: json!({
            "type": "WordPiece", "unk_token": vocabulary.unk.map(|id| &vocabulary.tokens[id as usize]),
            "continuing_subword_prefix": INSIDE, "max_input_chars_per_word": MAX_WORD_CHARS, "vocab": vocab,
        }),
        plain_post_processor: Value::Null,
    }
}

pub(super) fn to_metadata(json: &Value, list: &mut TokenList, metadata: &mut Metadata) -> Result<()> {
    let normalizers = steps_of(&json["normalizer"], "normalizers");
    let is_uncased = |step: &&Value| {
        let flag = |name: &str| step[name].as_bool().unwrap_or(true);
        step["type"] == "BertNormalizer"
            && ["clean_text", "handle_chinese_chars", "strip_accents", "lowercase"].into_iter().all(flag)
    };
    let splits = steps_of(&json["pre_tokenizer"], "pretokenizers");
    if normalizers.len() != 1
        || !normalizers.iter().all(is_uncased)
        || splits.len() != 1
        || splits[0]["type"] != "BertPreTokenizer"
    {
        let (normalizer, whole) = (&json["normalizer"], &json["pre_tokenizer"]);
        return Err(refused(format!(
            "tokenizer.json: WordPiece with normalizer {normalizer} and pre-tokenizer {whole} can't be said in GGUF \
             files, only the uncased BERT's"
        )));
    }
    let prefix = json["model"]["continuing_subword_prefix"].as_str().unwrap_or(INSIDE);
    list.mark(&json["model"]);
    for (token, kind) in list.tokens.iter_mut().zip(&list.types).filter(|(_, kind)| **kind == NORMAL) {
        debug_assert_eq!(*kind, NORMAL);
        *token = match token.strip_prefix(prefix).filter(|rest| !rest.is_empty()) {
            Some(rest) => rest.to_owned(),
            None => format!("{START}{token}"),
        };
    }
    list.write("bert", "default", metadata);
    Ok(())
}
