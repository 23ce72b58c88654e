//! `hearth tokenizer encode|decode`.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use hearth_model::files::{GgufFile, vocabulary};
use hearth_tokenizer::Tokenizer;
use serde_json::json;

use super::Context;
use crate::args::{DecodeArgs, EncodeArgs, TokenizerCommand};

pub(super) fn run(context: &Context, command: &TokenizerCommand) -> Result<()> {
    match command {
        TokenizerCommand::Encode(args) => encode(context, args),
        TokenizerCommand::Decode(args) => decode(context, args),
    }
}

fn encode(context: &Context, args: &EncodeArgs) -> Result<()> {
    let tokenizer = open(context, &args.tokenizer)?;
    let text = read_text(args.file.as_deref())?;
    let ids = tokenizer.encode_on(&text, context.machine.pool.threads());
    if context.json {
        context.print_json(&json!({ "ids": ids }));
    } else {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        context.print(&ids.join(" "));
    }
    Ok(())
}

fn decode(context: &Context, args: &DecodeArgs) -> Result<()> {
    let tokenizer = open(context, &args.tokenizer)?;
    let ids = match args.ids.is_empty() {
        false => args.ids.clone(),
        true => read_ids(&read_text(args.file.as_deref())?)?,
    };
    if let Some(id) = ids.iter().find(|&&id| id as usize >= tokenizer.vocab_size()) {
        let vocab_size = tokenizer.vocab_size();
        bail!(
            "id {id} isn't in the vocabulary of {vocab_size}\nhint: `--tokenizer` names the one the ids are of"
        );
    }
    let text = if args.special { tokenizer.decode_special(&ids) } else { tokenizer.decode(&ids) };
    if context.json {
        context.print_json(&json!({ "text": text }));
    } else {
        context.print(&text);
    }
    Ok(())
}

/// Numbers with anything but digits between, or `ids` of an object as `encode --json` prints it.
fn read_ids(text: &str) -> Result<Vec<u32>> {
    let object: Option<serde_json::Value> = serde_json::from_str(text).ok();
    if let Some(ids) = object.as_ref().and_then(|object| object.get("ids")) {
        return serde_json::from_value(ids.clone()).context("`ids` isn't a list of ids");
    }
    let is_between = |c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']');
    let words = text.split(is_between).filter(|word| !word.is_empty());
    words.map(|word| word.parse().with_context(|| format!("`{word}` isn't an id"))).collect()
}

/// A file's text, or that of standard input.
pub(super) fn read_text(file: Option<&Path>) -> Result<String> {
    let bytes = match file {
        Some(path) => fs_err::read(path)?,
        None => {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes)?;
            bytes
        }
    };
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let name = file.map_or("standard input".into(), |path| format!("`{}`", path.display()));
        anyhow!("{name} isn't UTF-8: byte {at} is no part of a character")
    })
}

/// The tokenizer of a model, without its weights.
pub(super) fn open(context: &Context, name: &str) -> Result<Arc<Tokenizer>> {
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
