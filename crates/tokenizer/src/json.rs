//! Hugging Face's `tokenizer.json` and `tokenizer_config.json`.
//!
//! Read are BPE (on bytes, or on characters as `SentencePiece`'s), Unigram and `WordPiece` models with their normalisers, pre-tokenizers, added tokens and
//! bos/eos template; anything that would change the ids and isn't known is an error, not a guess. Decoders are implied by
//! the kind of model, and truncation and padding are the caller's matter.

use serde_json::Value;

use crate::added::AddedToken;
use crate::error::{Error, Result};
use crate::tokenizer::{
    ControlIds, Merges, Parts, SpacePrefix, Spaces, Tokenizer, WordPieceRules, spelled_byte,
};
use crate::vocabulary::{Kind, TokenId, TokenKind};

mod file;
mod steps;

use file::{AddedTokenField, File, ModelField, Vocab};
use steps::{read_normalizer, read_post_processor, read_pre_tokenizer};

impl Tokenizer {
    /// Reads `tokenizer.json`. Bos and eos come from its post-processor; [`Self::with_config_json`] names the rest.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let file: File = serde_json::from_slice(json)?;
        let File { added_tokens, normalizer, pre_tokenizer, post_processor, model } = file;
        let has_bytes = [&normalizer, &pre_tokenizer].into_iter().flatten().any(is_byte_level);
        let mut parts = model_parts(model, has_bytes)?;
        if let Some(normalizer) = &normalizer {
            read_normalizer(normalizer, &mut parts)?;
        }
        if let Some(pre_tokenizer) = &pre_tokenizer {
            read_pre_tokenizer(pre_tokenizer, &mut parts)?;
        }
        for token in added_tokens {
            add_token(token, &mut parts)?;
        }
        if let Some(post_processor) = &post_processor {
            read_post_processor(post_processor, &mut parts.ids)?;
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

/// Whether a step maps bytes to printable characters, so that the vocabulary is one of bytes.
fn is_byte_level(step: &Value) -> bool {
    let steps = ["normalizers", "pretokenizers"].iter().filter_map(|field| step[*field].as_array());
    step["type"] == "ByteLevel" || steps.flatten().any(is_byte_level)
}

fn model_parts(model: ModelField, has_bytes: bool) -> Result<Parts> {
    let kind = match (model.kind.as_deref(), &model.vocab) {
        (Some("BPE") | None, Vocab::Ids(_)) if has_bytes => Kind::ByteBpe,
        (Some("BPE") | None, Vocab::Ids(_)) => Kind::CharBpe,
        (Some("Unigram") | None, Vocab::Scores(_)) => Kind::Unigram,
        (Some("WordPiece"), Vocab::Ids(_)) => Kind::WordPiece,
        (other, _) => return Err(unsupported("model.type", &other, "`BPE`, `Unigram` and `WordPiece`")),
    };
    check_affixes(&model, kind)?;
    let (tokens, scores) = match model.vocab {
        Vocab::Ids(ids) => (in_order_of_id(ids)?, Vec::new()),
        Vocab::Scores(entries) => entries.into_iter().unzip(),
    };
    let mut kinds = vec![TokenKind::Normal; tokens.len()];
    if kind == Kind::CharBpe && model.byte_fallback {
        for (kind, _) in kinds.iter_mut().zip(&tokens).filter(|(_, token)| spelled_byte(token).is_some()) {
            *kind = TokenKind::Byte;
        }
    }
    let unk = match (model.unk_id, &model.unk_token) {
        (Some(id), _) => Some(id),
        (None, Some(token)) => tokens.iter().position(|other| other == token).map(|id| id as TokenId),
        (None, None) => None,
    };
    if kind != Kind::ByteBpe {
        if let Some(kind) = unk.and_then(|id| kinds.get_mut(id as usize)) {
            *kind = TokenKind::Unknown;
        }
    }
    Ok(Parts {
        kind,
        tokens,
        kinds,
        scores,
        word_pieces: WordPieceRules {
            continuing_prefix: Some(model.continuing_subword_prefix.unwrap_or_else(|| "##".to_owned())),
            max_word_chars: model.max_input_chars_per_word.unwrap_or(100),
        },
        merges: Merges::Listed(model.merges),
        ignore_merges: model.ignore_merges,
        byte_fallback: model.byte_fallback,
        fuse_unknown: model.fuse_unk,
        normalizers: Vec::new(),
        splitters: Vec::new(),
        spaces: Spaces {
            prefix: if kind == Kind::WordPiece { SpacePrefix::Always } else { SpacePrefix::Never },
            are_marked: kind == Kind::Unigram,
            cut_words: kind == Kind::Unigram,
        },
        added: Vec::new(),
        ids: ControlIds { unk, ..ControlIds::default() },
    })
}

/// Pieces that are spelled otherwise inside or at the end of a word are read for `WordPiece` only.
fn check_affixes(model: &ModelField, kind: Kind) -> Result<()> {
    let prefix = if kind == Kind::WordPiece { &None } else { &model.continuing_subword_prefix };
    for (field, value) in
        [("model.continuing_subword_prefix", prefix), ("model.end_of_word_suffix", &model.end_of_word_suffix)]
    {
        if value.as_deref().is_some_and(|affix| !affix.is_empty()) {
            return Err(unsupported(field, value, "none"));
        }
    }
    if kind == Kind::ByteBpe && model.byte_fallback {
        return Err(unsupported("model.byte_fallback", &true, "BPE on bytes"));
    }
    if model.dropout.is_some_and(|dropout| dropout > 0.0) {
        return Err(unsupported("model.dropout", &model.dropout, "none, because ids must repeat"));
    }
    Ok(())
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
    let is_known = parts.kinds[index] == TokenKind::Normal && parts.tokens[index] == token.content;
    parts.tokens[index].clone_from(&token.content);
    let added = AddedToken {
        content: token.content,
        id: token.id,
        kind,
        lstrip: token.lstrip,
        rstrip: token.rstrip,
        single_word: token.single_word,
    };
    // Merges may lead to a token that plain text may become.
    if parts.kinds[index] != TokenKind::Unknown && !(is_known && added.is_harmless()) {
        parts.kinds[index] = kind;
    }
    parts.added.push(added);
    Ok(())
}
