//! What is asked of an engine and what comes back.

use std::time::Instant;

use hearth_tokenizer::TokenId;

use crate::constraint::Constraint;
use crate::sampling::Sampling;

/// One completion of one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub prompt: Vec<TokenId>,
    /// Name given to [`crate::Engine::add_adapter`]; `None` is the base model.
    pub adapter: Option<String>,
    /// Tokens to generate at most; fewer if the context ends before.
    pub max_tokens: usize,
    pub sampling: Sampling,
    /// Tokens that end the answer and aren't part of it.
    pub stop_ids: Vec<TokenId>,
    /// Texts that end the answer and aren't part of it.
    pub stop: Vec<String>,
    /// What the text must look like; it is over as soon as nothing more may follow.
    pub constraint: Option<Constraint>,
    /// How many alternatives to report with each token's log-probability; `None` computes none.
    pub logprobs: Option<usize>,
    /// Who asks: clients take turns, whatever each of them asks for. All that name none are one client.
    pub client: Option<String>,
    /// Whether keys and values of earlier requests may be used. The answer is the same; without, its prompt is computed.
    pub reuses_prefix: bool,
    /// When an answer is of no use any more: the request then ends with [`Error::DeadlinePassed`].
    pub deadline: Option<Instant>,
}

impl Request {
    /// A greedy request on the base model.
    pub fn greedy(prompt: Vec<TokenId>, max_tokens: usize, stop_ids: Vec<TokenId>) -> Self {
        Self {
            prompt,
            adapter: None,
            max_tokens,
            sampling: Sampling::greedy(),
            stop_ids,
            stop: Vec::new(),
            constraint: None,
            logprobs: None,
            client: None,
            reuses_prefix: true,
            deadline: None,
        }
    }
}

/// A generated token. `text` is what the stream can show by now: it may be empty while a character is
/// unfinished or a stop text may be beginning, and then holds more than this token's text later.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    pub id: TokenId,
    pub text: String,
    /// Natural logarithm of the probability the model itself gives the token, if asked for: before the constraint,
    /// bias, penalties and temperature.
    pub logprob: Option<f32>,
    /// The model's most probable tokens, best first; by the same measure.
    pub top: Vec<(TokenId, f32)>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// A stop token, a stop text, or a constraint that is fulfilled.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
}

/// What was computed: the sum over requests is what the engine did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub prompt_tokens: usize,
    /// Of the prompt's tokens, those whose keys and values were reused.
    pub cached_tokens: usize,
    /// Generated tokens, the stop token included.
    pub completion_tokens: usize,
}

/// What a stream yields: tokens, then one end.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Token(Token),
    /// The last event of a good stream. `text` is what was still held back.
    Done {
        finish: Finish,
        usage: Usage,
        text: String,
    },
    Failed(Error),
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    pub text: String,
    pub tokens: Vec<Token>,
    pub finish: Finish,
    pub usage: Usage,
}

impl Usage {
    /// What several choices of one request cost together: the prompt counts once.
    pub fn of_choices<'a>(choices: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut choices = choices.into_iter();
        let first = choices.next().copied().unwrap_or_default();
        choices.fold(first, |sum, usage| Self {
            completion_tokens: sum.completion_tokens + usage.completion_tokens,
            ..sum
        })
    }
}

impl Completion {
    /// Log-probability a token; −∞ where there is none.
    pub fn mean_logprob(&self) -> f64 {
        let sum: f64 = self.tokens.iter().filter_map(|token| token.logprob).map(f64::from).sum();
        if self.tokens.is_empty() { f64::NEG_INFINITY } else { sum / self.tokens.len() as f64 }
    }
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("the prompt is empty")]
    EmptyPrompt,
    #[error(
        "the prompt has {prompt_tokens} tokens, the context holds {max_context} with at least one for the answer"
    )]
    ContextTooLong { prompt_tokens: usize, max_context: usize },
    #[error("token id {id} isn't in the vocabulary of {vocab_size}")]
    TokenId { id: TokenId, vocab_size: usize },
    #[error("`logit_bias` names the token {id}, which isn't in the vocabulary of {vocab_size}")]
    BiasedTokenId { id: TokenId, vocab_size: usize },
    #[error("no adapter is called `{name}`")]
    UnknownAdapter { name: String },
    #[error("`{name}` must be {expected}, not {value}")]
    Parameter { name: &'static str, value: f32, expected: &'static str },
    #[error("`{name}` must be 1 to {most} here, not {value}")]
    Count { name: &'static str, value: usize, most: usize },
    #[error("the {kind} can't be used: {reason}")]
    Constraint { kind: &'static str, reason: String },
    #[error(
        "the draft model has another vocabulary: token {id} is `{draft}` there and `{target}` here; choose a smaller \
         model of the same family, or prompt lookup"
    )]
    DraftVocabulary { id: TokenId, draft: String, target: String },
    #[error("the model computed values that aren't finite; its weights are damaged")]
    NotFinite,
    #[error(
        "the queue is full: {waiting_requests} requests with {waiting_tokens} prompt tokens wait already; \
         try again in {retry_after_s} s"
    )]
    QueueFull { waiting_requests: usize, waiting_tokens: usize, retry_after_s: u64 },
    #[error(
        "the request needs {needed_bytes} bytes for keys and values of {tokens} positions, prompt and answer; the \
         budget is {budget_bytes} bytes: ask for fewer tokens or give more memory"
    )]
    MemoryBudget { tokens: usize, needed_bytes: usize, budget_bytes: usize },
    #[error("the deadline passed after {generated_tokens} tokens of the answer")]
    DeadlinePassed { generated_tokens: usize },
    #[error("`{folder}` can't hold keys and values: {reason}")]
    Store { folder: String, reason: String },
    #[error("the request was cancelled")]
    Cancelled,
    #[error("the engine has stopped")]
    Stopped,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;
