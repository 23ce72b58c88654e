//! `hearth keys` and `hearth usage`: who may use the server, and what they used.

use anyhow::{Result, bail};
use hearth_serve::{Key, Ledger, Limits, Used};
use serde_json::json;

use super::Context;
use crate::args::{KeysCommand, KeysCreateArgs};

pub(super) fn run(context: &Context, command: &KeysCommand) -> Result<()> {
    let ledger = Ledger::open(&context.machine.home.accounts())?;
    match command {
        KeysCommand::Create(args) => create(context, &ledger, args),
        KeysCommand::List => list(context, &ledger),
        KeysCommand::Revoke { key } => revoke(context, &ledger, key),
        KeysCommand::Price(args) => {
            let is_price = |price: f64| price.is_finite() && price >= 0.0;
            if !is_price(args.prompt) || !is_price(args.completion) {
                bail!("prices must be 0 or more, not {} and {}", args.prompt, args.completion);
            }
            Ok(ledger.set_price(&args.model, args.prompt, args.completion)?)
        }
    }
}

fn create(context: &Context, ledger: &Ledger, args: &KeysCreateArgs) -> Result<()> {
    if args.name.is_empty() || args.name.chars().count() > 64 {
        bail!("the name `{}` must have 1 to 64 characters", args.name);
    }
    if ledger.keys()?.iter().any(|key| key.name == args.name && key.revoked_s.is_none()) {
        bail!("a key called `{}` exists already; choose another name, or revoke it first", args.name);
    }
    let limits =
        Limits { requests_per_minute: args.requests_per_minute, tokens_per_day: args.tokens_per_day };
    let (key, secret) = ledger.create_key(&args.name, limits)?;
    if context.json {
        let mut value = json!(key);
        value["secret"] = secret.into();
        context.print_json(&value);
    } else {
        context.print(&secret);
        context.terminal.say(&format!("key `{}` ({}); this is the only time it is shown", key.name, key.id));
    }
    Ok(())
}

fn list(context: &Context, ledger: &Ledger) -> Result<()> {
    let keys = ledger.keys()?;
    if context.json {
        for key in &keys {
            context.print_json(&json!(key));
        }
        return Ok(());
    }
    for Key { id, name, revoked_s, limits, .. } in keys {
        let state = if revoked_s.is_some() { "revoked" } else { "valid" };
        let shown = |limit: Option<u64>| limit.map_or("any".into(), |limit| limit.to_string());
        let (requests, tokens) =
            (shown(limits.requests_per_minute.map(u64::from)), shown(limits.tokens_per_day));
        context.print(&format!("{id:16}  {name:24} {state:8} {requests} requests/min, {tokens} tokens/day"));
    }
    Ok(())
}

fn revoke(context: &Context, ledger: &Ledger, key: &str) -> Result<()> {
    let ended = ledger.revoke(key)?;
    if ended.is_empty() {
        bail!("no valid key is called `{key}`; `hearth keys list` shows them");
    }
    for key in ended {
        match context.json {
            true => context.print_json(&json!({ "id": key.id, "name": key.name, "revoked": true })),
            false => context.terminal.say(&format!("key `{}` ({}) is revoked", key.name, key.id)),
        }
    }
    Ok(())
}

pub(super) fn usage(context: &Context) -> Result<()> {
    let used = Ledger::open(&context.machine.home.accounts())?.usage()?;
    if context.json {
        for line in &used {
            context.print_json(&json!(line));
        }
        return Ok(());
    }
    if used.is_empty() {
        context.terminal.say("nothing was used yet");
    }
    for Used {
        day,
        key,
        key_name,
        app,
        model,
        requests,
        prompt_tokens,
        cached_tokens,
        completion_tokens,
        cost,
    } in used
    {
        let who =
            [key_name.as_str(), key.as_str()].into_iter().find(|name| !name.is_empty()).unwrap_or("(no key)");
        let cost = cost.map_or(String::new(), |cost| format!("  cost {cost:.6}"));
        context.print(&format!(
            "{day}  {who:16} {app:12} {model:32} {requests:>6} requests  {prompt_tokens:>9} prompt ({cached_tokens} cached)  \
             {completion_tokens:>8} generated{cost}"
        ));
    }
    Ok(())
}
