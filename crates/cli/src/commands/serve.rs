//! `hearth serve`: one model over HTTP, without documents.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use hearth_serve::{Assistant, Server, State};

use super::Context;
use crate::args::ServeArgs;
use crate::up::{serve_until_cancelled, warn_of_guests};

pub(super) fn run(context: &Context, args: &ServeArgs) -> Result<()> {
    // The port first: a busy one should not cost a download.
    let server = Server::bind(SocketAddr::new(args.address.host, args.address.port))?;
    warn_of_guests(context, &args.address);
    let (local, model) = context.machine.model_with(&args.model, args.kv, &context.terminal)?;
    let machine = &context.machine;
    let engine = machine.guessing_engine(&model, args.context, &args.speculation, &context.terminal)?;
    let state = Arc::new(State::new(engine, Assistant::base(&local.name), 1));
    serve_until_cancelled(context, server, &state)
}
