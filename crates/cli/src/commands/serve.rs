//! `hearth serve`: models over HTTP, without documents.
//!
//! The first model is loaded at once and answers where a request names none; the others are found and pulled at the
//! start, and loaded when they are first asked for. Whichever nobody uses may be unloaded for another.

mod knowledge;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use hearth_artifacts::progress::Progress;
use hearth_engine::{Engine, EngineConfig, Loader, Registry, Speculation, StoreConfig};
use hearth_hub::Local;
use hearth_model::Adapter;
use hearth_serve::{Assistant, Ledger, Options, Server, State, Tls, Upstream};

use serde::Deserialize;

use super::Context;
use crate::args::{AccessArgs, KvArgs, ServeArgs};
use crate::memory::Memory;
use crate::models::Machine;
use crate::terminal::Notes;
use crate::up::{serve_until_cancelled, warn_of_guests};

/// Keys and values of a model at most: some 45 000 tokens of `smollm2-135m`.
const KV_BYTES: usize = 1 << 30;
/// Of them, those of prompts and answers that are over.
const PREFIX_CACHE_BYTES: usize = 160 << 20;
/// Prompt tokens that may wait for a place in the queue: a thousand for each request.
const QUEUE_TOKENS_A_REQUEST: usize = 1000;
/// What a model that isn't one is called, so that nobody takes its answers for a model's.
const ECHO: &str = "echo";
/// Open files, most of them connections.
#[cfg(unix)]
const MAX_FILES: u64 = 65_536;
/// Where the system doesn't tell how much memory there is.
const USUAL_MEMORY: usize = 8 << 30;

pub(super) fn run(context: &Context, args: &ServeArgs) -> Result<()> {
    raise_file_limit();
    // The port first: a busy one should not cost a download.
    let server = Server::bind(SocketAddr::new(args.address.host, args.address.port))?;
    let access = &args.access;
    let tls = access.tls_cert.clone().zip(access.tls_key.clone());
    let tls = tls.map(|(certificate, key)| Tls { certificate, key });
    let server = server.with(Options { allowed_origins: access.allow_origin.clone(), tls })?;
    let ledger = Arc::new(Ledger::open(&context.machine.home.accounts())?);
    warn_of_guests(context, &args.address, &ledger)?;
    let pull = |name: &String| context.machine.pull(name, &context.terminal);
    let locals = args.model.iter().map(pull).collect::<Result<Vec<_>>>()?;
    let Some(first) = locals.first().cloned() else { bail!("`--model` names no model") };
    if args.echo && locals.len() > 1 {
        bail!("`--echo` takes the tokenizer and the template of one model, not of {}", locals.len());
    }
    let total = Memory::now().map_or(USUAL_MEMORY, |memory| memory.total as usize);
    let budget = args.memory_budget.unwrap_or(total / 4 * 3);
    let config = config(args, &locals, budget)?;
    let adapters = adapters(context, args, &locals)?;
    let speculation = context.machine.speculation(&args.speculation, &context.terminal)?;
    let loader = Models {
        machine: context.machine.clone(),
        config,
        kv: args.kv,
        disk_cache: args.disk_cache,
        is_echo: args.echo,
        speculation,
        adapters: adapters.clone(),
        locals: locals.clone(),
    };
    let models = Arc::new(Registry::new(Box::new(loader), budget));
    // What is wrong with the first model is known now, not when somebody asks.
    drop(models.engine(&first.name)?);
    let assistant = |local: &Local| Assistant {
        model: Some(local.name.clone()),
        ..Assistant::base(if args.echo { ECHO } else { &local.name })
    };
    let state = Arc::new(State::of_models(models, assistant(&first), 1));
    for local in &locals {
        state.register(assistant(local));
    }
    for alias in &args.alias {
        let (name, wanted) = alias.split_once('=').unwrap_or((alias, &first.name));
        let Some(model) = find(args, &locals, wanted).filter(|_| !name.is_empty()) else {
            bail!("`--alias {alias}`: no `--model` is called `{wanted}`; known are {}", names(&locals));
        };
        if state.assistant(name).is_ok() {
            bail!("`--alias {alias}`: something is called `{name}` already");
        }
        let description = format!("`{}` under another name", model.name);
        state.register(Assistant { description, name: name.into(), ..assistant(model) });
    }
    for Attached { name, folder, model } in adapters {
        let description = format!("`{model}` with the adapter `{}`", folder.display());
        let (adapter, model) = (Some(name.clone()), Some(model));
        state.register(Assistant { adapter, description, model, ..Assistant::base(&name) });
    }
    if !args.knowledge.is_empty() {
        answer_from(context, args, &first.name, &state)?;
    }
    state.set_ledger(ledger);
    around(context, access, &state)?;
    serve_until_cancelled(context, server, &state)?;
    state.stop();
    Ok(())
}

/// Shows knowledge bases, and registers an assistant for each one that is named.
fn answer_from(context: &Context, args: &ServeArgs, model: &str, state: &State) -> Result<()> {
    let bases = Arc::new(knowledge::Bases::new(&context.machine, &args.knowledge));
    state.set_knowledge(Arc::clone(&bases) as _);
    for name in args.knowledge.iter().filter(|name| *name != "*") {
        if state.assistant(name).is_ok() {
            bail!("`--knowledge {name}`: something is called `{name}` already");
        }
        if let Err(reason) = bases.check(name) {
            bail!("`--knowledge {name}`: {reason}\nhint: make it with: hearth kb create {name} FOLDER");
        }
        let base = Assistant { model: Some(model.to_owned()), ..Assistant::base(name) };
        let tokens = Arc::clone(state.engine_of(&base)?.model());
        let grounding = knowledge::Answers { bases: Arc::clone(&bases), name: name.clone(), model: tokens };
        let description = format!("answers from the knowledge base `{name}`, with citations");
        let grounding: Option<Arc<dyn hearth_serve::Grounding>> = Some(Arc::new(grounding));
        state.register(Assistant { grounding, description, ..base });
    }
    Ok(())
}

/// Every connection is an open file, and many systems allow 1024 where nobody asks for more: some slow clients would
/// leave no room for the others. What can't be raised stays as it is.
fn raise_file_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        let most = limit.maximum.map_or(MAX_FILES, |maximum| maximum.min(MAX_FILES));
        if limit.current.is_some_and(|current| current < most) {
            let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..limit });
        }
    }
}

/// A name for a model with an adapter.
#[derive(Debug, Clone)]
struct Attached {
    name: String,
    folder: PathBuf,
    model: String,
}

/// The model that was asked for in these words, or that is called so here.
fn find<'a>(args: &ServeArgs, locals: &'a [Local], wanted: &str) -> Option<&'a Local> {
    let mut named = args.model.iter().zip(locals);
    named.find(|(asked, local)| *asked == wanted || local.name == wanted).map(|(_, local)| local)
}

fn names(locals: &[Local]) -> String {
    let names: Vec<String> = locals.iter().map(|local| format!("`{}`", local.name)).collect();
    names.join(", ")
}

/// The adapters with their models: `FOLDER@MODEL`, or `FOLDER` for the first.
fn adapters(context: &Context, args: &ServeArgs, locals: &[Local]) -> Result<Vec<Attached>> {
    let mut found: Vec<Attached> = Vec::new();
    for (name, place) in &args.adapter {
        if locals.iter().any(|local| local.name == *name) {
            bail!("`--adapter {name}` has the name of a model");
        }
        if found.iter().any(|other| other.name == *name) {
            bail!("two adapters are called `{name}`");
        }
        let (folder, model) = match place.rsplit_once('@').filter(|_| !Path::new(place).exists()) {
            None => (place.as_str(), locals.first()),
            Some((folder, wanted)) => (folder, find(args, locals, wanted)),
        };
        let Some(model) = model else {
            bail!("`--adapter {name}={place}`: no `--model` is called so; known are {}", names(locals));
        };
        let folder = context.machine.adapter_folder(folder).with_context(|| format!("`--adapter {name}`"))?;
        found.push(Attached { name: name.clone(), folder, model: model.name.clone() });
    }
    Ok(found)
}

/// What is served beside the models of this machine, and the log.
fn around(context: &Context, access: &AccessArgs, state: &State) -> Result<()> {
    if let Some(embedder) = &access.embedder {
        state.set_embedding(Arc::new(context.machine.embedder(embedder, &context.terminal)?));
    }
    for (name, urls) in &access.upstream {
        state.add_upstream(Upstream::new(name, urls, std::env::var("HEARTH_UPSTREAM_KEY").ok()));
    }
    if let Some(file) = &access.upstreams {
        for Elsewhere { name, urls, model, key_env } in elsewhere(file)? {
            let key = key_env.map(|variable| {
                std::env::var(&variable)
                    .with_context(|| format!("`{variable}`, the key of `{name}`, isn't set"))
            });
            let model = model.as_ref().unwrap_or(&name);
            state.add_upstream(Upstream::new(&name, &urls, key.transpose()?).known_as(model));
        }
    }
    if access.log {
        state.set_log(Arc::new(crate::terminal::print_log));
    }
    Ok(())
}

/// A model of other servers, as the file has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Elsewhere {
    name: String,
    urls: Vec<String>,
    model: Option<String>,
    key_env: Option<String>,
}

fn elsewhere(file: &Path) -> Result<Vec<Elsewhere>> {
    let text = fs_err::read_to_string(file)?;
    let all: Vec<Elsewhere> = serde_json::from_str(&text).with_context(|| format!("`{}`", file.display()))?;
    for Elsewhere { name, urls, .. } in &all {
        let wrong = urls.iter().find(|url| !url.starts_with("http://") && !url.starts_with("https://"));
        if let Some(url) = wrong {
            bail!("`{}`: `{url}` of `{name}` begins with neither http:// nor https://", file.display());
        }
        if name.is_empty() || urls.is_empty() {
            bail!("`{}`: `{name}` must have a name and at least one of `urls`", file.display());
        }
    }
    Ok(all)
}

/// What every engine gets: one model may take what is left beside its weights; of several, two find room together if
/// they can.
fn config(args: &ServeArgs, locals: &[Local], budget: usize) -> Result<EngineConfig> {
    let largest = locals.iter().map(|local| local.bytes as usize).max().unwrap_or(0);
    let Some(left) = budget.checked_sub(largest).filter(|left| *left > 0) else {
        bail!("the largest model has {largest} bytes, the memory budget is {budget} bytes");
    };
    // Packed weights may be a little larger than their file.
    let of_two = (budget / 2).checked_sub(largest + largest / 8).filter(|left| *left > 0);
    let of_one = left.saturating_sub(largest / 8).max(1);
    let kv_bytes = KV_BYTES.min(if locals.len() > 1 { of_two.unwrap_or(of_one / 2) } else { of_one });
    Ok(EngineConfig {
        max_batch: args.max_batch.max(1),
        prefix_cache_bytes: PREFIX_CACHE_BYTES.min(kv_bytes / 2),
        kv_bytes,
        max_queue_requests: args.max_queue,
        max_queue_tokens: args.max_queue.saturating_mul(QUEUE_TOKENS_A_REQUEST),
        ..EngineConfig::new(args.context)
    })
}

/// How the models of this server are started.
struct Models {
    machine: Machine,
    config: EngineConfig,
    kv: KvArgs,
    disk_cache: usize,
    is_echo: bool,
    /// Of the first model.
    speculation: Speculation,
    adapters: Vec<Attached>,
    locals: Vec<Local>,
}

impl Models {
    fn local(&self, name: &str) -> Result<&Local, String> {
        let found = self.locals.iter().find(|local| local.name == name);
        found.ok_or_else(|| format!("no model is called `{name}`"))
    }

    fn start(&self, local: &Local) -> Result<Engine> {
        let model = self.machine.open_with(&local.path, self.kv)?;
        let (pool, config) = (Arc::clone(&self.machine.pool), self.config);
        if self.is_echo {
            return Ok(Engine::start_echo(model, pool, config));
        }
        let is_first = self.locals.first().is_some_and(|first| first.name == local.name);
        let speculation = if is_first { self.speculation.clone() } else { Speculation::Off };
        let engine = if self.disk_cache == 0 {
            Engine::start_with(model, pool, config, speculation)?
        } else {
            let store = StoreConfig {
                folder: self.machine.home.cache().join("prefixes"),
                model: local.sha256.clone(),
                max_bytes: self.disk_cache as u64,
                progress: Arc::new(Notes) as Arc<dyn Progress>,
            };
            Engine::start_with_store(model, pool, config, speculation, store)?
        };
        for attached in self.adapters.iter().filter(|attached| attached.model == local.name) {
            let adapter = Adapter::open(&attached.folder, &engine.model().decoder)
                .with_context(|| format!("the adapter `{}`", attached.name))?;
            engine.add_adapter(&attached.name, &adapter);
        }
        Ok(engine)
    }
}

impl Loader for Models {
    fn names(&self) -> Vec<String> {
        self.locals.iter().map(|local| local.name.clone()).collect()
    }

    fn estimate(&self, name: &str) -> Result<usize, String> {
        Ok(self.local(name)?.bytes as usize + self.config.kv_bytes)
    }

    fn load(&self, name: &str) -> Result<Engine, String> {
        self.start(self.local(name)?).map_err(|error| format!("{error:#}"))
    }
}
