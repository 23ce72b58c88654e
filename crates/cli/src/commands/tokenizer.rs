//! `hearth tokenizer encode`.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use hearth_model::files::{GgufFile, vocabulary};
use hearth_tokenizer::Tokenizer;
use serde_json::json;

use super::Context;
use crate::args::{EncodeArgs, TokenizerCommand};

pub(super) fn run(context: &Context, command: &TokenizerCommand) -> Result<()> {
    let TokenizerCommand::Encode(args) = command;
    encode(context, args)
}

fn encode(context: &Context, args: &EncodeArgs) -> Result<()> {
    let tokenizer = open(context, &args.tokenizer)?;
    let bytes = match &args.file {
        Some(path) => fs_err::read(path)?,
        None => {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes)?;
            bytes
        }
    };
    let text = String::from_utf8(bytes).context("the text isn't UTF-8")?;
    let ids = tokenizer.encode(&text);
    if context.json {
        context.print_json(&json!({ "ids": ids }));
    } else {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        context.print(&ids.join(" "));
    }
    Ok(())
}

/// The tokenizer of a model, without its weights.
fn open(context: &Context, name: &str) -> Result<Arc<Tokenizer>> {
    let path = Path::new(name);
    if path.extension().is_some_and(|extension| extension == "json") {
        return Ok(Arc::new(Tokenizer::from_json(&fs_err::read(path)?)?));
    }
    let local = context.machine.pull(name, &context.terminal)?;
    if local.path.is_dir() {
        return Ok(Arc::new(Tokenizer::from_json(&fs_err::read(local.path.join("tokenizer.json"))?)?));
    }
    let file = GgufFile::open(&local.path)?;
    Ok(Arc::new(Tokenizer::from_parts(vocabulary::vocabulary(&file)?)?))
}
