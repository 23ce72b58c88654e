//! The fields of `tokenizer.json` that are read, in the shapes that files of different age have.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::vocabulary::TokenId;

#[derive(Deserialize)]
pub(crate) struct File {
    #[serde(default)]
    pub(crate) added_tokens: Vec<AddedTokenField>,
    pub(crate) normalizer: Option<Value>,
    pub(crate) pre_tokenizer: Option<Value>,
    pub(crate) post_processor: Option<Value>,
    pub(crate) model: ModelField,
}

#[expect(clippy::struct_excessive_bools, reason = "these are the file's own fields")]
#[derive(Deserialize)]
pub(crate) struct AddedTokenField {
    pub(crate) id: TokenId,
    pub(crate) content: String,
    #[serde(default)]
    pub(crate) single_word: bool,
    #[serde(default)]
    pub(crate) lstrip: bool,
    #[serde(default)]
    pub(crate) rstrip: bool,
    #[serde(default)]
    pub(crate) special: bool,
}

#[derive(Deserialize)]
pub(crate) struct ModelField {
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) vocab: Vocab,
    #[serde(default, deserialize_with = "merges")]
    pub(crate) merges: Vec<(String, String)>,
    pub(crate) unk_id: Option<TokenId>,
    pub(crate) unk_token: Option<String>,
    pub(crate) continuing_subword_prefix: Option<String>,
    pub(crate) end_of_word_suffix: Option<String>,
    pub(crate) max_input_chars_per_word: Option<usize>,
    pub(crate) dropout: Option<f32>,
    #[serde(default)]
    pub(crate) fuse_unk: bool,
    #[serde(default)]
    pub(crate) ignore_merges: bool,
    #[serde(default)]
    pub(crate) byte_fallback: bool,
}

/// A map from token to id (BPE) or a list of tokens with scores (Unigram).
pub(crate) enum Vocab {
    Ids(Vec<(String, TokenId)>),
    Scores(Vec<(String, f64)>),
}

impl<'de> Deserialize<'de> for Vocab {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(VocabVisitor)
    }
}

struct VocabVisitor;

impl<'de> Visitor<'de> for VocabVisitor {
    type Value = Vocab;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from token to id, or a list of tokens with scores")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocab, A::Error> {
        let mut ids = Vec::new();
        while let Some(entry) = map.next_entry()? {
            ids.push(entry);
        }
        Ok(Vocab::Ids(ids))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vocab, A::Error> {
        let mut scores = Vec::new();
        while let Some(entry) = seq.next_element()? {
            scores.push(entry);
        }
        Ok(Vocab::Scores(scores))
    }
}

/// Merges stand as `"left right"` in older files and as `["left", "right"]` in newer ones.
fn merges<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Merge {
        Line(String),
        Pair(String, String),
    }
    let merges = Option::<Vec<Merge>>::deserialize(deserializer)?.unwrap_or_default();
    let pair = |merge| match merge {
        Merge::Pair(left, right) => Ok((left, right)),
        Merge::Line(line) => match line.split_once(' ') {
            Some((left, right)) => Ok((left.to_owned(), right.to_owned())),
            None => Err(D::Error::custom(format!("merge `{line}` isn't two parts with a space between"))),
        },
    };
    merges.into_iter().map(pair).collect()
}
