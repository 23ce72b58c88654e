//! `hearth serve`: one model over HTTP, without documents.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use hearth_serve::{Assistant, Ledger, Options, Server, State, Tls, Upstream};

use super::Context;
use crate::args::ServeArgs;
use crate::up::{serve_until_cancelled, warn_of_guests};

pub(super) fn run(context: &Context, args: &ServeArgs) -> Result<()> {
    // The port first: a busy one should not cost a download.
    let server = Server::bind(SocketAddr::new(args.address.host, args.address.port))?;
    let access = &args.access;
    let tls = access.tls_cert.clone().zip(access.tls_key.clone());
    let tls = tls.map(|(certificate, key)| Tls { certificate, key });
    let server = server.with(Options { allowed_origins: access.allow_origin.clone(), tls })?;
    let ledger = Arc::new(Ledger::open(&context.machine.home.accounts())?);
    warn_of_guests(context, &args.address, &ledger)?;
    let (local, model) = context.machine.model(&args.model, &context.terminal)?;
    let machine = &context.machine;
    let engine = machine.guessing_engine(&model, args.context, &args.speculation, &context.terminal)?;
    let state = Arc::new(State::new(engine, Assistant::base(&local.name), 1));
    state.set_ledger(ledger);
    if let Some(embedder) = &access.embedder {
        state.set_embedding(Arc::new(machine.embedder(embedder, &context.terminal)?));
    }
    for (name, urls) in &access.upstream {
        state.add_upstream(Upstream::new(name, urls, std::env::var("HEARTH_UPSTREAM_KEY").ok()));
    }
    if access.log {
        state.set_log(Arc::new(crate::terminal::print_log));
    }
    serve_until_cancelled(context, server, &state)
}
