//! `hearth tokenizer train|compare|encode|decode`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use hearth_model::files::{GgufFile, vocabulary};
use hearth_model::load::folder_template;
use hearth_tokenizer::Tokenizer;
use serde_json::json;

use super::Context;
use crate::args::{DecodeArgs, EncodeArgs, TokenizerCommand};

mod compare;
pub(crate) mod train;

pub(super) fn run(context: &Context, command: &TokenizerCommand) -> Result<()> {
    match command {
        TokenizerCommand::Train(args) => train::run(context, args),
        TokenizerCommand::Compare(args) => compare::run(context, args),
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
    Ok(find(context, name)?.tokenizer)
}

/// A tokenizer with what stands beside it.
pub(super) struct Found {
    pub(super) tokenizer: Arc<Tokenizer>,
    /// The file its vocabulary is read from.
    pub(super) file: PathBuf,
    /// The chat template of the model, if it has one.
    pub(super) template: Option<String>,
}

/// A `tokenizer.json`, a folder that holds one, a GGUF file, or a model by name.
pub(super) fn find(context: &Context, name: &str) -> Result<Found> {
    let path = Path::new(name);
    if path.extension().is_some_and(|extension| extension == "json") {
        return of_folder(path.parent().unwrap_or(Path::new("")), path.into());
    }
    if path.join("tokenizer.json").is_file() {
        return of_folder(path, path.join("tokenizer.json"));
    }
    let local = context.machine.pull(name, &context.terminal)?;
    if local.path.is_dir() {
        let file = local.path.join("tokenizer.json");
        return of_folder(&local.path, file);
    }
    let file = GgufFile::open(&local.path)?;
    let tokenizer = Arc::new(Tokenizer::from_parts(vocabulary::vocabulary(&file)?)?);
    let template = vocabulary::chat_template(&file)?.map(str::to_owned);
    Ok(Found { tokenizer, file: local.path, template })
}

fn of_folder(folder: &Path, file: PathBuf) -> Result<Found> {
    let mut tokenizer = Tokenizer::from_json(&fs_err::read(&file)?)?;
    let config = folder.join("tokenizer_config.json");
    if config.is_file() {
        tokenizer = tokenizer.with_config_json(&fs_err::read(config)?)?;
    }
    Ok(Found { tokenizer: Arc::new(tokenizer), file, template: folder_template(folder)? })
}
