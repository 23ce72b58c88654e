//! A vocabulary from `tokenizer.json` to `tokenizer.ggml.*`, and back, with its template and control tokens.
//!
//! What a GGUF file can't say about a vocabulary (other normalisers, other ways of cutting text) is refused by name.
//!
//! * `byte_bpe` — BPE on bytes, and which text is cut where
//! * `sentence_piece` — BPE on characters, and Unigram
//! * `word_piece` — BERT's pieces

mod byte_bpe;
mod sentence_piece;
mod word_piece;

use std::path::Path;

use hearth_tokenizer::{Kind, TokenKind, Vocabulary};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::files::gguf::sink::Metadata;
use crate::files::{self, GgufFile, vocabulary};

fn refused(what: String) -> Error {
    Error::Unconvertible { what }
}

/// Files of a folder: their names and what is in them.
pub(super) type Files = Vec<(&'static str, Vec<u8>)>;

/// Writes tokenizer, template and generation settings of a GGUF file as a folder's files.
pub(super) fn to_files(file: &GgufFile, max_seq_len: u32) -> Result<Files> {
    let vocabulary = vocabulary::vocabulary(file)?;
    let template = file.find::<&str>("tokenizer.chat_template")?;
    let json = tokenizer_json(file, &vocabulary)?;
    let text = |id: Option<u32>| id.map_or(Value::Null, |id| json!(vocabulary.tokens[id as usize]));
    let mut config = Map::new();
    config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
    config.insert("model_max_length".into(), json!(max_seq_len));
    config.insert("clean_up_tokenization_spaces".into(), json!(false));
    config.insert("add_bos_token".into(), json!(vocabulary.add_bos));
    config.insert("add_eos_token".into(), json!(vocabulary.add_eos));
    config.insert("bos_token".into(), text(vocabulary.bos));
    config.insert("eos_token".into(), text(vocabulary.eos));
    config.insert("pad_token".into(), text(vocabulary.pad));
    config.insert("unk_token".into(), text(vocabulary.unk));
    let mut generation = Map::new();
    for (key, id) in
        [("bos_token_id", vocabulary.bos), ("eos_token_id", vocabulary.eos), ("pad_token_id", vocabulary.pad)]
    {
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

/// What differs between the kinds of vocabulary.
#[derive(Debug)]
struct Steps {
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    model: Value,
    /// What stands behind a vocabulary that puts nothing around a text.
    plain_post_processor: Value,
}

fn tokenizer_json(file: &GgufFile, vocabulary: &Vocabulary) -> Result<Value> {
    let mut kinds = vocabulary.token_kinds.clone();
    kinds.resize(vocabulary.tokens.len(), TokenKind::Normal);
    // Fillers at the end only bring the count to the embedding's rows.
    let used = kinds.iter().rposition(|&kind| kind != TokenKind::Unused).map_or(0, |last| last + 1);
    let (tokens, kinds) = (&vocabulary.tokens[..used], &kinds[..used]);
    let mut sorted: Vec<&String> = tokens.iter().collect();
    sorted.sort_unstable();
    if let Some([token, _]) = sorted.array_windows().find(|[a, b]| a == b) {
        return Err(refused(format!("token `{token}` has two ids, which tokenizer.json can't say")));
    }
    let steps = match vocabulary.kind {
        Kind::ByteBpe => byte_bpe::to_json(vocabulary, tokens)?,
        Kind::CharBpe => sentence_piece::bpe_to_json(vocabulary, tokens, kinds),
        Kind::Unigram => sentence_piece::unigram_to_json(file, vocabulary, tokens, kinds)?,
        Kind::WordPiece => word_piece::to_json(vocabulary, tokens, kinds),
    };
    let is_added = |kind: TokenKind| {
        let unknown = kind == TokenKind::Unknown && vocabulary.kind != Kind::ByteBpe;
        unknown || matches!(kind, TokenKind::Control | TokenKind::UserDefined)
    };
    let added = tokens.iter().zip(kinds).enumerate().filter(|(_, (_, kind))| is_added(**kind));
    let added: Vec<Value> = added
        .map(|(id, (token, kind))| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": *kind != TokenKind::UserDefined,
            })
        })
        .collect();
    let bos = vocabulary.bos.filter(|_| vocabulary.add_bos);
    let eos = vocabulary.eos.filter(|_| vocabulary.add_eos);
    let post_processor = match (bos, eos) {
        (None, None) => steps.plain_post_processor,
        (bos, eos) => template_of(vocabulary, bos, eos),
    };
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": steps.normalizer,
        "pre_tokenizer": steps.pre_tokenizer,
        "post_processor": post_processor,
        "decoder": steps.decoder,
        "model": steps.model,
    }))
}

/// Puts one token in front of a text and another behind it.
fn template_of(vocabulary: &Vocabulary, bos: Option<u32>, eos: Option<u32>) -> Value {
    let token = |id: u32| &vocabulary.tokens[id as usize];
    let around = |name: &str, kind: u32| {
        let special = |id: u32| json!({ "SpecialToken": { "id": token(id), "type_id": kind } });
        let text = json!({ "Sequence": { "id": name, "type_id": kind } });
        bos.map(special).into_iter().chain([text]).chain(eos.map(special)).collect::<Vec<_>>()
    };
    let mut specials = Map::new();
    for id in bos.into_iter().chain(eos) {
        let token = token(id);
        specials.insert(token.clone(), json!({ "id": token, "ids": [id], "tokens": [token] }));
    }
    let pair = [around("A", 0), around("B", 1)].concat();
    json!({
        "type": "TemplateProcessing",
        "single": around("A", 0),
        "pair": pair,
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
    let mut table = TokenList::read(&json, vocab_size)?;
    match (json["model"]["type"].as_str(), &json["model"]["vocab"]) {
        (Some("BPE") | None, Value::Object(_)) if byte_bpe::is_byte_level(&json) => {
            byte_bpe::to_metadata(&json, &table, metadata)?;
        }
        (Some("BPE") | None, Value::Object(_)) => {
            sentence_piece::bpe_to_metadata(&json, &mut table, metadata)?;
        }
        (Some("Unigram") | None, Value::Array(_)) => {
            sentence_piece::unigram_to_metadata(&json, &mut table, metadata)?;
        }
        (Some("WordPiece"), Value::Object(_)) => word_piece::to_metadata(&json, &mut table, metadata)?,
        (kind, _) => {
            let what = format!("tokenizer.json: model {kind:?} can't be written to GGUF");
            return Err(refused(what));
        }
    }
    ids_to_metadata(&json, config, &settings, &table.tokens, metadata);
    if let Some(template) = crate::load::folder_template(folder)? {
        metadata.string("tokenizer.chat_template", &template);
    }
    Ok(())
}

fn ids_to_metadata(
    json: &Value,
    config: &Value,
    settings: &Value,
    tokens: &[String],
    metadata: &mut Metadata,
) {
    let (template_bos, template_eos) = ends_of_template(&json["post_processor"]);
    let unknown = || {
        let model = &json["model"];
        let named = model["unk_token"].as_str();
        let named = named.and_then(|text| tokens.iter().position(|token| token == text));
        model["unk_id"].as_u64().or(named.map(|id| id as u64))
    };
    for (key, name) in [("bos", "bos"), ("eos", "eos"), ("padding", "pad"), ("unknown", "unk")] {
        let named = token_text(&settings[format!("{name}_token")]);
        let named = named.and_then(|text| tokens.iter().position(|token| token == text)).map(|id| id as u64);
        let number = &config[format!("{name}_token_id")];
        let number = number.as_u64().or_else(|| number[0].as_u64());
        let implied = match key {
            "bos" => template_bos,
            "eos" => template_eos,
            "unknown" => unknown(),
            _ => None,
        };
        let id = named.or(number).or(implied);
        if let Some(id) = id.filter(|&id| (id as usize) < tokens.len()) {
            metadata.u32(&format!("tokenizer.ggml.{key}_token_id"), id as u32);
        }
    }
    // What the ids of a prompt begin with is the post-processor's matter; settings only speak where it is silent.
    let flag = |key: &str, implied: bool| settings[key].as_bool().unwrap_or(implied);
    metadata.bool("tokenizer.ggml.add_bos_token", flag("add_bos_token", template_bos.is_some()));
    metadata.bool("tokenizer.ggml.add_eos_token", flag("add_eos_token", template_eos.is_some()));
}

/// A token stands as its text or as an object with `content`.
fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

/// The tokens that a post-processor puts in front of every text and behind it.
fn ends_of_template(value: &Value) -> (Option<u64>, Option<u64>) {
    match value["type"].as_str().unwrap_or_default() {
        "Sequence" => {
            let steps = value["processors"].as_array().into_iter().flatten().map(ends_of_template);
            steps.fold((None, None), |all, step| (all.0.or(step.0), all.1.or(step.1)))
        }
        "TemplateProcessing" => {
            let single = value["single"].as_array().map_or(&[][..], Vec::as_slice);
            let id = |item: Option<&Value>| {
                let name = item?["SpecialToken"]["id"].as_str()?;
                value["special_tokens"][name]["ids"][0].as_u64()
            };
            (id(single.first()), id(single.last()))
        }
        "RobertaProcessing" | "BertProcessing" => (value["cls"][1].as_u64(), value["sep"][1].as_u64()),
        _ => (None, None),
    }
}

/// Token types of `docs/gguf.md`.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// Tokens by id with their types and, where the vocabulary has them, scores; ids that no token has are filled.
#[derive(Debug)]
struct TokenList {
    tokens: Vec<String>,
    types: Vec<i32>,
    scores: Vec<f32>,
}

impl TokenList {
    fn read(json: &Value, vocab_size: usize) -> Result<Self> {
        let mut list = Self {
            tokens: (0..vocab_size).map(|id| format!("[PAD{id}]")).collect(),
            types: vec![UNUSED; vocab_size],
            scores: Vec::new(),
        };
        let vocab = &json["model"]["vocab"];
        for (token, id) in vocab.as_object().into_iter().flatten() {
            list.put(token, id, NORMAL)?;
        }
        if let Some(entries) = vocab.as_array() {
            list.scores = vec![0.0; vocab_size];
            for (id, entry) in entries.iter().enumerate() {
                list.put(entry[0].as_str().unwrap_or_default(), &json!(id), NORMAL)?;
                list.scores[id] = entry[1].as_f64().unwrap_or_default() as f32;
            }
        }
        for added in json["added_tokens"].as_array().into_iter().flatten() {
            let kind = if added["special"] == true { CONTROL } else { USER_DEFINED };
            list.put(added["content"].as_str().unwrap_or_default(), &added["id"], kind)?;
        }
        Ok(list)
    }

    fn put(&mut self, token: &str, id: &Value, kind: i32) -> Result<()> {
        let vocab_size = self.tokens.len();
        let index = id.as_u64().map_or(usize::MAX, |id| id as usize);
        if index >= vocab_size {
            let what = format!(
                "tokenizer.json: token `{token}` has the id {id}, the embedding has {vocab_size} rows"
            );
            return Err(refused(what));
        }
        token.clone_into(&mut self.tokens[index]);
        self.types[index] = kind;
        Ok(())
    }

    /// Gives the tokens of bytes and the unknown token their types.
    fn mark(&mut self, model: &Value) {
        if model["byte_fallback"] == true {
            for (token, kind) in self.tokens.iter().zip(&mut self.types) {
                let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
                if digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok()) {
                    *kind = BYTE;
                }
            }
        }
        let named = model["unk_token"].as_str();
        let named = named.and_then(|text| self.tokens.iter().position(|token| token == text));
        let unknown = model["unk_id"].as_u64().map(|id| id as usize).or(named);
        if let Some(kind) = unknown.and_then(|id| self.types.get_mut(id)) {
            *kind = UNKNOWN;
        }
    }

    fn write(&self, model: &str, pre: &str, metadata: &mut Metadata) {
        metadata.string("tokenizer.ggml.model", model);
        metadata.string("tokenizer.ggml.pre", pre);
        metadata.strings("tokenizer.ggml.tokens", &self.tokens);
        metadata.i32s("tokenizer.ggml.token_type", &self.types);
        if !self.scores.is_empty() {
            metadata.f32s("tokenizer.ggml.scores", &self.scores);
        }
    }
}

/// The steps of a normaliser or pre-tokenizer, one after the other.
fn steps_of<'a>(value: &'a Value, field: &str) -> Vec<&'a Value> {
    match value[field].as_array() {
        Some(steps) => steps.iter().flat_map(|step| steps_of(step, field)).collect(),
        None if value.is_null() => Vec::new(),
        None => vec![value],
    }
}
