//! What the endpoints share: the engine, and what may change while the server runs.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use hearth_engine::{Engine, Registry as Models, Sampling};
use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::gateway::Upstream;
use crate::generate;
use crate::grounding::{Embedding, Grounding, Passages};
use crate::knowledge::Knowledge;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::rates::Rates;

/// A name that requests can ask for in `model`.
#[derive(Debug, Clone)]
pub struct Assistant {
    pub name: String,
    /// One sentence for the page's list.
    pub description: String,
    /// The registry's name of a model ([`State::set_models`]); `None` is the server's own engine.
    pub model: Option<String>,
    /// The engine's name of an adapter; `None` is the base model.
    pub adapter: Option<String>,
    /// Stands before whatever the conversation brings.
    pub system: Option<String>,
    pub grounding: Option<Arc<dyn Grounding>>,
    /// Where a request says nothing else. Its seed isn't used.
    pub sampling: Sampling,
    /// Tokens of an answer where a request names no limit.
    pub max_tokens: usize,
}

impl Assistant {
    /// The base model under a name: greedy, no documents.
    pub fn base(name: &str) -> Self {
        Self {
            name: name.into(),
            description: String::new(),
            model: None,
            adapter: None,
            system: None,
            grounding: None,
            sampling: Sampling::greedy(),
            max_tokens: 1024,
        }
    }
}

/// What goes on behind the server, for the page's status line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Behind {
    /// A short noun, `comparison` say.
    pub stage: String,
    /// What is done now.
    pub text: String,
    pub done: u64,
    pub total: u64,
}

/// Shared by all requests; every method may be called while serving.
#[derive(Debug)]
pub struct State {
    engine: Option<Arc<Engine>>,
    models: RwLock<Option<Arc<Models>>>,
    assistants: RwLock<Registry>,
    passages: RwLock<Option<Arc<dyn Passages>>>,
    embedding: RwLock<Option<Arc<dyn Embedding>>>,
    knowledge: RwLock<Option<Arc<dyn Knowledge>>>,
    behind: RwLock<Option<Behind>>,
    report: RwLock<Option<PathBuf>>,
    ledger: RwLock<Option<Arc<Ledger>>>,
    upstreams: RwLock<Vec<Arc<Upstream>>>,
    metrics: Metrics,
    rates: Rates,
    log: RwLock<Option<Log>>,
    num_ids: AtomicU64,
    is_stopping: AtomicBool,
    seed: u64,
    num_requests: AtomicU64,
    started: u64,
}

#[derive(Clone)]
struct Log(Arc<dyn Fn(&Value) + Send + Sync>);

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Log")
    }
}

#[derive(Debug)]
struct Registry {
    /// In the order of registration; never empty.
    assistants: Vec<Arc<Assistant>>,
    default: String,
}

impl State {
    /// Serves one assistant, which is the default until another is named. `seed` stands behind requests that
    /// bring none of their own.
    pub fn new(engine: Arc<Engine>, base: Assistant, seed: u64) -> Self {
        Self::with(Some(engine), base, seed)
    }

    /// Has no engine of its own: every assistant names its model, which is loaded and unloaded as needed.
    pub fn of_models(models: Arc<Models>, base: Assistant, seed: u64) -> Self {
        let state = Self::with(None, base, seed);
        state.set_models(models);
        state
    }

    fn with(engine: Option<Arc<Engine>>, base: Assistant, seed: u64) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let default = base.name.clone();
        Self {
            engine,
            models: RwLock::default(),
            assistants: RwLock::new(Registry { assistants: vec![Arc::new(base)], default }),
            passages: RwLock::default(),
            embedding: RwLock::default(),
            knowledge: RwLock::default(),
            behind: RwLock::default(),
            report: RwLock::default(),
            ledger: RwLock::default(),
            upstreams: RwLock::default(),
            metrics: Metrics::default(),
            rates: Rates::default(),
            log: RwLock::default(),
            num_ids: AtomicU64::new(0),
            is_stopping: AtomicBool::new(false),
            seed,
            num_requests: AtomicU64::new(0),
            started,
        }
    }

    /// The server's own engine; `None` where all models come from the registry.
    pub fn engine(&self) -> Option<&Arc<Engine>> {
        self.engine.as_ref()
    }

    /// More models than the server's own engine.
    pub fn set_models(&self, models: Arc<Models>) {
        put(&self.models, Some(models));
    }

    pub fn models(&self) -> Option<Arc<Models>> {
        get(&self.models)
    }

    /// The engine of an assistant. It may be loaded first: not for threads that must not wait.
    pub fn engine_of(&self, assistant: &Assistant) -> Result<Arc<Engine>> {
        let Some(name) = &assistant.model else {
            let unknown = || Error::UnknownModel { name: assistant.name.clone(), known: Vec::new() };
            return self.engine.clone().ok_or_else(unknown);
        };
        let unknown = || Error::UnknownModel { name: name.clone(), known: Vec::new() };
        Ok(self.models().ok_or_else(unknown)?.engine(name)?)
    }

    /// The same for async callers, who go on meanwhile.
    pub(crate) async fn loaded(self: &Arc<Self>, assistant: &Arc<Assistant>) -> Result<Arc<Engine>> {
        if assistant.model.is_none() {
            return self.engine_of(assistant);
        }
        let (state, assistant) = (Arc::clone(self), Arc::clone(assistant));
        generate::blocking(move || state.engine_of(&assistant)).await
    }

    /// Every engine that is loaded.
    pub(crate) fn engines(&self) -> Vec<Arc<Engine>> {
        let more = self.models().map(|models| models.loaded()).unwrap_or_default();
        self.engine.iter().cloned().chain(more.into_iter().map(|(_, engine)| engine)).collect()
    }

    /// Ends every generation and keeps on disk what is worth keeping.
    pub fn stop(&self) {
        if let Some(engine) = &self.engine {
            engine.stop();
        }
        if let Some(models) = self.models() {
            models.stop();
        }
    }

    /// Makes an assistant available; an old one of that name is replaced.
    pub fn register(&self, assistant: Assistant) {
        let mut registry = self.assistants.write().unwrap_or_else(PoisonError::into_inner);
        let assistant = Arc::new(assistant);
        match registry.assistants.iter_mut().find(|known| known.name == assistant.name) {
            Some(known) => *known = assistant,
            None => registry.assistants.push(assistant),
        }
    }

    /// Names the assistant that the page and requests without `model` get.
    pub fn set_default(&self, name: &str) -> Result<()> {
        self.assistant(name)?;
        self.assistants.write().unwrap_or_else(PoisonError::into_inner).default = name.into();
        Ok(())
    }

    /// Every assistant in the order of registration.
    pub fn assistants(&self) -> Vec<Arc<Assistant>> {
        self.assistants.read().unwrap_or_else(PoisonError::into_inner).assistants.clone()
    }

    /// Name of the default assistant.
    pub fn default_name(&self) -> String {
        self.assistants.read().unwrap_or_else(PoisonError::into_inner).default.clone()
    }

    pub fn assistant(&self, name: &str) -> Result<Arc<Assistant>> {
        let assistants = self.assistants();
        if let Some(found) = assistants.iter().find(|assistant| assistant.name == name) {
            return Ok(Arc::clone(found));
        }
        let known = assistants.iter().map(|assistant| assistant.name.clone()).collect();
        Err(Error::UnknownModel { name: name.into(), known })
    }

    pub fn set_passages(&self, passages: Arc<dyn Passages>) {
        put(&self.passages, Some(passages));
    }

    pub fn passages(&self) -> Option<Arc<dyn Passages>> {
        get(&self.passages)
    }

    pub fn set_knowledge(&self, knowledge: Arc<dyn Knowledge>) {
        put(&self.knowledge, Some(knowledge));
    }

    pub(crate) fn knowledge(&self) -> Option<Arc<dyn Knowledge>> {
        get(&self.knowledge)
    }

    pub fn set_embedding(&self, embedding: Arc<dyn Embedding>) {
        put(&self.embedding, Some(embedding));
    }

    pub fn embedding(&self) -> Option<Arc<dyn Embedding>> {
        get(&self.embedding)
    }

    /// The embedder, if it has this name.
    pub(crate) fn embedding_named(&self, name: Option<String>) -> Result<Arc<dyn Embedding>> {
        let embedding = self.embedding().ok_or(Error::NoEmbedding)?;
        match name.filter(|name| name != embedding.name()) {
            Some(name) => Err(Error::UnknownModel { name, known: vec![embedding.name().into()] }),
            None => Ok(embedding),
        }
    }

    /// Counts every request in these accounts, and lets their keys decide who may ask.
    pub fn set_ledger(&self, ledger: Arc<Ledger>) {
        put(&self.ledger, Some(ledger));
    }

    pub fn ledger(&self) -> Option<Arc<Ledger>> {
        get(&self.ledger)
    }

    /// Makes a model of other servers available; an old one of that name is replaced.
    pub fn add_upstream(&self, upstream: Upstream) {
        let mut upstreams = self.upstreams.write().unwrap_or_else(PoisonError::into_inner);
        upstreams.retain(|known| known.name() != upstream.name());
        let upstream = Arc::new(upstream);
        upstream.watch();
        upstreams.push(upstream);
    }

    pub(crate) fn upstreams(&self) -> Vec<Arc<Upstream>> {
        get(&self.upstreams)
    }

    pub(crate) fn has_upstreams(&self) -> bool {
        !self.upstreams.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(crate) fn upstream(&self, name: &str) -> Option<Arc<Upstream>> {
        self.upstreams().into_iter().find(|upstream| upstream.name() == name)
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn rates(&self) -> &Rates {
        &self.rates
    }

    /// What goes on behind the server; `None` when it is over.
    pub fn set_behind(&self, behind: Option<Behind>) {
        put(&self.behind, behind);
    }

    pub fn behind(&self) -> Option<Behind> {
        get(&self.behind)
    }

    /// The report's HTML file once it is written.
    pub fn set_report(&self, path: PathBuf) {
        put(&self.report, Some(path));
    }

    pub fn report(&self) -> Option<PathBuf> {
        get(&self.report)
    }

    /// Seconds since 1970 when this state was made.
    pub(crate) fn started(&self) -> u64 {
        self.started
    }

    /// Gets a line for each request: an object without prompts, answers and keys.
    pub fn set_log(&self, log: Arc<dyn Fn(&Value) + Send + Sync>) {
        put(&self.log, Some(Log(log)));
    }

    pub(crate) fn log(&self, line: &Value) {
        if let Some(Log(log)) = get(&self.log) {
            log(line);
        }
    }

    /// From here on nothing new is promised.
    pub(crate) fn set_stopping(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// An id for a request that brings none.
    pub(crate) fn request_id(&self) -> String {
        format!("req_{:x}{:08x}", self.started, self.num_ids.fetch_add(1, Ordering::Relaxed))
    }

    /// A number no other request of this server has.
    pub(crate) fn next_request(&self) -> u64 {
        self.num_requests.fetch_add(1, Ordering::Relaxed)
    }

    /// The seed of a request that brings none: the finaliser of `SplitMix64` (Steele et al. 2014) keeps the
    /// engine's draws for neighbouring requests apart.
    pub(crate) fn seed_of(&self, request: u64) -> u64 {
        let mut z = self.seed ^ request.wrapping_mul(0xD134_2543_DE82_EF95);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

fn put<T>(slot: &RwLock<T>, value: T) {
    *slot.write().unwrap_or_else(PoisonError::into_inner) = value;
}

fn get<T: Clone>(slot: &RwLock<T>) -> T {
    slot.read().unwrap_or_else(PoisonError::into_inner).clone()
}
