//! `SentencePiece`'s vocabularies: BPE on characters (`llama` in GGUF files) and Unigram (`t5`).
//!
//! A GGUF file of the first kind gives each token a score: whatever two neighbours spell a token join, the highest
//! score first. `tokenizer.json` lists the pairs instead. Lists that no scores stand for are refused.

use std::collections::HashMap;

use hearth_tokenizer::{TokenKind, Vocabulary};
use serde_json::{Map, Value, json};

use super::{CONTROL, NORMAL, Steps, TokenList, UNKNOWN, UNUSED, USER_DEFINED, refused, steps_of};
use crate::error::Result;
use crate::files::GgufFile;
use crate::files::gguf::sink::Metadata;

/// `SentencePiece`'s mark for a space.
const MARK: &str = "▁";

const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";

pub(super) fn bpe_to_json(vocabulary: &Vocabulary, tokens: &[String], kinds: &[TokenKind]) -> Steps {
    let vocab: Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
    let normal: HashMap<&str, usize> = tokens
        .iter()
        .enumerate()
        .filter(|(id, _)| kinds[*id] == TokenKind::Normal)
        .map(|(id, token)| (token.as_str(), id))
        .collect();
    let mut order: Vec<usize> = normal.values().copied().collect();
    let score = |id: usize| vocabulary.scores[id];
    order.sort_unstable_by(|&a, &b| score(b).total_cmp(&score(a)).then(a.cmp(&b)));
    let merges = order.iter().flat_map(|&id| {
        splits(&tokens[id]).filter(|(left, right)| normal.contains_key(left) && normal.contains_key(right))
    });
    let merges: Vec<Value> = merges.map(|(left, right)| json!([left, right])).collect();
    let mark = json!({ "type": "Replace", "pattern": { "String": " " }, "content": MARK });
    let normalizer = match vocabulary.add_space_prefix {
        true => json!({ "type": "Sequence", "normalizers": [{ "type": "Prepend", "prepend": MARK }, mark] }),
        false => mark,
    };
    Steps {
        normalizer,
        pre_tokenizer: Value::Null,
        decoder: decoder(vocabulary.add_space_prefix),
        model: json!({
            "type": "BPE", "dropout": null, "unk_token": unknown(vocabulary), "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": kinds.contains(&TokenKind::Byte),
            "ignore_merges": false, "vocab": vocab, "merges": merges,
        }),
        plain_post_processor: Value::Null,
    }
}

fn unknown(vocabulary: &Vocabulary) -> Option<&str> {
    vocabulary.unk.map(|id| vocabulary.tokens[id as usize].as_str())
}

/// Marks back to spaces, bytes to characters, and the space in front away.
fn decoder(strips_space: bool) -> Value {
    let mut steps = vec![
        json!({ "type": "Replace", "pattern": { "String": MARK }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if strips_space {
        steps.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    json!({ "type": "Sequence", "decoders": steps })
}

/// All ways of cutting a token in two.
fn splits(token: &str) -> impl Iterator<Item = (&str, &str)> {
    token.char_indices().skip(1).map(|(at, _)| token.split_at(at))
}

pub(super) fn bpe_to_metadata(json: &Value, list: &mut TokenList, metadata: &mut Metadata) -> Result<()> {
    let prefix = space_prefix(json)?;
    list.mark(&json["model"]);
    list.scores = scores(&json["model"], list)?;
    list.write("llama", "default", metadata);
    metadata.bool("tokenizer.ggml.add_space_prefix", prefix);
    Ok(())
}

/// Whether a space is put in front of a text; spaces must be marked, and words not be cut.
fn space_prefix(json: &Value) -> Result<bool> {
    let mut prefix = false;
    let mut is_marked = false;
    for step in steps_of(&json["normalizer"], "normalizers") {
        match step["type"].as_str().unwrap_or_default() {
            "Prepend" if step["prepend"] == MARK => prefix = true,
            "Replace" if step["pattern"]["String"] == " " && step["content"] == MARK => is_marked = true,
            _ => {
                return Err(refused(format!(
                    "tokenizer.json: normalizer {step} can't be said in GGUF files"
                )));
            }
        }
    }
    for step in steps_of(&json["pre_tokenizer"], "pretokenizers") {
        match step["type"].as_str().unwrap_or_default() {
            "Metaspace" if step["replacement"] == MARK && step["split"] == false => {
                is_marked = true;
                prefix |= step["prepend_scheme"] != "never" && step["add_prefix_space"] != false;
            }
            // Gemma's file cuts at spaces that its normaliser has replaced.
            "Split" if is_marked && step["pattern"]["String"] == " " => {}
            _ => {
                return Err(refused(format!(
                    "tokenizer.json: pre-tokenizer {step} can't be said in GGUF files of BPE on characters"
                )));
            }
        }
    }
    match is_marked {
        true => Ok(prefix),
        false => Err(refused(
            "tokenizer.json: BPE on characters that doesn't write `▁` for spaces can't be said in GGUF files"
                .into(),
        )),
    }
}

/// Scores under which the pairs of the list join in its order, and no others.
fn scores(model: &Value, list: &TokenList) -> Result<Vec<f32>> {
    let is_normal = |id: &usize| matches!(list.types[*id], NORMAL);
    let ids: HashMap<&str, usize> =
        list.tokens.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect();
    // In the order of the list: each token once, with the number of pairs that make it.
    let mut order: Vec<(usize, usize)> = Vec::new();
    let mut joined = String::new();
    for merge in model["merges"].as_array().into_iter().flatten() {
        let pair = merge.as_str().and_then(|line| line.split_once(' '));
        let (left, right) = pair
            .or_else(|| Some((merge[0].as_str()?, merge[1].as_str()?)))
            .ok_or_else(|| refused(format!("tokenizer.json: merge {merge} isn't two tokens")))?;
        joined.clear();
        joined.extend([left, right]);
        let known = |text: &str| ids.get(text).copied();
        let (Some(id), Some(left), Some(right)) = (known(&joined), known(left), known(right)) else {
            return Err(refused(format!(
                "tokenizer.json: merge {merge} has a part or result that is no token"
            )));
        };
        // Tokens that text never becomes by merging.
        if ![id, left, right].iter().all(is_normal) {
            continue;
        }
        match order.last_mut() {
            Some((last, count)) if *last == id => *count += 1,
            _ => order.push((id, 1)),
        }
    }
    let mut scores: Vec<f32> = vec![0.0; list.tokens.len()];
    let mut count_of = vec![0; list.tokens.len()];
    for (rank, &(id, count)) in order.iter().enumerate() {
        if count_of[id] != 0 {
            let token = &list.tokens[id];
            let what =
                format!("tokenizer.json: merges to `{token}` don't stand together, which no score can say");
            return Err(refused(what));
        }
        count_of[id] = count;
        scores[id] = -(rank as f32);
    }
    for (id, token) in list.tokens.iter().enumerate().filter(|(id, _)| is_normal(id)) {
        let normal = |part: &str| ids.get(part).is_some_and(is_normal);
        let possible = splits(token).filter(|(left, right)| normal(left) && normal(right)).count();
        if possible != count_of[id] {
            let listed = count_of[id];
            return Err(refused(format!(
                "tokenizer.json: {listed} merges lead to `{token}`, but {possible} pairs of tokens spell it; \
                 GGUF files can't tell them apart"
            )));
        }
        if possible == 0 {
            scores[id] = -(order.len() as f32);
        }
    }
    Ok(scores)
}

pub(super) fn unigram_to_json(
    file: &GgufFile,
    vocabulary: &Vocabulary,
    tokens: &[String],
    kinds: &[TokenKind],
) -> Result<Steps> {
    let vocab: Vec<Value> =
        tokens.iter().zip(&vocabulary.scores).map(|(token, score)| json!([token, score])).collect();
    let mut normalizers = Vec::new();
    if let Some(crate::files::gguf::Value::Array(bytes)) = file.value(CHARSMAP) {
        let bytes = bytes.iter().map(|value| match value {
            crate::files::gguf::Value::Integer(byte) => byte as u8,
            _ => 0,
        });
        let text = hearth_tokenizer::base64::encode(&bytes.collect::<Vec<u8>>());
        normalizers.push(json!({ "type": "Precompiled", "precompiled_charsmap": text }));
    }
    if file.find("tokenizer.ggml.remove_extra_whitespaces")? == Some(true) {
        normalizers.push(json!({ "type": "Strip", "strip_left": true, "strip_right": true }));
        normalizers.push(json!({ "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": " " }));
    }
    let scheme = if vocabulary.add_space_prefix { "always" } else { "never" };
    let space = json!({ "type": "Metaspace", "replacement": MARK, "prepend_scheme": scheme, "split": true });
    Ok(Steps {
        normalizer: match normalizers.is_empty() {
            true => Value::Null,
            false => json!({ "type": "Sequence", "normalizers": normalizers }),
        },
        pre_tokenizer: space.clone(),
        decoder: space,
        model: json!({
            "type": "Unigram", "unk_id": vocabulary.unk, "vocab": vocab,
            "byte_fallback": kinds.contains(&TokenKind::Byte),
        }),
        plain_post_processor: Value::Null,
    })
}

pub(super) fn unigram_to_metadata(json: &Value, list: &mut TokenList, metadata: &mut Metadata) -> Result<()> {
    let mut charsmap = None;
    let (mut strips, mut collapses) = (false, false);
    for step in steps_of(&json["normalizer"], "normalizers") {
        let content = &step["content"];
        match step["type"].as_str().unwrap_or_default() {
            "Precompiled" if charsmap.is_none() && !strips => {
                charsmap = step["precompiled_charsmap"].as_str();
            }
            "Strip" if step["strip_left"] == true && step["strip_right"] == true => strips = true,
            "Replace" if step["pattern"]["Regex"] == " {2,}" && content == " " => collapses = true,
            _ => {
                return Err(refused(format!(
                    "tokenizer.json: normalizer {step} can't be said in GGUF files"
                )));
            }
        }
    }
    let mut prefix = None;
    for step in steps_of(&json["pre_tokenizer"], "pretokenizers") {
        match step["type"].as_str().unwrap_or_default() {
            "WhitespaceSplit" if prefix.is_none() => (strips, collapses) = (true, true),
            "Metaspace" if step["replacement"] == MARK && step["split"] != false => {
                prefix = Some(step["prepend_scheme"] != "never" && step["add_prefix_space"] != false);
            }
            _ => {
                return Err(refused(format!(
                    "tokenizer.json: pre-tokenizer {step} can't be said in GGUF files of Unigram"
                )));
            }
        }
    }
    if strips != collapses {
        let what =
            "tokenizer.json: white space that is only stripped or only collapsed can't be said in GGUF files";
        return Err(refused(what.into()));
    }
    list.mark(&json["model"]);
    for (score, kind) in list.scores.iter_mut().zip(&list.types) {
        if matches!(*kind, UNUSED | CONTROL | USER_DEFINED | UNKNOWN) {
            *score = 0.0;
        }
    }
    list.write("t5", "default", metadata);
    metadata.bool("tokenizer.ggml.add_space_prefix", prefix.unwrap_or(false));
    metadata.bool("tokenizer.ggml.remove_extra_whitespaces", strips);
    if let Some(text) = charsmap {
        metadata.bytes(CHARSMAP, &hearth_tokenizer::base64::decode(text)?);
    }
    Ok(())
}
