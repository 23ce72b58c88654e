//! `hearth up FOLDER`: from a folder of documents to a served, measured assistant.
//!
//! In the order in which it happens:
//! * `run_folder` — where a run keeps what is done, so that a stopped one goes on
//! * `grounding` — answers from documents, as the server asks for them
//! * `questions` — held-out questions and training pairs that share no fact
//! * `ways` — the five ways: what each asks the model, and what came back
//! * `finetune` — the adapter
//! * `compare` — questions through all ways within the time budget; report and winner
//! * `announce` — progress for the terminal and the chat page at once

mod announce;
mod compare;
mod finetune;
pub(crate) mod grounding;
mod questions;
mod run_folder;
mod ways;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hearth_artifacts::atomic;
use hearth_artifacts::hash::sha256;
use hearth_artifacts::progress::Progress;
use hearth_engine::{Engine, Sampling};
use hearth_hub::Local;
use hearth_knowledge::chunk::ChunkConfig;
use hearth_knowledge::document::Corpus;
use hearth_knowledge::embed::Embedder;
use hearth_knowledge::folder::read_folder_with;
use hearth_knowledge::knowledge_base::{Config, KnowledgeBase};
use hearth_serve::{Assistant, Ledger, Server, State};
use serde::{Deserialize, Serialize};

use crate::args::{AddressArgs, UpArgs};
use crate::commands::Context;
use crate::models::TextEmbedder;
use crate::pictures::Pictures;
use run_folder::RunFolder;

/// Projections that get an adapter: all of them, as QLoRA (Dettmers et al. 2023) found best.
pub(crate) const TARGETS: [&str; 7] =
    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// Tokens of an answer at most: the questions ask for facts.
const MAX_ANSWER_TOKENS: usize = 64;

/// How documents are cut: four chunks and a question stay near 900 tokens, a few seconds of prompt.
pub(crate) fn knowledge_config() -> Config {
    Config { chunk: ChunkConfig { target_tokens: 160, max_tokens: 320 }, embed_batch: 16 }
}

/// What the stages of one run share.
struct Job<'a> {
    context: &'a Context,
    args: &'a UpArgs,
    /// Name of the assistant: the folder's.
    name: String,
    local: Local,
    engine: Arc<Engine>,
    embedder: Arc<TextEmbedder>,
    base: Arc<KnowledgeBase>,
    /// Files that were not read, for the report.
    skipped: Vec<String>,
    state: Arc<State>,
    run: RunFolder,
    /// Seconds it took to build the knowledge base, in whichever run that was.
    base_seconds: f64,
    started: Instant,
}

pub(crate) fn run(context: &Context, args: &UpArgs) -> Result<()> {
    check(args)?;
    // What can fail at once fails before anything is downloaded.
    let ledger = Arc::new(Ledger::open(&context.machine.home.accounts())?);
    let server = match args.no_serve {
        true => None,
        false => Some(Server::bind(SocketAddr::new(args.address.host, args.address.port))?),
    };
    if server.is_some() {
        warn_of_guests(context, &args.address, &ledger)?;
    }
    let pictures = Pictures::new(&context.machine, &context.terminal);
    let corpus = read_folder_with(&args.folder, &pictures.options(), &context.terminal)?;
    if let Some(questions) = &args.questions {
        questions::check_file(questions, &corpus)?;
    }
    let local = context.machine.pull(&args.model, &context.terminal)?;
    // A damaged model is known before anything is built for it.
    let model = context.machine.open(&local.path)?;
    let embedder = Arc::new(context.machine.embedder(&args.embedder, &context.terminal)?);
    let name = name_of(&args.folder)?;
    let fingerprint = fingerprint(args, &corpus, &local, &embedder)?;
    let run = RunFolder::open(&context.machine.home, &name, &fingerprint)?;
    let skipped = corpus.skipped.iter().map(|s| format!("{}: {}", s.path.display(), s.reason)).collect();
    let started = Instant::now();
    let (base, base_seconds) = build(context, &name, &corpus, embedder.as_ref(), &args.folder)?;
    let engine = context.machine.engine(&model, max_context(args));
    let state = Arc::new(State::new(Arc::clone(&engine), Assistant::base(&local.name), args.seed));
    state.set_ledger(ledger);
    let job = Job {
        context,
        args,
        name,
        local,
        engine,
        embedder,
        base,
        skipped,
        state,
        run,
        base_seconds,
        started,
    };
    job.register_retrieval()?;
    let running = match server {
        None => None,
        Some(server) => {
            let running = server.start(Arc::clone(&job.state))?;
            context.terminal.say(&format!(
                "answers can be had now: {}  (the comparison goes on behind it)",
                running.url()
            ));
            Some(running)
        }
    };
    let comparison = compare::run(&job)?;
    if context.json {
        context.print_json(&serde_json::to_value(&comparison)?);
    } else {
        context.print(&hearth_eval::table::render(&comparison));
    }
    context.terminal.say(&format!("report: {}", job.run.path("report.html").display()));
    if let Some(running) = running {
        context.terminal.say(&format!("serving `{}` at {} (Ctrl-C to stop)", job.name, running.url()));
        wait_until_cancelled(context);
        running.stop()?;
    }
    Ok(())
}

fn check(args: &UpArgs) -> Result<()> {
    if !(args.time_budget > 0.0 && args.time_budget.is_finite()) {
        bail!("`--time-budget` {} must be a number of minutes above 0", args.time_budget);
    }
    if args.num_questions == 0 {
        bail!("`--num-questions` 0 leaves nothing to compare on; give at least 1");
    }
    Ok(())
}

/// The folder's own name, in characters that a model name may have.
fn name_of(folder: &Path) -> Result<String> {
    let folder = fs_err::canonicalize(folder)?;
    let name = folder.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name: String =
        name.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    let name = name.trim_matches(['-', '.']).to_owned();
    Ok(if name.is_empty() { "documents".into() } else { name })
}

/// Names everything that decides the results, so that a changed document starts a new run.
fn fingerprint(args: &UpArgs, corpus: &Corpus, local: &Local, embedder: &TextEmbedder) -> Result<String> {
    let questions = match &args.questions {
        Some(path) => sha256(&fs_err::read(path)?),
        None => format!("{} generated", args.num_questions),
    };
    let parts = format!(
        "{} {} {} {} {questions} {} {} {:?}",
        env!("CARGO_PKG_VERSION"),
        corpus.hash(),
        local.sha256,
        embedder.name(),
        args.seed,
        args.long_prompt_tokens,
        knowledge_config(),
    );
    Ok(sha256(parts.as_bytes()))
}

/// What a knowledge base cost, kept beside it for the reports of later runs.
#[derive(Debug, Serialize, Deserialize)]
struct Cost {
    /// Of the documents it was built from.
    corpus: String,
    seconds: f64,
}

/// Opens the knowledge base of this folder if it is current, else builds it. With the seconds that building it took.
fn build(
    context: &Context,
    name: &str,
    corpus: &Corpus,
    embedder: &TextEmbedder,
    folder: &Path,
) -> Result<(Arc<KnowledgeBase>, f64)> {
    let start = Instant::now();
    let place = sha256(fs_err::canonicalize(folder)?.as_os_str().as_encoded_bytes());
    let home = context.machine.home.knowledge().join(format!("up-{name}-{}", &place[..8]));
    let config = knowledge_config();
    let cost_path = home.join("cost.json");
    if let (Ok(base), Ok(cost)) = (KnowledgeBase::open(&home), atomic::read_json::<Cost>(&cost_path)) {
        if base.is_current(corpus, &config, embedder.name()) && cost.corpus == corpus.hash() {
            return Ok((Arc::new(base), cost.seconds));
        }
    }
    let base = KnowledgeBase::build(corpus, &config, embedder, &context.terminal, &home)
        .context("the knowledge base can't be built")?;
    let (documents, chunks) = (base.documents().len(), base.chunks().len());
    context.terminal.say(&format!("knowledge base: {documents} documents, {chunks} chunks"));
    let seconds = start.elapsed().as_secs_f64();
    atomic::write_json(&cost_path, &Cost { corpus: corpus.hash(), seconds })?;
    Ok((Arc::new(base), seconds))
}

/// Room for the long prompt, a question and its answer, and for conversations on the page.
fn max_context(args: &UpArgs) -> usize {
    args.long_prompt_tokens + 2048
}

impl Job<'_> {
    /// The assistant that can answer before anything was compared: retrieval over the base model.
    fn register_retrieval(&self) -> Result<()> {
        let documents = Arc::new(grounding::Documents::new(
            Arc::clone(&self.base),
            Arc::clone(&self.embedder),
            Arc::clone(self.engine.model()),
        ));
        self.state.set_passages(Arc::clone(&documents) as _);
        self.state.set_embedding(Arc::clone(&self.embedder) as _);
        self.register(documents, None, "answers from the documents, with citations")
    }

    fn register(
        &self,
        grounding: Arc<dyn hearth_serve::Grounding>,
        adapter: Option<String>,
        description: &str,
    ) -> Result<()> {
        self.state.register(Assistant {
            name: self.name.clone(),
            description: description.into(),
            model: None,
            adapter,
            system: None,
            grounding: Some(grounding),
            sampling: Sampling::greedy(),
            max_tokens: 512,
        });
        Ok(self.state.set_default(&self.name)?)
    }
}

/// Says who else may ask, where that isn't this machine alone.
pub(crate) fn warn_of_guests(context: &Context, address: &AddressArgs, ledger: &Ledger) -> Result<()> {
    if !address.host.is_loopback() && !ledger.has_keys()? {
        context.terminal.say(&format!(
            "warning: on --host {} every request needs a key, and there is none; `hearth keys create NAME` makes one",
            address.host
        ));
    }
    Ok(())
}

/// Serves until Ctrl-C.
pub(crate) fn serve_until_cancelled(context: &Context, server: Server, state: &Arc<State>) -> Result<()> {
    let running = server.start(Arc::clone(state))?;
    context.terminal.say(&format!(
        "serving `{}` at {} (Ctrl-C to stop)",
        state.default_name(),
        running.url()
    ));
    wait_until_cancelled(context);
    Ok(running.stop()?)
}

fn wait_until_cancelled(context: &Context) {
    while !context.terminal.cancelled() {
        std::thread::park_timeout(Duration::from_millis(200));
    }
}
