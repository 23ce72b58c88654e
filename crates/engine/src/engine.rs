//! The handle to a running engine: submit from any thread, read results as they come.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Instant;

use hearth_artifacts::hash::Hasher;
use hearth_kernels::attention::PAGE;
use hearth_kernels::pool::Pool;
use hearth_model::{Adapter, Decoder, Model};
use hearth_tensor::kv::KvCache;
use hearth_tokenizer::TokenId;

use crate::constraint::Compiler;
use crate::counters::{Computed, Counters, Load};
use crate::echo;
use crate::request::{Completion, Error, Event, Request, Result};
use crate::scheduler::Scheduler;
use crate::score::each_row;
use crate::sequence::{Job, Output};
use crate::speculate::{Speculation, Speculator};
use crate::store::{Store, StoreConfig};

/// Limits of one engine.
#[derive(Debug, Clone, Copy)]
pub struct EngineConfig {
    /// Positions of a sequence at most, prompt and answer; cut to what the model was trained for.
    pub max_context: usize,
    /// Sequences computed together.
    pub max_batch: usize,
    /// Prompt tokens computed in one step, so that a long prompt doesn't stall other streams.
    pub prefill_chunk: usize,
    /// Bytes of keys and values kept of finished sequences.
    pub prefix_cache_bytes: usize,
    /// Bytes of keys and values in all at most, of running sequences and kept ones.
    pub kv_bytes: usize,
    /// Requests that may wait, and prompt tokens of them; more are refused with [`Error::QueueFull`].
    pub max_queue_requests: usize,
    pub max_queue_tokens: usize,
}

impl EngineConfig {
    /// A small batch, no prefix cache and no limits on memory or queue: what a single caller needs.
    pub const fn new(max_context: usize) -> Self {
        Self {
            max_context,
            max_batch: 8,
            prefill_chunk: 256,
            prefix_cache_bytes: 0,
            kv_bytes: usize::MAX,
            max_queue_requests: usize::MAX,
            max_queue_tokens: usize::MAX,
        }
    }
}

/// A model that generates. Dropping it ends the scheduler's thread.
#[derive(Debug)]
pub struct Engine {
    model: Arc<Model>,
    pool: Arc<Pool>,
    config: EngineConfig,
    counters: Arc<Counters>,
    compiler: OnceLock<Compiler>,
    adapters: RwLock<BTreeMap<String, Adapted>>,
    scoring: Mutex<()>,
    jobs: Mutex<Option<Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A decoder with an adapter, and what names the adapter's weights.
#[derive(Debug, Clone)]
pub(crate) struct Adapted {
    pub(crate) decoder: Arc<Decoder>,
    pub(crate) hash: String,
}

/// The events of one request, of all its choices. Dropping it cancels the request.
#[derive(Debug)]
pub struct Stream {
    events: Receiver<(usize, Event)>,
    num_choices: usize,
    canceller: Canceller,
}

/// Ends one request from anywhere; the engine sees it before its next step, in the middle of a prompt too.
#[derive(Debug, Clone, Default)]
pub struct Canceller {
    // Nothing else is published through these, so the weakest ordering will do.
    cancelled: Arc<AtomicBool>,
    cached_tokens: Arc<AtomicUsize>,
}

impl Canceller {
    /// The stream then ends with [`Error::Cancelled`], unless the request was over already.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Tells the stream how much of its prompt was known.
    pub(crate) fn set_cached(&self, tokens: usize) {
        self.cached_tokens.store(tokens, Ordering::Relaxed);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.canceller.cancel();
    }
}

impl Stream {
    /// Cancels this request while another thread waits for its next event.
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    /// Waits for the next event of any choice; `None` after the last.
    pub fn next_event(&self) -> Option<Event> {
        self.next_of_choice().map(|(_, event)| event)
    }

    /// Waits for the next event and says whose it is; `None` after the last of all choices.
    pub fn next_of_choice(&self) -> Option<(usize, Event)> {
        self.events.recv().ok()
    }

    pub fn num_choices(&self) -> usize {
        self.num_choices
    }

    /// Of the prompt's tokens, those whose keys and values were reused: known from the first token on, also of a request
    /// that never ends well.
    pub fn cached_tokens(&self) -> usize {
        self.canceller.cached_tokens.load(Ordering::Relaxed)
    }

    /// Reads the first choice to its end.
    pub fn collect(self) -> Result<Completion> {
        Ok(self.collect_choices()?.remove(0))
    }

    /// Reads all choices to their ends. The first one's usage holds what the prompt cost.
    pub fn collect_choices(self) -> Result<Vec<Completion>> {
        let mut open: Vec<Option<Completion>> = Vec::new();
        let mut parts = vec![(String::new(), Vec::new()); self.num_choices];
        open.resize(self.num_choices, None);
        while open.iter().any(Option::is_none) {
            let (index, event) = self.next_of_choice().ok_or(Error::Stopped)?;
            let (text, tokens) = &mut parts[index];
            match event {
                Event::Token(token) => {
                    text.push_str(&token.text);
                    tokens.push(token);
                }
                Event::Done { finish, usage, text: rest } => {
                    let text = std::mem::take(text) + &rest;
                    let tokens = std::mem::take(tokens);
                    open[index] = Some(Completion { text, tokens, finish, usage });
                }
                Event::Failed(error) => return Err(error),
            }
        }
        Ok(open.into_iter().flatten().collect())
    }
}

impl Engine {
    /// Starts the scheduler's thread, without speculation.
    pub fn start(model: Arc<Model>, pool: Arc<Pool>, config: EngineConfig) -> Self {
        Self::start_checked(model, pool, config, (Speculation::Off, None))
    }

    /// Starts the scheduler's thread.
    pub fn start_with(
        model: Arc<Model>,
        pool: Arc<Pool>,
        config: EngineConfig,
        speculation: Speculation,
    ) -> Result<Self> {
        speculation.check(&model)?;
        Ok(Self::start_checked(model, pool, config, (speculation, None)))
    }

    /// Starts the scheduler's thread; keys and values of prompts outlive the process.
    pub fn start_with_store(
        model: Arc<Model>,
        pool: Arc<Pool>,
        config: EngineConfig,
        speculation: Speculation,
        store: StoreConfig,
    ) -> Result<Self> {
        speculation.check(&model)?;
        let folder = store.folder.clone();
        let store = Store::open(store).map_err(|error| Error::Store {
            folder: folder.display().to_string(),
            reason: error.to_string(),
        })?;
        Ok(Self::start_checked(model, pool, config, (speculation, Some(store))))
    }

    fn start_checked(
        model: Arc<Model>,
        pool: Arc<Pool>,
        config: EngineConfig,
        (speculation, store): (Speculation, Option<Store>),
    ) -> Self {
        Self::start_thread(model, pool, config, |engine, jobs| {
            let scheduler = Scheduler::new(
                Arc::clone(&engine.model),
                Arc::clone(&engine.pool),
                engine.config,
                (Speculator::new(speculation), store),
                Arc::clone(&engine.counters),
            );
            std::thread::spawn(move || scheduler.run(&jobs))
        })
    }

    /// Starts a stand-in that never runs the model: answers repeat the prompt's tokens. For measuring what a request
    /// costs beside the model, and nothing else.
    pub fn start_echo(model: Arc<Model>, pool: Arc<Pool>, config: EngineConfig) -> Self {
        Self::start_thread(model, pool, config, |engine, jobs| {
            let (tokenizer, counters) = (Arc::clone(engine.model.tokenizer()), Arc::clone(&engine.counters));
            let max_context = engine.max_context();
            std::thread::spawn(move || echo::run(&tokenizer, &counters, max_context, &jobs))
        })
    }

    fn start_thread(
        model: Arc<Model>,
        pool: Arc<Pool>,
        config: EngineConfig,
        spawn: impl FnOnce(&Self, Receiver<Job>) -> JoinHandle<()>,
    ) -> Self {
        let max_context = config.max_context.min(model.config().max_seq_len);
        let (sender, receiver) = channel();
        let engine = Self {
            model,
            pool,
            config: EngineConfig { max_context, ..config },
            counters: Arc::default(),
            compiler: OnceLock::new(),
            adapters: RwLock::default(),
            scoring: Mutex::default(),
            jobs: Mutex::new(Some(sender)),
            thread: Mutex::default(),
        };
        let thread = spawn(&engine, receiver);
        *engine.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        engine
    }

    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Positions of a sequence at most.
    pub fn max_context(&self) -> usize {
        self.config.max_context
    }

    /// Bytes of the weights, and of the keys and values it may hold.
    pub fn bytes(&self) -> usize {
        self.model.decoder.weight_bytes().saturating_add(self.config.kv_bytes)
    }

    /// Makes an adapter available to requests under a name; an old one of that name is replaced.
    pub fn add_adapter(&self, name: &str, adapter: &Adapter) {
        let decoder = Arc::new(adapter.apply_on(&self.pool, &self.model.decoder));
        let mut hasher = Hasher::default();
        for param in adapter.params() {
            for value in param.data.iter() {
                hasher.update(&value.to_le_bytes());
            }
        }
        let hash = format!("{}|{:?}", hasher.finish(), adapter.config);
        let mut adapters = self.adapters.write().unwrap_or_else(PoisonError::into_inner);
        adapters.insert(name.into(), Adapted { decoder, hash });
    }

    /// Log-probabilities of a given text: calls `visit(i, logits)` for each position, with what the model expects
    /// after `ids[i]`. The bits are those of generation. One text at a time; requests under way go on beside it.
    pub fn score(
        &self,
        adapter: Option<&str>,
        ids: &[TokenId],
        visit: impl FnMut(usize, &[f32]),
    ) -> Result<()> {
        let adapted = adapter.map(|name| self.adapted(name)).transpose()?;
        let decoder = adapted.as_ref().map_or(&self.model.decoder, |adapted| &*adapted.decoder);
        if ids.len() > self.config.max_context {
            let prompt_tokens = ids.len();
            return Err(Error::ContextTooLong { prompt_tokens, max_context: self.config.max_context });
        }
        let _turn = self.scoring.lock().unwrap_or_else(PoisonError::into_inner);
        each_row(decoder, &self.pool, ids, 0, visit)?;
        self.counters.tokens.add(ids.len());
        self.counters.prompt.add(ids.len());
        Ok(())
    }

    fn adapted(&self, name: &str) -> Result<Adapted> {
        let adapters = self.adapters.read().unwrap_or_else(PoisonError::into_inner);
        adapters.get(name).cloned().ok_or_else(|| Error::UnknownAdapter { name: name.into() })
    }

    /// What was computed so far.
    pub fn computed(&self) -> Computed {
        self.counters.computed()
    }

    /// What waits, runs and lies in memory right now.
    pub fn load(&self) -> Load {
        self.counters.load()
    }

    /// Queues a request. What is wrong with it is known at once.
    pub fn submit(&self, request: Request) -> Result<Stream> {
        self.submit_choices(request, 1)
    }

    /// Queues `n` answers to one prompt, which is computed once. The first is what [`Self::submit`] gives; the others
    /// have seeds of their own, made from the request's ([`crate::sampling::choice_seed`]).
    pub fn submit_choices(&self, request: Request, n: usize) -> Result<Stream> {
        self.check(&request)?;
        if !(1..=self.config.max_batch).contains(&n) {
            return Err(Error::Count { name: "n", value: n, most: self.config.max_batch });
        }
        let adapted = request.adapter.as_ref().map(|name| self.adapted(name)).transpose()?;
        let matcher = match &request.constraint {
            None => None,
            Some(constraint) => Some(self.compiler()?.compile(constraint, &request.stop_ids)?),
        };
        let (events, receiver) = channel();
        let canceller = Canceller::default();
        let output = |index| Output { index, events: events.clone(), canceller: canceller.clone() };
        let outputs = (0..n).map(output).collect();
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = jobs.as_ref().ok_or(Error::Stopped)?;
        // Under the lock of the jobs, so that two requests never take the same last place.
        self.counters.enqueue(&request, &self.config)?;
        sender.send(Job { request, adapted, matcher, outputs }).map_err(|_| Error::Stopped)?;
        Ok(Stream { events: receiver, num_choices: n, canceller })
    }

    fn check(&self, request: &Request) -> Result<()> {
        request.sampling.check()?;
        let vocab_size = self.model.config().vocab_size;
        if let Some(&id) = request.prompt.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(Error::TokenId { id, vocab_size });
        }
        if let Some(&(id, _)) = request.sampling.logit_bias.iter().find(|bias| bias.0 as usize >= vocab_size)
        {
            return Err(Error::BiasedTokenId { id, vocab_size });
        }
        if request.prompt.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if request.prompt.len() >= self.config.max_context {
            let prompt_tokens = request.prompt.len();
            return Err(Error::ContextTooLong { prompt_tokens, max_context: self.config.max_context });
        }
        if request.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(Error::DeadlinePassed { generated_tokens: 0 });
        }
        self.check_memory(request)
    }

    /// Alone at the latest, a request must fit: others are paused for it.
    fn check_memory(&self, request: &Request) -> Result<()> {
        let positions = request.prompt.len().saturating_add(request.max_tokens);
        let tokens = positions.min(self.config.max_context);
        // One page more: the first page that is written may still be shared, and is copied then.
        let num_pages = tokens.div_ceil(PAGE) + 1;
        let needed_bytes = num_pages * KvCache::new(self.model.decoder.page_layout()).page_bytes();
        if needed_bytes > self.config.kv_bytes {
            return Err(Error::MemoryBudget { tokens, needed_bytes, budget_bytes: self.config.kv_bytes });
        }
        Ok(())
    }

    /// Built when the first constraint comes: it reads the whole vocabulary.
    fn compiler(&self) -> Result<&Compiler> {
        if let Some(compiler) = self.compiler.get() {
            return Ok(compiler);
        }
        let compiler = Compiler::new(self.model.tokenizer(), self.model.config().vocab_size)?;
        Ok(self.compiler.get_or_init(|| compiler))
    }

    /// Submits and waits for the whole answer.
    pub fn generate(&self, request: Request) -> Result<Completion> {
        self.submit(request)?.collect()
    }
}

impl Engine {
    /// Ends every request with [`Error::Stopped`], keeps what is worth keeping on disk, and waits for that.
    pub fn stop(&self) {
        self.counters.stop();
        self.join();
    }

    fn join(&self) {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A panic of the scheduler has closed every stream already.
            let _ = thread.join();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.join();
    }
}
