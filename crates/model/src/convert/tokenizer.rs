//! A byte-level BPE vocabulary from `tokenizer.json` to `tokenizer.ggml.*`, and back.
//!
//! Which text a pre-tokenizer cuts where has a name in GGUF files and a description in `tokenizer.json`; the table
//! of both is here. Other kinds of vocabulary are refused by name.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::files::gguf::sink::Metadata;
use crate::files::{self, GgufFile};

/// Token types of `docs/gguf.md`.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// How text is cut before merging.
#[derive(Debug)]
struct Split {
    /// `tokenizer.ggml.pre`; the first is written.
    names: &'static [&'static str],
    /// Each number on its own, before anything else.
    digits: bool,
    /// `None`: GPT-2's own pattern, which `ByteLevel` brings along.
    pattern: Option<&'static str>,
    /// Whether text is composed (NFC) before.
    composed: bool,
    /// Whole words that are tokens aren't merged.
    ignore_merges: bool,
}

const SPLITS: &[Split] = &[
    Split {
        names: &["gpt-2", "default", "gpt2", ""],
        digits: false,
        pattern: None,
        composed: false,
        ignore_merges: false,
    },
    Split { names: &["smollm"], digits: true, pattern: None, composed: false, ignore_merges: false },
    Split {
        names: &["qwen2"],
        digits: false,
        pattern: Some(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        composed: true,
        ignore_merges: false,
    },
    Split {
        names: &["llama-bpe", "llama3", "llama-v3"],
        digits: false,
        pattern: Some(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        composed: false,
        ignore_merges: true,
    },
];

fn refused(what: String) -> Error {
    Error::Unconvertible { what }
}

/// Files of a folder: their names and what is in them.
pub(super) type Files = Vec<(&'static str, Vec<u8>)>;

/// Writes tokenizer, template and generation settings of a GGUF file as a folder's files.
pub(super) fn to_files(file: &GgufFile, max_seq_len: u32) -> Result<Files> {
    let model = file.meta_str("tokenizer.ggml.model")?;
    if model != "gpt2" {
        return Err(refused(format!(
            "tokenizer model `{model}` can't be written as tokenizer.json yet, only `gpt2` (byte-level BPE)"
        )));
    }
    let pre = file.find::<&str>("tokenizer.ggml.pre")?.unwrap_or("default");
    let split = SPLITS.iter().find(|split| split.names.contains(&pre)).ok_or_else(|| {
        refused(format!("`tokenizer.ggml.pre` is `{pre}`, which can't be written as tokenizer.json yet"))
    })?;
    let tokens = file.meta_strs("tokenizer.ggml.tokens")?;
    let mut types = file.find::<Vec<i32>>("tokenizer.ggml.token_type")?.unwrap_or_default();
    types.resize(tokens.len(), NORMAL);
    // Fillers at the end only bring the count to the embedding's rows.
    let used = types.iter().rposition(|&kind| kind != UNUSED).map_or(0, |last| last + 1);
    let mut sorted = tokens[..used].to_vec();
    sorted.sort_unstable();
    if let Some([token, _]) = sorted.array_windows().find(|[a, b]| a == b) {
        return Err(refused(format!("token `{token}` has two ids, which tokenizer.json can't say")));
    }
    let ids = ControlIds::of(file, tokens.len())?;
    let template = file.find::<&str>("tokenizer.chat_template")?;
    let json = tokenizer_json(
        &tokens[..used],
        &types[..used],
        &file.meta_strs("tokenizer.ggml.merges")?,
        split,
        &ids,
    );
    let mut config = Map::new();
    config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
    config.insert("model_max_length".into(), json!(max_seq_len));
    config.insert("clean_up_tokenization_spaces".into(), json!(false));
    config.insert("add_bos_token".into(), json!(ids.add_bos));
    config.insert("add_prefix_space".into(), json!(false));
    for (key, id) in
        [("bos_token", ids.bos), ("eos_token", ids.eos), ("pad_token", ids.pad), ("unk_token", ids.unk)]
    {
        config.insert(key.into(), id.map_or(Value::Null, |id| json!(tokens[id as usize])));
    }
    let mut generation = Map::new();
    for (key, id) in [("bos_token_id", ids.bos), ("eos_token_id", ids.eos), ("pad_token_id", ids.pad)] {
        if let Some(id) = id {
            generation.insert(key.into(), json!(id));
        }
    }
    let mut files = vec![
        ("tokenizer.json", pretty(&json)),
        ("generation_config.json", pretty(&Value::Object(generation))),
    ];
    if let Some(template) = template {
        config.insert("chat_template".into(), json!(template));
        files.push(("chat_template.jinja", template.as_bytes().to_vec()));
    }
    files.push(("tokenizer_config.json", pretty(&Value::Object(config))));
    Ok(files)
}

pub(super) fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

#[derive(Debug, Default)]
struct ControlIds {
    bos: Option<u32>,
    eos: Option<u32>,
    pad: Option<u32>,
    unk: Option<u32>,
    add_bos: bool,
}

impl ControlIds {
    fn of(file: &GgufFile, num_tokens: usize) -> Result<Self> {
        let id = |name: &str| -> Result<Option<u32>> {
            let key = format!("tokenizer.ggml.{name}_token_id");
            match file.find::<u32>(&key)? {
                Some(id) if id as usize >= num_tokens => {
                    Err(refused(format!("`{key}` is {id}, but there are {num_tokens} tokens")))
                }
                id => Ok(id),
            }
        };
        Ok(Self {
            bos: id("bos")?,
            eos: id("eos")?,
            pad: id("padding")?,
            unk: id("unknown")?,
            add_bos: file.find("tokenizer.ggml.add_bos_token")?.unwrap_or(false),
        })
    }
}

fn tokenizer_json(tokens: &[&str], types: &[i32], merges: &[&str], split: &Split, ids: &ControlIds) -> Value {
    let vocab: Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), json!(id))).collect();
    let added = tokens
        .iter()
        .zip(types)
        .enumerate()
        .filter(|(_, (_, kind))| matches!(**kind, CONTROL | USER_DEFINED));
    let added: Vec<Value> = added
        .map(|(id, (token, kind))| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": *kind == CONTROL,
            })
        })
        .collect();
    let byte_level = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex });
    let mut steps = Vec::new();
    if split.digits {
        steps.push(json!({ "type": "Digits", "individual_digits": true }));
    }
    if let Some(pattern) = split.pattern {
        let pattern = json!({ "Regex": pattern });
        steps.push(json!({ "type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false }));
    }
    steps.push(byte_level(split.pattern.is_none()));
    let pre_tokenizer = match <[Value; 1]>::try_from(steps) {
        Ok([step]) => step,
        Err(steps) => json!({ "type": "Sequence", "pretokenizers": steps }),
    };
    let post_processor = match ids.bos.filter(|_| ids.add_bos) {
        Some(bos) => template_of(tokens[bos as usize], bos),
        None => byte_level(true),
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": split.composed.then(|| json!({ "type": "NFC" })),
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": byte_level(true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": split.ignore_merges, "vocab": vocab, "merges": merges,
        },
    })
}

/// Puts the token in front of a text.
fn template_of(token: &str, id: u32) -> Value {
    let special = json!({ "SpecialToken": { "id": token, "type_id": 0 } });
    let text = |name: &str, kind: u32| json!({ "Sequence": { "id": name, "type_id": kind } });
    let mut specials = Map::new();
    specials.insert(token.into(), json!({ "id": token, "ids": [id], "tokens": [token] }));
    json!({
        "type": "TemplateProcessing",
        "single": [special, text("A", 0)],
        "pair": [special, text("A", 0), text("B", 1)],
        "special_tokens": specials,
    })
}

fn read_json(path: &Path) -> Result<Value> {
    let bytes = fs_err::read(path).map_err(files::Error::from)?;
    let json = serde_json::from_slice(&bytes);
    Ok(json.map_err(|error| files::Error::Json { path: path.into(), reason: error.to_string() })?)
}

fn read_json_if_there(path: &Path) -> Result<Value> {
    if path.is_file() { read_json(path) } else { Ok(Value::Null) }
}

/// Writes `tokenizer.ggml.*` from a folder; `vocab_size` is the number of the embedding's rows.
pub(super) fn to_metadata(
    folder: &Path,
    config: &Value,
    vocab_size: usize,
    metadata: &mut Metadata,
) -> Result<()> {
    let json = read_json(&folder.join("tokenizer.json"))?;
    let settings = read_json_if_there(&folder.join("tokenizer_config.json"))?;
    let model = &json["model"];
    if !matches!(model["type"].as_str(), Some("BPE") | None) || !model["vocab"].is_object() {
        let kind = &model["type"];
        return Err(refused(format!(
            "tokenizer.json: model {kind} can't be written to GGUF yet, only BPE on bytes"
        )));
    }
    let split = split_of(&json)?;
    let (tokens, types) = tokens_of(&json, vocab_size)?;
    metadata.string("tokenizer.ggml.model", "gpt2");
    metadata.string("tokenizer.ggml.pre", split.names[0]);
    metadata.strings("tokenizer.ggml.tokens", &tokens);
    metadata.i32s("tokenizer.ggml.token_type", &types);
    metadata.strings("tokenizer.ggml.merges", &merges_of(model)?);
    let template_bos = bos_of_template(&json["post_processor"]);
    for (key, name) in [("bos", "bos"), ("eos", "eos"), ("padding", "pad"), ("unknown", "unk")] {
        let named = token_text(&settings[format!("{name}_token")]);
        let named = named.and_then(|text| tokens.iter().position(|token| token == text)).map(|id| id as u64);
        let number = &config[format!("{name}_token_id")];
        let number = number.as_u64().or_else(|| number[0].as_u64());
        let id = named.or(number).or(template_bos.filter(|_| key == "bos"));
        if let Some(id) = id.filter(|&id| (id as usize) < tokens.len()) {
            metadata.u32(&format!("tokenizer.ggml.{key}_token_id"), id as u32);
        }
    }
    let add_bos = settings["add_bos_token"].as_bool().unwrap_or(template_bos.is_some());
    metadata.bool("tokenizer.ggml.add_bos_token", add_bos);
    if let Some(template) = template(folder, &settings)? {
        metadata.string("tokenizer.chat_template", &template);
    }
    Ok(())
}

/// A token stands as its text or as an object with `content`.
fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

/// The token that a template puts in front of every text.
fn bos_of_template(value: &Value) -> Option<u64> {
    match value["type"].as_str()? {
        "Sequence" => value["processors"].as_array()?.iter().find_map(bos_of_template),
        "TemplateProcessing" => {
            let name = value["single"][0]["SpecialToken"]["id"].as_str()?;
            value["special_tokens"][name]["ids"][0].as_u64()
        }
        _ => None,
    }
}

fn template(folder: &Path, settings: &Value) -> Result<Option<String>> {
    let path = folder.join("chat_template.jinja");
    if path.is_file() {
        return Ok(Some(fs_err::read_to_string(path).map_err(files::Error::from)?));
    }
    let template = &settings["chat_template"];
    let named = || template.as_array()?.iter().find(|entry| entry["name"] == "default")?["template"].as_str();
    Ok(template.as_str().or_else(named).map(str::to_owned))
}

/// The row of the table that a pre-tokenizer is.
fn split_of(json: &Value) -> Result<&'static Split> {
    let (mut digits, mut pattern, mut gpt2, mut byte_level) = (false, None, false, false);
    let whole = &json["pre_tokenizer"];
    let steps = whole["pretokenizers"].as_array().cloned().unwrap_or_else(|| vec![whole.clone()]);
    for step in &steps {
        match step["type"].as_str().unwrap_or_default() {
            "Digits" if step["individual_digits"] == true => digits = true,
            "Split" if step["pattern"]["Regex"] == r"\p{N}" => digits = true,
            "Split" if pattern.is_none() => pattern = step["pattern"]["Regex"].as_str(),
            "ByteLevel" if step["add_prefix_space"] == false => {
                byte_level = true;
                gpt2 = step["use_regex"].as_bool().unwrap_or(true);
            }
            _ => {
                return Err(refused(format!(
                    "tokenizer.json: pre-tokenizer {step} has no name in GGUF files"
                )));
            }
        }
    }
    let composed = json["normalizer"]["type"] == "NFC";
    let found = SPLITS.iter().find(|split| {
        split.digits == digits
            && split.pattern == pattern
            && split.pattern.is_none() == gpt2
            && split.composed == composed
            && split.ignore_merges == json["model"]["ignore_merges"].as_bool().unwrap_or(false)
    });
    let other_normalizer = !composed && !json["normalizer"].is_null();
    found.filter(|_| byte_level && !other_normalizer).ok_or_else(|| {
        let normalizer = &json["normalizer"];
        refused(format!(
            "tokenizer.json: pre-tokenizer {whole} with normalizer {normalizer} has no name in GGUF files"
        ))
    })
}

/// Tokens by id with their types; ids that no token has are filled.
fn tokens_of(json: &Value, vocab_size: usize) -> Result<(Vec<String>, Vec<i32>)> {
    let mut tokens: Vec<String> = (0..vocab_size).map(|id| format!("[PAD{id}]")).collect();
    let mut types = vec![UNUSED; vocab_size];
    let mut put = |token: &str, id: &Value, kind: i32| -> Result<()> {
        let index = id.as_u64().map_or(usize::MAX, |id| id as usize);
        if index >= vocab_size {
            let what = format!(
                "tokenizer.json: token `{token}` has the id {id}, the embedding has {vocab_size} rows"
            );
            return Err(refused(what));
        }
        token.clone_into(&mut tokens[index]);
        types[index] = kind;
        Ok(())
    };
    for (token, id) in json["model"]["vocab"].as_object().into_iter().flatten() {
        put(token, id, NORMAL)?;
    }
    for added in json["added_tokens"].as_array().into_iter().flatten() {
        let kind = if added["special"] == true { CONTROL } else { USER_DEFINED };
        put(added["content"].as_str().unwrap_or_default(), &added["id"], kind)?;
    }
    Ok((tokens, types))
}

/// Merges stand as `"left right"` in older files and as `["left", "right"]` in newer ones.
fn merges_of(model: &Value) -> Result<Vec<String>> {
    let merge = |value: &Value| {
        let pair = || Some(format!("{} {}", value[0].as_str()?, value[1].as_str()?));
        let line = value.as_str().map(str::to_owned).or_else(pair);
        line.ok_or_else(|| refused(format!("tokenizer.json: merge {value} isn't two tokens")))
    };
    model["merges"].as_array().into_iter().flatten().map(merge).collect()
}
