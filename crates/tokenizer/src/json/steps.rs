//! The steps around the model in `tokenizer.json`: normalisers, pre-tokenizers, special tokens at both ends.

use serde_json::Value;

use super::unsupported;
use crate::base64;
use crate::bert::BertNormalizer;
use crate::error::{Error, Result};
use crate::normalizer::{Charsmap, Normalizer};
use crate::split::{Gaps, Splitter, compile};
use crate::tokenizer::{ControlIds, Parts, SpacePrefix, Spaces};
use crate::vocabulary::{Kind, TokenId};

const NORMALIZERS: &str = "NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, BertNormalizer, Strip, Prepend, Replace, \
                           Precompiled and ByteLevel";
const PRE_TOKENIZERS: &str = "ByteLevel, BertPreTokenizer, Split, Digits, WhitespaceSplit and Metaspace";

pub(super) fn read_normalizer(value: &Value, parts: &mut Parts) -> Result<()> {
    let flag = |field: &str| value[field].as_bool().unwrap_or(true);
    let normalizer = match value["type"].as_str().unwrap_or_default() {
        "Sequence" => {
            let steps = value["normalizers"].as_array().into_iter().flatten();
            return steps.into_iter().try_for_each(|step| read_normalizer(step, parts));
        }
        // Bytes need no step of their own: the vocabulary is read back into bytes.
        "ByteLevel" => return Ok(()),
        "NFC" => Normalizer::Nfc,
        "NFD" => Normalizer::Nfd,
        "NFKC" => Normalizer::Nfkc,
        "NFKD" => Normalizer::Nfkd,
        "StripAccents" => Normalizer::StripAccents,
        "BertNormalizer" => Normalizer::Bert(BertNormalizer {
            clean_text: flag("clean_text"),
            handle_chinese_chars: flag("handle_chinese_chars"),
            strip_accents: value["strip_accents"].as_bool().unwrap_or_else(|| flag("lowercase")),
            lowercase: flag("lowercase"),
        }),
        "Lowercase" => Normalizer::Lowercase,
        "Strip" => Normalizer::Strip { left: flag("strip_left"), right: flag("strip_right") },
        "Prepend" if value["prepend"] == "▁" && parts.kind == Kind::CharBpe => {
            parts.spaces.prefix = SpacePrefix::Doubled;
            return Ok(());
        }
        "Prepend" => Normalizer::Prepend(value["prepend"].as_str().unwrap_or_default().to_owned()),
        "Precompiled" => {
            let text = value["precompiled_charsmap"].as_str().unwrap_or_default();
            Normalizer::Charsmap(Charsmap::parse(&base64::decode(text)?)?)
        }
        "Replace" => match read_replace(value, parts)? {
            Some(replace) => replace,
            None => return Ok(()),
        },
        _ => return Err(unsupported("normalizer", value, NORMALIZERS)),
    };
    parts.normalizers.push(normalizer);
    Ok(())
}

/// `None` for the step that marks spaces, which the vocabulary's own spelling stands for here.
fn read_replace(value: &Value, parts: &mut Parts) -> Result<Option<Normalizer>> {
    let Some(content) = value["content"].as_str() else {
        return Err(unsupported("normalizer", value, "`Replace` with `content`"));
    };
    let pattern = match (value["pattern"]["Regex"].as_str(), &value["pattern"]["String"]) {
        (None, text) if text == " " && content == "▁" && parts.kind == Kind::CharBpe => {
            parts.spaces.are_marked = true;
            return Ok(None);
        }
        (Some(" {2,}"), _) if content == " " => return Ok(Some(Normalizer::CollapseSpaces)),
        (Some(regex), _) => compile(regex)?,
        (None, text) => compile(&literal_pattern(text))?,
    };
    Ok(Some(Normalizer::Replace { pattern: Box::new(pattern), replacement: content.to_owned() }))
}

fn literal_pattern(value: &Value) -> String {
    fancy_regex::escape(value.as_str().unwrap_or_default()).into_owned()
}

pub(super) fn read_pre_tokenizer(value: &Value, parts: &mut Parts) -> Result<()> {
    let flag = |field: &str, default| value[field].as_bool().unwrap_or(default);
    let kind = value["type"].as_str().unwrap_or_default();
    // From here on such text holds `▁` instead of spaces.
    let is_marked = parts.kind == Kind::CharBpe && parts.spaces.are_marked;
    if is_marked && !matches!(kind, "Sequence" | "Metaspace" | "Split" | "Digits") {
        return Err(unsupported(
            "pre_tokenizer",
            value,
            "no such step behind a normaliser that marks spaces",
        ));
    }
    let splitter = match kind {
        "Sequence" => {
            let steps = value["pretokenizers"].as_array().into_iter().flatten();
            return steps.into_iter().try_for_each(|step| read_pre_tokenizer(step, parts));
        }
        "ByteLevel" => {
            if flag("add_prefix_space", true) {
                if !parts.splitters.is_empty() {
                    let expected = "`add_prefix_space` only where nothing splits before";
                    return Err(unsupported("pre_tokenizer", value, expected));
                }
                parts.spaces.prefix = SpacePrefix::Always;
            }
            if !flag("use_regex", true) {
                return Ok(());
            }
            Splitter::Gpt2
        }
        "Digits" if flag("individual_digits", false) => Splitter::Digits,
        "Digits" => Splitter::from_pattern(r"\p{N}+")?,
        // The published file of Gemma splits at spaces that its normaliser has replaced.
        "Split" if is_marked && value["pattern"]["String"] == " " => return Ok(()),
        "Split" if is_marked => {
            return Err(unsupported("pre_tokenizer", value, "a split at spaces, as they are marked"));
        }
        "Split" => read_split(value)?,
        "WhitespaceSplit" => Splitter::WhiteSpace,
        "BertPreTokenizer" => Splitter::Bert,
        "Metaspace" if value["replacement"] == "▁" => {
            return read_metaspace(value, parts);
        }
        _ => return Err(unsupported("pre_tokenizer", value, PRE_TOKENIZERS)),
    };
    parts.splitters.push(splitter);
    Ok(())
}

fn read_metaspace(value: &Value, parts: &mut Parts) -> Result<()> {
    let flag = |field: &str| value[field].as_bool().unwrap_or(true);
    if parts.kind == Kind::CharBpe && !parts.splitters.is_empty() {
        return Err(unsupported("pre_tokenizer", value, "`Metaspace` as the first step for BPE"));
    }
    let prefix = match value["prepend_scheme"].as_str().unwrap_or("always") {
        _ if !flag("add_prefix_space") => SpacePrefix::Never,
        "never" => SpacePrefix::Never,
        "first" => SpacePrefix::First,
        _ => SpacePrefix::Always,
    };
    parts.spaces = Spaces { prefix, are_marked: true, cut_words: flag("split") };
    Ok(())
}

fn read_split(value: &Value) -> Result<Splitter> {
    let pattern = match value["pattern"]["Regex"].as_str() {
        Some(regex) => regex.to_owned(),
        None => literal_pattern(&value["pattern"]["String"]),
    };
    let invert = value["invert"].as_bool().unwrap_or(false);
    let join = match (value["behavior"].as_str().unwrap_or_default(), invert) {
        ("Isolated", _) => return Splitter::from_pattern(&pattern),
        // Keeps the matches and drops what stands between them.
        ("Removed", true) => Gaps::Dropped,
        ("Removed", false) => Gaps::Only,
        ("MergedWithPrevious", false) => Gaps::TakeNext,
        ("MergedWithNext", false) => Gaps::TakePrevious,
        _ => {
            let expected = "`Isolated`, `Removed`, `MergedWithPrevious` or `MergedWithNext`";
            return Err(unsupported("pre_tokenizer", value, expected));
        }
    };
    Ok(Splitter::Pattern { regex: Box::new(compile(&pattern)?), gaps: join })
}

/// The special tokens that a template puts in front of and behind a single text.
pub(super) fn read_post_processor(value: &Value, ids: &mut ControlIds) -> Result<()> {
    match value["type"].as_str().unwrap_or_default() {
        "Sequence" => {
            for step in value["processors"].as_array().into_iter().flatten() {
                read_post_processor(step, ids)?;
            }
        }
        "TemplateProcessing" => {
            let mut before_text = true;
            for item in value["single"].as_array().into_iter().flatten() {
                let Some(name) = item["SpecialToken"]["id"].as_str() else {
                    before_text = false;
                    continue;
                };
                let id = value["special_tokens"][name]["ids"][0].as_u64();
                let unknown = || Error::UnknownToken { field: "post_processor", token: name.to_owned() };
                let id = id.and_then(|id| TokenId::try_from(id).ok()).ok_or_else(unknown)?;
                match before_text {
                    true => (ids.bos, ids.add_bos) = (Some(id), true),
                    false => (ids.eos, ids.add_eos) = (Some(id), true),
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
    Ok(())
}
