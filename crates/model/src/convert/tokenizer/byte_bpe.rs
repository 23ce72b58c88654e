//! BPE on bytes. How text is cut has a name in GGUF files and a description in `tokenizer.json`.

use hearth_tokenizer::Vocabulary;
use hearth_tokenizer::split::{GPT2, SPLIT_NAMES, ignores_merges, split_patterns};
use serde_json::{Map, Value, json};

use super::{Steps, TokenList, refused, steps_of};
use crate::error::Result;
use crate::files::gguf::sink::Metadata;
use crate::files::vocabulary::composes;

/// The pattern that `tokenizer.json` has a step of its own for.
const DIGITS: &str = r"\p{N}";

pub(super) fn is_byte_level(json: &Value) -> bool {
    let steps = steps_of(&json["pre_tokenizer"], "pretokenizers");
    let normalizers = steps_of(&json["normalizer"], "normalizers");
    steps.into_iter().chain(normalizers).any(|step| step["type"] == "ByteLevel")
}

pub(super) fn to_json(vocabulary: &Vocabulary, tokens: &[String]) -> Result<Steps> {
    let pre = vocabulary.pre.as_str();
    let patterns = split_patterns(pre).ok_or_else(|| {
        refused(format!("`tokenizer.ggml.pre` is `{pre}`, which can't be written as tokenizer.json"))
    })?;
    let byte_level = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex });
    let ends_like_gpt2 = patterns.last() == Some(&GPT2);
    let own = if ends_like_gpt2 { &patterns[..patterns.len() - 1] } else { patterns };
    let step = |pattern: &&str| match *pattern {
        DIGITS => json!({ "type": "Digits", "individual_digits": true }),
        pattern => {
            json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false })
        }
    };
    let steps: Vec<Value> = own.iter().map(step).chain([byte_level(ends_like_gpt2)]).collect();
    let pre_tokenizer = match <[Value; 1]>::try_from(steps) {
        Ok([step]) => step,
        Err(steps) => json!({ "type": "Sequence", "pretokenizers": steps }),
    };
    let vocab: Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
    let merges: Vec<String> =
        vocabulary.merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
    Ok(Steps {
        normalizer: if composes(pre) { json!({ "type": "NFC" }) } else { Value::Null },
        pre_tokenizer,
        decoder: byte_level(true),
        model: json!({
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": ignores_merges(pre), "vocab": vocab, "merges": merges,
        }),
        plain_post_processor: byte_level(true),
    })
}

pub(super) fn to_metadata(json: &Value, list: &TokenList, metadata: &mut Metadata) -> Result<()> {
    list.write("gpt2", name_of(json)?, metadata);
    metadata.strings("tokenizer.ggml.merges", &merges_of(&json["model"])?);
    Ok(())
}

/// The name of a pre-tokenizer, with the normaliser and the rule of merging that come with it.
fn name_of(json: &Value) -> Result<&'static str> {
    let mut patterns = Vec::new();
    for step in steps_of(&json["pre_tokenizer"], "pretokenizers") {
        let is_whole = step["behavior"] == "Isolated" && step["invert"] != true;
        let is_whole = is_whole || (step["behavior"] == "Removed" && step["invert"] == true);
        match (step["type"].as_str().unwrap_or_default(), step["pattern"]["Regex"].as_str()) {
            ("Digits", _) if step["individual_digits"] == true => patterns.push(DIGITS),
            ("Split", Some(pattern)) if is_whole => patterns.push(pattern),
            ("ByteLevel", _) if step["add_prefix_space"] == false => {
                if step["use_regex"].as_bool().unwrap_or(true) {
                    patterns.push(GPT2);
                }
            }
            _ => {
                return Err(refused(format!(
                    "tokenizer.json: pre-tokenizer {step} has no name in GGUF files"
                )));
            }
        }
    }
    let normalizers = steps_of(&json["normalizer"], "normalizers");
    let composed = normalizers.iter().any(|step| step["type"] == "NFC");
    let other = normalizers.iter().find(|step| step["type"] != "NFC" && step["type"] != "ByteLevel");
    let ignore = json["model"]["ignore_merges"].as_bool().unwrap_or(false);
    let found = SPLIT_NAMES.into_iter().find(|name| {
        split_patterns(name) == Some(&patterns)
            && composes(name) == composed
            && ignores_merges(name) == ignore
    });
    found.filter(|_| other.is_none()).ok_or_else(|| {
        let (whole, normalizer) = (&json["pre_tokenizer"], &json["normalizer"]);
        refused(format!(
            "tokenizer.json: pre-tokenizer {whole} with normalizer {normalizer} has no name in GGUF files"
        ))
    })
}

/// Merges stand as `"left right"` in older files and as `["left", "right"]` in newer ones.
pub(super) fn merges_of(model: &Value) -> Result<Vec<String>> {
    let merge = |value: &Value| {
        let pair = || Some(format!("{} {}", value[0].as_str()?, value[1].as_str()?));
        let line = value.as_str().map(str::to_owned).or_else(pair);
        line.ok_or_else(|| refused(format!("tokenizer.json: merge {value} isn't two tokens")))
    };
    model["merges"].as_array().into_iter().flatten().map(merge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back_from_its_description() {
        for name in SPLIT_NAMES {
            let vocabulary =
                Vocabulary { pre: name.into(), ..Vocabulary::new(hearth_tokenizer::Kind::ByteBpe, vec![]) };
            let Steps { normalizer, pre_tokenizer, model, .. } = to_json(&vocabulary, &[]).unwrap();
            let json = json!({ "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "model": model });
            assert_eq!(name_of(&json).unwrap(), name);
        }
    }
}
