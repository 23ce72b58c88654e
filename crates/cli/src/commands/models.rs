//! `hearth pull|models|rm`.

use anyhow::{Result, bail};
use serde_json::json;

use super::Context;
use crate::args::ModelArg;

pub(super) fn pull(context: &Context, args: &ModelArg) -> Result<()> {
    let local = context.machine.pull(&args.model, &context.terminal)?;
    if context.json {
        context.print_json(&json!({
            "name": local.name, "path": local.path, "sha256": local.sha256, "source": local.source, "bytes": local.bytes,
        }));
    } else {
        context.print(&format!("{} is at {}", local.name, local.path.display()));
    }
    Ok(())
}

pub(super) fn list(context: &Context) -> Result<()> {
    let models = context.machine.hub().list(&context.terminal)?;
    for local in &models {
        if context.json {
            context.print_json(&json!({
                "name": local.name, "path": local.path, "sha256": local.sha256, "source": local.source, "bytes": local.bytes,
            }));
        } else {
            context.print(&format!(
                "{:32} {:>8.1} MB  {}",
                local.name,
                local.bytes as f64 / 1e6,
                local.source
            ));
        }
    }
    if models.is_empty() && !context.json {
        context.print("no model here yet; try: hearth pull smollm2-135m");
    }
    Ok(())
}

pub(super) fn remove(context: &Context, args: &ModelArg) -> Result<()> {
    if !context.machine.hub().remove(&args.model, &context.terminal)? {
        bail!("no model is called `{}`; `hearth models` lists what is here", args.model);
    }
    context.terminal.say(&format!("{} is removed", args.model));
    Ok(())
}
