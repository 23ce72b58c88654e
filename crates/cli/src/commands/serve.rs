//! `hearth serve`: models over HTTP, without documents.
//!
//! The first model is loaded at once and answers where a request names none; the others are found and pulled at the
//! start, and loaded when they are first asked for.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Result, bail};
use hearth_artifacts::progress::Progress;
use hearth_engine::{Engine, EngineConfig, Loader, Registry, Speculation, StoreConfig};
use hearth_hub::Local;
use hearth_model::Adapter;
use hearth_serve::{Assistant, Ledger, Options, Server, State, Tls, Upstream};

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
/// Where the system doesn't tell how much memory there is.
const USUAL_MEMORY: usize = 8 << 30;

pub(super) fn run(context: &Context, args: &ServeArgs) -> Result<()> {
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
    let Some((first, others)) = locals.split_first() else { bail!("`--model` names no model") };
    let total = Memory::now().map_or(USUAL_MEMORY, |memory| memory.total as usize);
    let budget = args.memory_budget.unwrap_or(total / 4 * 3);
    let config = config(args, &locals, budget)?;
    let serving =
        Serving { machine: context.machine.clone(), config, kv: args.kv, disk_cache: args.disk_cache };
    let speculation = context.machine.speculation(&args.speculation, &context.terminal)?;
    let engine = Arc::new(serving.start(first, speculation)?);
    let left = budget.saturating_sub(engine.bytes());
    let state = State::new(Arc::clone(&engine), Assistant::base(&first.name), 1);
    for (name, folder) in &args.adapter {
        if locals.iter().any(|local| local.name == *name) {
            bail!("`--adapter {name}` has the name of a model");
        }
        engine.add_adapter(name, &Adapter::open(folder, &engine.model().decoder)?);
        let description = format!("`{}` with the adapter `{}`", first.name, folder.display());
        let adapter = Some(name.clone());
        state.register(Assistant { adapter, description, ..Assistant::base(name) });
    }
    if !others.is_empty() {
        for local in others {
            let model = Some(local.name.clone());
            state.register(Assistant { model, ..Assistant::base(&local.name) });
        }
        let loader = Others { serving, locals: others.to_vec() };
        state.set_models(Arc::new(Registry::new(Box::new(loader), left)));
    }
    let state = Arc::new(state);
    state.set_ledger(ledger);
    around(context, access, &state)?;
    serve_until_cancelled(context, server, &state)?;
    state.stop();
    Ok(())
}

/// What is served beside the models of this machine, and the log.
fn around(context: &Context, access: &AccessArgs, state: &State) -> Result<()> {
    if let Some(embedder) = &access.embedder {
        state.set_embedding(Arc::new(context.machine.embedder(embedder, &context.terminal)?));
    }
    for (name, urls) in &access.upstream {
        state.add_upstream(Upstream::new(name, urls, std::env::var("HEARTH_UPSTREAM_KEY").ok()));
    }
    if access.log {
        state.set_log(Arc::new(crate::terminal::print_log));
    }
    Ok(())
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
    let kv_bytes = KV_BYTES.min(if locals.len() > 1 { of_two.unwrap_or(left / 2) } else { left });
    Ok(EngineConfig {
        max_batch: args.max_batch.max(1),
        prefix_cache_bytes: PREFIX_CACHE_BYTES.min(kv_bytes / 2),
        kv_bytes,
        max_queue_requests: args.max_queue,
        max_queue_tokens: args.max_queue.saturating_mul(QUEUE_TOKENS_A_REQUEST),
        ..EngineConfig::new(args.context)
    })
}

/// How models are started here.
struct Serving {
    machine: Machine,
    config: EngineConfig,
    kv: KvArgs,
    disk_cache: usize,
}

impl Serving {
    fn start(&self, local: &Local, speculation: Speculation) -> Result<Engine> {
        let model = self.machine.open_with(&local.path, self.kv)?;
        let (pool, config) = (Arc::clone(&self.machine.pool), self.config);
        if self.disk_cache == 0 {
            return Ok(Engine::start_with(model, pool, config, speculation)?);
        }
        let store = StoreConfig {
            folder: self.machine.home.cache().join("prefixes"),
            model: local.sha256.clone(),
            max_bytes: self.disk_cache as u64,
            progress: Arc::new(Notes) as Arc<dyn Progress>,
        };
        Ok(Engine::start_with_store(model, pool, config, speculation, store)?)
    }
}

/// The models that are loaded when they are asked for.
struct Others {
    serving: Serving,
    locals: Vec<Local>,
}

impl Others {
    fn local(&self, name: &str) -> Result<&Local, String> {
        let found = self.locals.iter().find(|local| local.name == name);
        found.ok_or_else(|| format!("no model is called `{name}`"))
    }
}

impl Loader for Others {
    fn names(&self) -> Vec<String> {
        self.locals.iter().map(|local| local.name.clone()).collect()
    }

    fn estimate(&self, name: &str) -> Result<usize, String> {
        Ok(self.local(name)?.bytes as usize + self.serving.config.kv_bytes)
    }

    fn load(&self, name: &str) -> Result<Engine, String> {
        let engine = self.serving.start(self.local(name)?, Speculation::Off);
        engine.map_err(|error| format!("{error:#}"))
    }
}
