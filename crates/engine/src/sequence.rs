//! One answer under way: its tokens, keys and values, and everything that decides the next token.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use hearth_kernels::loss::log_prob_of;
use hearth_model::Decoder;
use hearth_tensor::kv::KvCache;
use hearth_tokenizer::{StreamDecoder, TokenId, Tokenizer};

use crate::constraint::Matcher;
use crate::engine::{Adapted, Canceller};
use crate::prefix::{Found, NodeId};
use crate::request::{Error, Event, Finish, Request, Token, Usage};
use crate::sampling::{Sampler, choice_seed, top_logprobs};
use crate::speculate::Drafting;
use crate::stop::StopText;

/// Where the events of one choice go.
pub(crate) struct Output {
    /// The place of this choice among those of its request.
    pub(crate) index: usize,
    pub(crate) events: Sender<(usize, Event)>,
    pub(crate) canceller: Canceller,
}

impl Output {
    /// Nobody may be listening any more, then nobody needs it.
    pub(crate) fn send(&self, event: Event) -> bool {
        self.events.send((self.index, event)).is_ok()
    }
}

/// A checked request with where its events go.
pub(crate) struct Job {
    pub(crate) request: Request,
    /// The decoder with the request's adapter; `None` is the base.
    pub(crate) adapted: Option<Adapted>,
    pub(crate) matcher: Option<Matcher>,
    /// The first choice and its siblings, which share the prompt.
    pub(crate) outputs: Vec<Output>,
}

pub(crate) struct Sequence {
    pub(crate) request: Request,
    pub(crate) decoder: Arc<Decoder>,
    pub(crate) output: Output,
    /// Choices that begin where the prompt ends.
    pub(crate) siblings: Vec<Output>,
    /// Prompt and generated tokens; the cache holds keys and values of the first `cache.len()`.
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) cache: KvCache,
    /// Where its whole pages end in the prefix tree, and how many of them are kept there.
    pub(crate) node: NodeId,
    pub(crate) num_kept: usize,
    /// Its place in the order of admission.
    pub(crate) order: u64,
    pub(crate) drafting: Drafting,
    pub(crate) over: bool,
    usage: Usage,
    sampler: Sampler,
    matcher: Option<Matcher>,
    decoded: StreamDecoder,
    stop: StopText,
}

impl Sequence {
    /// Starts a job whose prompt's first positions are known already.
    pub(crate) fn start(job: Job, decoder: Arc<Decoder>, found: Found, tokenizer: &Arc<Tokenizer>) -> Self {
        let Found { cache, node, num_pages } = found;
        let Job { request, mut outputs, matcher, .. } = job;
        let tokens = request.prompt.clone();
        let output = outputs.remove(0);
        output.canceller.set_cached(cache.len());
        let mut sampler = Sampler::new(request.sampling.clone(), &tokens, tokenizer);
        sampler.set_seed(choice_seed(request.sampling.seed, output.index));
        Self {
            usage: Usage { prompt_tokens: tokens.len(), cached_tokens: cache.len(), completion_tokens: 0 },
            sampler,
            matcher,
            decoded: StreamDecoder::new(Arc::clone(tokenizer)),
            stop: StopText::new(request.stop.clone()),
            drafting: Drafting::default(),
            over: false,
            request,
            decoder,
            output,
            siblings: outputs,
            tokens,
            cache,
            node,
            num_kept: num_pages,
            order: 0,
        }
    }

    /// Gives its memory back. It goes on from where it is when its keys and values are there again.
    pub(crate) fn pause(&mut self) {
        self.cache.truncate(0);
        self.num_kept = 0;
        self.drafting = Drafting::default();
    }

    /// Goes on after a pause.
    pub(crate) fn resume(&mut self, found: Found) {
        self.cache = found.cache;
        self.node = found.node;
        self.num_kept = found.num_pages;
    }

    pub(crate) fn client(&self) -> &str {
        self.request.client.as_deref().unwrap_or_default()
    }

    /// Bytes of keys and values that are its alone, or shared with its siblings at most.
    pub(crate) fn own_bytes(&self) -> usize {
        self.cache.bytes() - self.num_kept * self.cache.page_bytes() + self.drafting.bytes()
    }

    pub(crate) fn num_generated(&self) -> usize {
        self.usage.completion_tokens
    }

    /// Ends all its choices with an error.
    pub(crate) fn fail(&mut self, error: &Error) {
        for output in std::mem::take(&mut self.siblings) {
            output.send(Event::Failed(error.clone()));
        }
        self.output.send(Event::Failed(error.clone()));
        self.over = true;
    }

    pub(crate) fn is_prefilling(&self) -> bool {
        self.cache.len() + 1 < self.tokens.len()
    }

    /// Places in the batch that this sequence and its siblings take.
    pub(crate) fn num_places(&self) -> usize {
        1 + self.siblings.len()
    }

    /// Tokens that may still be generated.
    pub(crate) fn num_left(&self, max_context: usize) -> usize {
        let by_request = self.request.max_tokens.saturating_sub(self.usage.completion_tokens);
        by_request.min(max_context.saturating_sub(self.tokens.len()))
    }

    /// Ends the choices nobody waits for any more.
    pub(crate) fn drop_cancelled(&mut self) {
        let (gone, left): (Vec<Output>, Vec<Output>) =
            std::mem::take(&mut self.siblings).into_iter().partition(|other| other.canceller.is_cancelled());
        self.siblings = left;
        for output in gone {
            output.send(Event::Failed(Error::Cancelled));
        }
        if self.output.canceller.is_cancelled() {
            self.output.send(Event::Failed(Error::Cancelled));
            match self.siblings.is_empty() {
                true => self.over = true,
                false => self.become_choice(0),
            }
        }
    }

    /// Takes the place of a sibling; what the prompt cost was this sequence's all the same.
    fn become_choice(&mut self, at: usize) {
        self.output = self.siblings.remove(at);
        self.sampler.set_seed(choice_seed(self.request.sampling.seed, self.output.index));
    }

    /// The siblings as sequences of their own. They share the prompt's pages until they write.
    pub(crate) fn fork(&mut self, tokenizer: &Arc<Tokenizer>) -> Vec<Self> {
        let fork = |output: Output| {
            let mut sampler = self.sampler.clone();
            sampler.set_seed(choice_seed(self.request.sampling.seed, output.index));
            Self {
                usage: Usage { cached_tokens: self.usage.prompt_tokens, ..self.usage },
                sampler,
                matcher: self.matcher.clone(),
                decoded: StreamDecoder::new(Arc::clone(tokenizer)),
                stop: self.stop.clone(),
                drafting: Drafting::default(),
                over: false,
                request: self.request.clone(),
                decoder: Arc::clone(&self.decoder),
                output,
                siblings: Vec::new(),
                tokens: self.tokens.clone(),
                cache: self.cache.clone(),
                node: self.node,
                num_kept: self.num_kept,
                order: self.order,
            }
        };
        std::mem::take(&mut self.siblings).into_iter().map(fork).collect()
    }

    /// Ends a request that asks for no token.
    pub(crate) fn end_empty(&mut self) {
        for output in std::mem::take(&mut self.siblings) {
            output.send(Event::Done { finish: Finish::Length, usage: self.usage, text: String::new() });
        }
        self.end(Finish::Length, String::new());
    }

    /// Chooses the next token from its logits and sends it.
    pub(crate) fn accept(&mut self, logits: &[f32], max_context: usize) -> Option<TokenId> {
        let id = match self.choose(logits) {
            Ok(id) => id,
            Err(error) => {
                self.output.send(Event::Failed(error));
                self.over = true;
                return None;
            }
        };
        self.usage.completion_tokens += 1;
        if self.request.stop_ids.contains(&id) {
            let rest = self.rest();
            self.end(Finish::Stop, rest);
            return None;
        }
        let piece = self.decoded.push(id);
        let (text, stopped) = self.stop.push(&piece);
        let (logprob, top) = match self.request.logprobs {
            None => (None, Vec::new()),
            Some(n) => (Some(log_prob_of(logits, id)), top_logprobs(logits, n)),
        };
        self.tokens.push(id);
        if !self.output.send(Event::Token(Token { id, text, logprob, top })) {
            self.over = true;
        } else if stopped {
            self.end(Finish::Stop, String::new());
        } else if self.matcher.as_ref().is_some_and(Matcher::is_complete) {
            let rest = self.rest();
            self.end(Finish::Stop, rest);
        } else if self.num_left(max_context) == 0 {
            let rest = self.rest();
            self.end(Finish::Length, rest);
        }
        Some(id)
    }

    fn choose(&mut self, logits: &[f32]) -> Result<TokenId, Error> {
        let id = match &mut self.matcher {
            None => self.sampler.choose(logits),
            Some(matcher) => {
                let id = self.sampler.choose(matcher.masked(logits)?);
                matcher.push(id)?;
                id
            }
        };
        if logits[id as usize].is_finite() { Ok(id) } else { Err(Error::NotFinite) }
    }

    /// What the stream decoder and the stop texts hold back.
    fn rest(&mut self) -> String {
        let tail = self.decoded.finish();
        let (mut text, stopped) = self.stop.push(&tail);
        if !stopped {
            text.push_str(&self.stop.finish());
        }
        text
    }

    fn end(&mut self, finish: Finish, text: String) {
        self.over = true;
        self.output.send(Event::Done { finish, usage: self.usage, text });
    }
}
