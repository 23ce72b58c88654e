//! What can go wrong between a vocabulary file and a conversation's ids.

use crate::vocabulary::TokenId;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("tokenizer file isn't the JSON it should be: {0}")]
    Json(#[from] serde_json::Error),
    #[error("`{field}` is `{value}`, but hearth reads {expected}")]
    Unsupported { field: &'static str, value: String, expected: &'static str },
    #[error("`{field}` has {found} entries, expected {expected}")]
    Count { field: &'static str, found: usize, expected: usize },
    #[error("`{field}` is token {id}, but the vocabulary has {vocab_size}")]
    IdOutOfRange { field: &'static str, id: TokenId, vocab_size: usize },
    #[error("`{field}` names the token `{token}`, which the vocabulary doesn't hold")]
    UnknownToken { field: &'static str, token: String },
    #[error("merge {merge_index} joins `{left}` and `{right}`, but the vocabulary lacks {missing}")]
    Merge { merge_index: usize, left: String, right: String, missing: &'static str },
    #[error("token {id} has `{bytes}` bytes, but no vocabulary that hearth reads has more than {limit}")]
    LongToken { id: TokenId, bytes: usize, limit: usize },
    #[error("line {line} of the rank file {problem}")]
    RankLine { line: usize, problem: &'static str },
    #[error("a Unigram or WordPiece vocabulary needs an unknown token, but none is named")]
    NoUnknownToken,
    #[error("character map is damaged at byte {offset}: {reason}")]
    CharacterMap { offset: usize, reason: &'static str },
    #[error(
        "the normalizer's steps may make `{growth}` bytes of one, but hearth reads none that make more than {limit}"
    )]
    Growth { growth: usize, limit: usize },
    #[error("split pattern `{pattern}` can't be compiled")]
    Pattern {
        pattern: String,
        #[source]
        source: Box<fancy_regex::Error>,
    },
    #[error("split pattern is empty; give a regular expression, or the name of a family")]
    EmptyPattern,
    #[error("`vocab_size` is `{vocab_size}`, expected {least} (all bytes and special tokens) to {most}")]
    VocabSize { vocab_size: usize, least: usize, most: usize },
    #[error("special token `{token}` {problem}")]
    SpecialToken { token: String, problem: &'static str },
    #[error("texts hold `{num_words}` different words, but training knows fewer than 2^32; give it fewer")]
    TooManyWords { num_words: usize },
    /// The source names file and place.
    #[error(transparent)]
    Text(std::io::Error),
    #[error("row `{row}` gives no document")]
    Row {
        row: String,
        #[source]
        source: Box<Error>,
    },
    #[error("plain text is no conversation; give rows of JSON with `messages`")]
    PlainConversation,
    #[error(transparent)]
    Shards(#[from] hearth_artifacts::Error),
    #[error("stopped before the end, as asked")]
    Cancelled,
    #[error("chat template can't be compiled: {source}")]
    TemplateSyntax {
        #[source]
        source: Box<minijinja::Error>,
    },
    #[error("chat template refused the conversation of {num_messages} messages: {source}")]
    TemplateRender {
        num_messages: usize,
        #[source]
        source: Box<minijinja::Error>,
    },
    #[error("chat template has `{num_bytes}` bytes, but none that hearth runs has more than {limit}")]
    TemplateLength { num_bytes: usize, limit: usize },
    #[error("chat template took more than {seconds} s and isn't run again; give the model another template")]
    TemplateTime { seconds: u64 },
    #[error("no thread could be started to render the chat template: {0}")]
    TemplateThread(#[source] std::io::Error),
    #[error("template variable `{name}` is the conversation's own and can't be set")]
    ReservedVariable { name: String },
    #[error("conversation has no assistant message, so there is nothing to learn from")]
    NothingToLearn,
    #[error("every token of the conversation is the assistant's, so there is nothing to answer")]
    NothingToAnswer,
    #[error("template writes no stop token after assistant message {message_index}")]
    NoEndOfTurn { message_index: usize },
    #[error(
        "template rewrites what stands before assistant message {message_index} once that message is there, \
         so training would see other ids than generation"
    )]
    PromptNotPrefix { message_index: usize },
    #[error("conversation uses every private-use character, so none is left to guard its text with")]
    NoGuard,
    #[error("message content part of type `{kind}` isn't text")]
    ContentPart { kind: String },
}
