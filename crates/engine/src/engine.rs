//! The handle to a running engine: submit from any thread, read results as they come.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use hearth_kernels::pool::Pool;
use hearth_model::{Adapter, Decoder, Model};

use crate::request::{Completion, Error, Event, Request, Result};
use crate::scheduler::{Job, Scheduler};

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
}

/// A model that generates. Dropping it ends the scheduler's thread.
#[derive(Debug)]
pub struct Engine {
    model: Arc<Model>,
    pool: Arc<Pool>,
    max_context: usize,
    adapters: Arc<RwLock<BTreeMap<String, Arc<Decoder>>>>,
    jobs: Mutex<Option<Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The events of one request. Dropping it cancels the request.
#[derive(Debug)]
pub struct Stream {
    events: Receiver<Event>,
    canceller: Canceller,
}

/// Ends one request from anywhere; the engine sees it before its next step, in the middle of a prompt too.
#[derive(Debug, Clone, Default)]
pub struct Canceller {
    // Nothing else is published through it, so the weakest ordering will do.
    cancelled: Arc<AtomicBool>,
}

impl Canceller {
    /// The stream then ends with [`Error::Cancelled`], unless the request was over already.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
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

    /// Waits for the next event; `None` after the last.
    pub fn next_event(&self) -> Option<Event> {
        self.events.recv().ok()
    }

    /// Reads to the end.
    pub fn collect(self) -> Result<Completion> {
        let (mut text, mut tokens) = (String::new(), Vec::new());
        while let Some(event) = self.next_event() {
            match event {
                Event::Token(token) => {
                    text.push_str(&token.text);
                    tokens.push(token);
                }
                Event::Done { finish, usage, text: rest } => {
                    text.push_str(&rest);
                    return Ok(Completion { text, tokens, finish, usage });
                }
                Event::Failed(error) => return Err(error),
            }
        }
        Err(Error::Stopped)
    }
}

impl Engine {
    /// Starts the scheduler's thread.
    pub fn start(model: Arc<Model>, pool: Arc<Pool>, config: EngineConfig) -> Self {
        let max_context = config.max_context.min(model.config().max_seq_len);
        let (sender, receiver) = channel();
        let scheduler =
            Scheduler::new(Arc::clone(&model), Arc::clone(&pool), EngineConfig { max_context, ..config });
        let thread = std::thread::spawn(move || scheduler.run(&receiver));
        Self {
            model,
            pool,
            max_context,
            adapters: Arc::default(),
            jobs: Mutex::new(Some(sender)),
            thread: Mutex::new(Some(thread)),
        }
    }

    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Positions of a sequence at most.
    pub fn max_context(&self) -> usize {
        self.max_context
    }

    /// Makes an adapter available to requests under a name; an old one of that name is replaced.
    pub fn add_adapter(&self, name: &str, adapter: &Adapter) {
        let decoder = Arc::new(adapter.apply(&self.model.decoder));
        let mut adapters = self.adapters.write().unwrap_or_else(PoisonError::into_inner);
        adapters.insert(name.into(), decoder);
    }

    /// Queues a request. What is wrong with it is known at once.
    pub fn submit(&self, request: Request) -> Result<Stream> {
        request.sampling.check()?;
        let vocab_size = self.model.config().vocab_size;
        if let Some(&id) = request.prompt.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(Error::TokenId { id, vocab_size });
        }
        if request.prompt.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if request.prompt.len() >= self.max_context {
            let prompt_tokens = request.prompt.len();
            return Err(Error::ContextTooLong { prompt_tokens, max_context: self.max_context });
        }
        let decoder = match &request.adapter {
            None => None,
            Some(name) => {
                let adapters = self.adapters.read().unwrap_or_else(PoisonError::into_inner);
                let found = adapters.get(name).cloned();
                Some(found.ok_or_else(|| Error::UnknownAdapter { name: name.clone() })?)
            }
        };
        let (events, receiver) = channel();
        let canceller = Canceller::default();
        let job = Job { request, decoder, events, canceller: canceller.clone() };
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = jobs.as_ref().ok_or(Error::Stopped)?;
        sender.send(job).map_err(|_| Error::Stopped)?;
        Ok(Stream { events: receiver, canceller })
    }

    /// Submits and waits for the whole answer.
    pub fn generate(&self, request: Request) -> Result<Completion> {
        self.submit(request)?.collect()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A panic of the scheduler has closed every stream already.
            let _ = thread.join();
        }
    }
}
