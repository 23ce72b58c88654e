//! Text to token ids and back, and conversations to the ids a model is trained on and asked with.
//!
//! Modules in the order in which data flows: [`vocabulary`] is what a model file holds, [`json`] reads
//! Hugging Face's `tokenizer.json` into the same shape, [`tiktoken`] rank files; text is normalised ([`normalizer`]), split into words
//! ([`split`], with [`classes`] of characters), and each word becomes ids by [`bpe`], [`unigram`] or [`wordpiece`];
//! [`added`] finds special tokens. [`Tokenizer`] holds the whole path, [`StreamDecoder`] goes back piece by piece.
//! [`conversation`] and [`template`] lead to [`ChatFormat`], the only place where a conversation becomes ids,
//! loss mask and stop ids. [`train`] makes a vocabulary out of texts, [`pack`] token shards. No file is read here: bytes come in.

pub mod error;

pub mod vocabulary;

pub mod base64;
mod bert;
mod byte_alphabet;
mod classes;
pub mod split;

pub mod normalizer;

mod added;
mod bpe;
mod trie;
mod unigram;
mod wordpiece;

mod tokenizer;

mod json;
mod tiktoken;

mod stream;

pub mod conversation;

mod template;

mod chat;

pub mod pack;
pub mod train;

pub use bert::BertNormalizer;
pub use chat::{ChatFormat, Example, TemplateSource};
pub use conversation::{Conversation, Message, Role};
pub use error::{Error, Result};
pub use json::chat_template;
pub use normalizer::Normalizer;
pub use split::count_words;
pub use stream::StreamDecoder;
pub use template::Date;
pub use tiktoken::Encoding;
pub use tokenizer::{Tokenizer, cut_between_words};
pub use vocabulary::{Kind, TokenId, TokenKind, Vocabulary};
