//! Names to loaded models: pulled if need be, then read into memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use hearth_artifacts::home::Home;
use hearth_artifacts::progress::Progress;
use hearth_engine::{Engine, EngineConfig, Speculation};
use hearth_hub::{Hub, HubConfig, Local};
use hearth_kernels::pool::Pool;
use hearth_knowledge::embed::Embedder;
use hearth_model::encoder::Encoder;
use hearth_model::{Adapter, Model};

use crate::args::{KvArgs, SpeculationArgs};
use crate::memory;

/// Bytes of keys and values kept of finished conversations: 512 MiB hold some 20 000 tokens of the default model.
const PREFIX_CACHE_BYTES: usize = 512 << 20;

/// The home folder and the threads: what every verb needs.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) home: Home,
    pub(crate) pool: Arc<Pool>,
}

impl Machine {
    pub(crate) fn new(threads: Option<u16>) -> Result<Self> {
        let threads = threads.map_or_else(Pool::default_threads, usize::from);
        Ok(Self { home: Home::from_env()?, pool: Arc::new(Pool::new(threads)) })
    }

    pub(crate) fn hub(&self) -> Hub {
        Hub::new(&self.home, HubConfig::from_env())
    }

    pub(crate) fn pull(&self, name: &str, progress: &dyn Progress) -> Result<Local> {
        Ok(self.hub().pull(name, progress)?)
    }

    /// [`Self::model`] with keys and values kept as the arguments say.
    pub(crate) fn model_with(
        &self,
        name: &str,
        kv: KvArgs,
        progress: &dyn Progress,
    ) -> Result<(Local, Arc<Model>)> {
        let local = self.pull(name, progress)?;
        let model = self.open_with(&local.path, kv)?;
        Ok((local, model))
    }

    /// [`Self::open`] with keys and values kept as the arguments say.
    pub(crate) fn open_with(&self, path: &Path, kv: KvArgs) -> Result<Arc<Model>> {
        let mut model = self.open(path)?;
        Arc::get_mut(&mut model).expect("nobody else has it yet").decoder.kv = kv.options();
        Ok(model)
    }

    /// Pulls and loads a chat model.
    pub(crate) fn model(&self, name: &str, progress: &dyn Progress) -> Result<(Local, Arc<Model>)> {
        let local = self.pull(name, progress)?;
        let model = self.open(&local.path)?;
        Ok((local, model))
    }

    pub(crate) fn open(&self, path: &Path) -> Result<Arc<Model>> {
        memory::check_weights(path)?;
        let model = Model::open(path, &self.pool);
        Ok(Arc::new(model.with_context(|| format!("`{}` can't be loaded", path.display()))?))
    }

    /// The folder of an adapter that is named by its run or by its path.
    pub(crate) fn adapter_folder(&self, name: &str) -> Result<PathBuf> {
        let is_adapter = |folder: &PathBuf| folder.join("adapter_config.json").is_file();
        let run = self.home.runs().join(name);
        let places = [PathBuf::from(name), Path::new(name).join("adapter"), run.join("adapter")];
        places.into_iter().find(is_adapter).with_context(|| {
            format!(
                "no adapter `{name}`: neither `{name}` nor `{}` holds an `adapter_config.json`\nhint: a run of `hearth \
                 train` has one when it is done",
                run.join("adapter").display()
            )
        })
    }

    /// A model that nobody uses yet with an adapter on it, if one is named.
    pub(crate) fn adapted(&self, mut model: Arc<Model>, adapter: Option<&str>) -> Result<Arc<Model>> {
        let Some(name) = adapter else { return Ok(model) };
        let folder = self.adapter_folder(name)?;
        let only = Arc::get_mut(&mut model).expect("nobody else has it yet");
        let adapter = Adapter::open(&folder, &only.decoder)
            .with_context(|| format!("`{}` doesn't fit this model", folder.display()))?;
        only.decoder = adapter.apply_on(&self.pool, &only.decoder);
        Ok(model)
    }

    /// Starts an engine with the defaults of this machine.
    pub(crate) fn engine(&self, model: &Arc<Model>, max_context: usize) -> Arc<Engine> {
        Arc::new(Engine::start(Arc::clone(model), Arc::clone(&self.pool), engine_config(max_context)))
    }

    /// Starts an engine that guesses ahead; a draft model is pulled and loaded.
    pub(crate) fn guessing_engine(
        &self,
        model: &Arc<Model>,
        max_context: usize,
        args: &SpeculationArgs,
        progress: &dyn Progress,
    ) -> Result<Arc<Engine>> {
        let speculation = self.speculation(args, progress)?;
        let (model, pool) = (Arc::clone(model), Arc::clone(&self.pool));
        Ok(Arc::new(Engine::start_with(model, pool, engine_config(max_context), speculation)?))
    }

    pub(crate) fn speculation(&self, args: &SpeculationArgs, progress: &dyn Progress) -> Result<Speculation> {
        let max_draft = args.max_draft;
        Ok(match &args.draft {
            Some(name) => Speculation::Draft { model: self.model(name, progress)?.1, max_draft },
            None if args.prompt_lookup => Speculation::PromptLookup { max_draft },
            None => Speculation::Off,
        })
    }

    /// Pulls and loads a text embedder.
    pub(crate) fn embedder(&self, name: &str, progress: &dyn Progress) -> Result<TextEmbedder> {
        let local = self.pull(name, progress)?;
        let encoder = Encoder::open(&local.path, Arc::clone(&self.pool))?;
        // Vectors belong to weights, so the name carries their hash.
        let id = format!("{}@{}", local.name, &local.sha256[..12.min(local.sha256.len())]);
        // A path must be found again from any folder.
        let source = fs_err::canonicalize(name)
            .map_or_else(|_| name.into(), |path| path.to_string_lossy().into_owned());
        Ok(TextEmbedder { id, name: local.name, source, encoder })
    }
}

fn engine_config(max_context: usize) -> EngineConfig {
    let kv_bytes = memory::kv_budget();
    let prefix_cache_bytes = PREFIX_CACHE_BYTES.min(kv_bytes / 2);
    EngineConfig { prefix_cache_bytes, kv_bytes, ..EngineConfig::new(max_context) }
}

/// The encoder as the knowledge base and the server see it.
#[derive(Debug)]
pub(crate) struct TextEmbedder {
    id: String,
    name: String,
    source: String,
    encoder: Encoder,
}

impl TextEmbedder {
    pub(crate) fn short_name(&self) -> &str {
        &self.name
    }

    /// Tokens of a passage at most.
    pub(crate) fn max_passage_tokens(&self) -> usize {
        self.encoder.max_tokens()
    }
}

#[expect(clippy::misnamed_getters, reason = "the knowledge base's name for it is the one with the hash")]
impl Embedder for TextEmbedder {
    fn name(&self) -> &str {
        &self.id
    }

    fn source(&self) -> &str {
        &self.source
    }

    fn dim(&self) -> usize {
        self.encoder.dim()
    }

    fn embed_queries(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, String> {
        // A question longer than the encoder's window is found by its beginning, and by all its words in BM25.
        self.encoder.embed_queries(texts).map(|embedded| embedded.vectors).map_err(|error| error.to_string())
    }

    fn embed_passages(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, String> {
        let embedded = self.encoder.embed_passages(texts).map_err(|error| error.to_string())?;
        match embedded.truncated.first() {
            None => Ok(embedded.vectors),
            Some(&index) => {
                let (max, count) = (self.encoder.max_tokens(), embedded.token_counts[index]);
                Err(format!("a chunk has {count} tokens, the embedder reads {max}: chunks must be smaller"))
            }
        }
    }

    fn count_tokens(&self, text: &str) -> usize {
        self.encoder.count_tokens(text)
    }
}

impl hearth_serve::Embedding for TextEmbedder {
    fn name(&self) -> &str {
        &self.name
    }

    fn embed(
        &self,
        texts: &[&str],
        input_type: hearth_serve::InputType,
    ) -> Result<hearth_serve::Embedded, String> {
        let embedded = match input_type {
            hearth_serve::InputType::Query => self.encoder.embed_queries(texts),
            hearth_serve::InputType::Passage => self.encoder.embed_passages(texts),
        }
        .map_err(|error| error.to_string())?;
        if let Some(&index) = embedded.truncated.first() {
            let (max, count) = (self.encoder.max_tokens(), embedded.token_counts[index]);
            return Err(format!("input {index} has {count} tokens, `{}` reads at most {max}", self.name));
        }
        let num_tokens = embedded.token_counts.iter().sum();
        Ok(hearth_serve::Embedded { vectors: embedded.vectors, num_tokens })
    }
}
