//! Hugging Face's `tokenizer.json` and `tokenizer_config.json`.
//!
//! Read are byte-level BPE and Unigram models with their normalisers, pre-tokenizers, added tokens and bos/eos
//! template; anything that would change the ids and isn't known is an error, not a guess. Decoders are implied by
//! the kind of model, and truncation and padding are the caller's matter.

use serde_json::Value;

use crate::added::AddedToken;
use crate::error::{Error, Result};
use crate::normalizer::{Charsmap, Normalizer};
use crate::split::{Splitter, compile};
use crate::tokenizer::{ControlIds, Parts, SpacePrefix, Tokenizer};
use crate::vocabulary::{Kind, TokenId, TokenKind};

mod base64;
mod file;

use file::{AddedTokenField, File, ModelField, Vocab};

impl Tokenizer {
    /// Reads `tokenizer.json`. Bos and eos come from its post-processor; [`Self::with_config_json`] names the rest.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let file: File = serde_json::from_slice(json)?;
        let File { added_tokens, normalizer, pre_tokenizer, post_processor, model } = file;
        let mut parts = model_parts(model)?;
        if let Some(normalizer) = &normalizer {
            read_normalizer(normalizer, &mut parts.normalizers)?;
        }
        let mut byte_level = false;
        if let Some(pre_tokenizer) = &pre_tokenizer {
            byte_level = read_pre_tokenizer(pre_tokenizer, &mut parts)?;
        }
        if parts.kind == Kind::ByteBpe && !byte_level {
            return Err(unsupported("pre_tokenizer", &pre_tokenizer, "BPE with `ByteLevel`"));
        }
        for token in added_tokens {
            add_token(token, &mut parts)?;
        }
        if let Some(post_processor) = &post_processor {
            read_post_processor(post_processor, &mut parts.ids);
        }
        parts.build()
    }

    /// Takes the names of control tokens and `add_bos_token`, `add_eos_token` from `tokenizer_config.json`.
    pub fn with_config_json(mut self, json: &[u8]) -> Result<Self> {
        let config: Value = serde_json::from_slice(json)?;
        let find = |field: &'static str| -> Result<Option<TokenId>> {
            let Some(token) = token_text(&config[field]) else {
                return Ok(None);
            };
            let id = self.token_to_id(token);
            id.map(Some).ok_or_else(|| Error::UnknownToken { field, token: token.to_owned() })
        };
        let (bos, eos) = (find("bos_token")?, find("eos_token")?);
        let (pad, unk) = (find("pad_token")?, find("unk_token")?);
        let ids = self.ids_mut();
        ids.bos = bos.or(ids.bos);
        ids.eos = eos.or(ids.eos);
        ids.pad = pad.or(ids.pad);
        ids.unk = unk.or(ids.unk);
        ids.add_bos = config["add_bos_token"].as_bool().unwrap_or(ids.add_bos);
        ids.add_eos = config["add_eos_token"].as_bool().unwrap_or(ids.add_eos);
        Ok(self)
    }
}

/// The chat template in `tokenizer_config.json`; of several the one named `default`.
pub fn chat_template(config_json: &[u8]) -> Result<Option<String>> {
    let config: Value = serde_json::from_slice(config_json)?;
    let template = &config["chat_template"];
    let named = || {
        let default = template.as_array()?.iter().find(|entry| entry["name"] == "default")?;
        default["template"].as_str()
    };
    Ok(template.as_str().or_else(named).map(str::to_owned))
}

/// A token stands as its text or as an object with `content`.
fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

fn unsupported(field: &'static str, value: &impl serde::Serialize, expected: &'static str) -> Error {
    let value = serde_json::to_string(value).unwrap_or_default();
    let value = value.chars().take(200).collect();
    Error::Unsupported { field, value, expected }
}

fn model_parts(model: ModelField) -> Result<Parts> {
    let kind = match (model.kind.as_deref(), &model.vocab) {
        (Some("BPE") | None, Vocab::Ids(_)) => Kind::ByteBpe,
        (Some("Unigram") | None, Vocab::Scores(_)) => Kind::Unigram,
        (other, _) => return Err(unsupported("model.type", &other, "`BPE` and `Unigram`")),
    };
    for (field, value) in [
        ("model.continuing_subword_prefix", &model.continuing_subword_prefix),
        ("model.end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if value.as_deref().is_some_and(|affix| !affix.is_empty()) {
            return Err(unsupported(field, value, "none"));
        }
    }
    if kind == Kind::ByteBpe && model.byte_fallback {
        return Err(unsupported("model.byte_fallback", &true, "BPE on bytes"));
    }
    let (tokens, scores) = match model.vocab {
        Vocab::Ids(ids) => (in_order_of_id(ids)?, Vec::new()),
        Vocab::Scores(entries) => entries.into_iter().unzip(),
    };
    let mut kinds = vec![TokenKind::Normal; tokens.len()];
    let unk = match (model.unk_id, &model.unk_token) {
        (Some(id), _) => Some(id),
        (None, Some(token)) => tokens.iter().position(|other| other == token).map(|id| id as TokenId),
        (None, None) => None,
    };
    if kind == Kind::Unigram {
        if let Some(kind) = unk.and_then(|id| kinds.get_mut(id as usize)) {
            *kind = TokenKind::Unknown;
        }
    }
    Ok(Parts {
        kind,
        tokens,
        kinds,
        scores,
        merges: model.merges,
        ignore_merges: model.ignore_merges,
        byte_fallback: model.byte_fallback,
        normalizers: Vec::new(),
        splitters: Vec::new(),
        space_prefix: SpacePrefix::Never,
        added: Vec::new(),
        ids: ControlIds { unk, ..ControlIds::default() },
    })
}

/// Ids that no token has (a vocabulary with holes) get an empty, unused one.
fn in_order_of_id(ids: Vec<(String, TokenId)>) -> Result<Vec<String>> {
    /// More holes than this are a damaged file, and would cost memory.
    const MAX_HOLES: usize = 1 << 16;
    let len = ids.iter().map(|(_, id)| *id as usize + 1).max().unwrap_or(0);
    if len > ids.len() + MAX_HOLES {
        return Err(Error::Count { field: "model.vocab", found: ids.len(), expected: len });
    }
    let mut tokens = vec![String::new(); len];
    for (token, id) in ids {
        tokens[id as usize] = token;
    }
    Ok(tokens)
}

fn add_token(token: AddedTokenField, parts: &mut Parts) -> Result<()> {
    let kind = if token.special { TokenKind::Control } else { TokenKind::UserDefined };
    let index = token.id as usize;
    if index > parts.tokens.len() + (1 << 16) {
        let vocab_size = parts.tokens.len();
        return Err(Error::IdOutOfRange { field: "added_tokens", id: token.id, vocab_size });
    }
    if index >= parts.tokens.len() {
        parts.tokens.resize(index + 1, String::new());
        parts.kinds.resize(index + 1, TokenKind::Unused);
        if parts.kind == Kind::Unigram {
            // Never a candidate, so it must not pull down the score of unknown characters either.
            parts.scores.resize(index + 1, f64::INFINITY);
        }
    }
    parts.tokens[index].clone_from(&token.content);
    if parts.kinds[index] != TokenKind::Unknown {
        parts.kinds[index] = kind;
    }
    parts.added.push(AddedToken {
        content: token.content,
        id: token.id,
        kind,
        lstrip: token.lstrip,
        rstrip: token.rstrip,
        single_word: token.single_word,
    });
    Ok(())
}

fn read_normalizer(value: &Value, out: &mut Vec<Normalizer>) -> Result<()> {
    let flag = |field: &str| value[field].as_bool().unwrap_or(true);
    out.push(match value["type"].as_str().unwrap_or_default() {
        "Sequence" => {
            for step in value["normalizers"].as_array().into_iter().flatten() {
                read_normalizer(step, out)?;
            }
            return Ok(());
        }
        "NFC" => Normalizer::Nfc,
        "NFKC" => Normalizer::Nfkc,
        "Lowercase" => Normalizer::Lowercase,
        "Strip" => Normalizer::Strip { left: flag("strip_left"), right: flag("strip_right") },
        "Prepend" => Normalizer::Prepend(value["prepend"].as_str().unwrap_or_default().to_owned()),
        "Precompiled" => {
            let text = value["precompiled_charsmap"].as_str().unwrap_or_default();
            Normalizer::Charsmap(Charsmap::parse(&base64::decode(text)?)?)
        }
        "Replace" => match (value["pattern"]["Regex"].as_str(), value["content"].as_str()) {
            (Some(" {2,}"), Some(" ")) => Normalizer::CollapseSpaces,
            (regex, Some(content)) => Normalizer::Replace {
                pattern: Box::new(compile(
                    &regex.map_or_else(|| literal_pattern(&value["pattern"]["String"]), str::to_owned),
                )?),
                replacement: content.to_owned(),
            },
            _ => return Err(unsupported("normalizer", value, "`Replace` with `content`")),
        },
        _ => {
            return Err(unsupported(
                "normalizer",
                value,
                "NFC, NFKC, Lowercase, Strip, Prepend, Replace, Precompiled",
            ));
        }
    });
    Ok(())
}

fn literal_pattern(value: &Value) -> String {
    fancy_regex::escape(value.as_str().unwrap_or_default()).into_owned()
}

/// Returns whether a `ByteLevel` step is there, without which BPE wouldn't be on bytes.
fn read_pre_tokenizer(value: &Value, parts: &mut Parts) -> Result<bool> {
    let flag = |field: &str, default| value[field].as_bool().unwrap_or(default);
    match value["type"].as_str().unwrap_or_default() {
        "Sequence" => {
            let mut byte_level = false;
            for step in value["pretokenizers"].as_array().into_iter().flatten() {
                byte_level |= read_pre_tokenizer(step, parts)?;
            }
            Ok(byte_level)
        }
        "ByteLevel" => {
            if flag("add_prefix_space", true) {
                if !parts.splitters.is_empty() {
                    let expected = "`add_prefix_space` only where nothing splits before";
                    return Err(unsupported("pre_tokenizer", value, expected));
                }
                parts.space_prefix = SpacePrefix::Always;
            }
            if flag("use_regex", true) {
                parts.splitters.push(Splitter::Gpt2);
            }
            Ok(true)
        }
        "Digits" if flag("individual_digits", false) => {
            parts.splitters.push(Splitter::Digits);
            Ok(false)
        }
        "Split" => {
            parts.splitters.push(read_split(value)?);
            Ok(false)
        }
        "WhitespaceSplit" => {
            parts.splitters.push(Splitter::WhiteSpace);
            Ok(false)
        }
        "Metaspace" if value["replacement"] == "▁" && flag("split", true) => {
            let scheme = value["prepend_scheme"].as_str().unwrap_or("always");
            parts.space_prefix = match scheme {
                _ if !flag("add_prefix_space", true) => SpacePrefix::Never,
                "never" => SpacePrefix::Never,
                "first" => SpacePrefix::First,
                _ => SpacePrefix::Always,
            };
            Ok(false)
        }
        _ => Err(unsupported(
            "pre_tokenizer",
            value,
            "ByteLevel, Split, Digits, WhitespaceSplit and Metaspace",
        )),
    }
}

fn read_split(value: &Value) -> Result<Splitter> {
    let pattern = match value["pattern"]["Regex"].as_str() {
        Some(regex) => regex.to_owned(),
        None => literal_pattern(&value["pattern"]["String"]),
    };
    let invert = value["invert"].as_bool().unwrap_or(false);
    match (value["behavior"].as_str().unwrap_or_default(), invert) {
        ("Isolated", _) => Splitter::from_pattern(&pattern),
        // Keeps the matches and drops what stands between them.
        ("Removed", true) => {
            Ok(Splitter::Pattern { regex: Box::new(compile(&pattern)?), matches_only: true })
        }
        _ => Err(unsupported("pre_tokenizer", value, "`Isolated`, or `Removed` with `invert`")),
    }
}

/// The special tokens that a template puts in front of and behind a single text.
fn read_post_processor(value: &Value, ids: &mut ControlIds) {
    match value["type"].as_str().unwrap_or_default() {
        "Sequence" => {
            for step in value["processors"].as_array().into_iter().flatten() {
                read_post_processor(step, ids);
            }
        }
        "TemplateProcessing" => {
            let mut before_text = true;
            for item in value["single"].as_array().into_iter().flatten() {
                let name = item["SpecialToken"]["id"].as_str();
                let id = name.and_then(|name| value["special_tokens"][name]["ids"][0].as_u64());
                match id.map(|id| id as TokenId) {
                    None => before_text = false,
                    Some(id) if before_text => (ids.bos, ids.add_bos) = (Some(id), true),
                    Some(id) => (ids.eos, ids.add_eos) = (Some(id), true),
                }
            }
        }
        "RobertaProcessing" | "BertProcessing" => {
            let id = |field: &str| value[field][1].as_u64().map(|id| id as TokenId);
            (ids.bos, ids.add_bos) = (id("cls"), true);
            (ids.eos, ids.add_eos) = (id("sep"), true);
        }
        _ => {}
    }
}
