//! `hearth lineage`: where a model comes from, back to its documents; and whether a text was among them.
//!
//! A model that was trained here says in `hearth.json` what it was trained on and which model it went on from. Token
//! shards keep each document's file and row. A text is looked for by its ids, so it is found where it was cut into the
//! same tokens: whole sentences rather than halves of words.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use hearth_artifacts::atomic;
use hearth_artifacts::hash::sha256_file;
use hearth_artifacts::shards::TokenShards;
use hearth_tokenizer::Tokenizer;
use serde_json::{Value, json};

use super::Context;
use crate::args::LineageArgs;

/// Documents that are named at most.
const SHOWN: usize = 10;
/// Models that went on from one another at most: a file that names itself must not be followed for ever.
const GENERATIONS: usize = 100;

pub(super) fn run(context: &Context, args: &LineageArgs) -> Result<()> {
    let mut folder = model_folder(context, &args.model)?;
    let mut generations = Vec::new();
    while generations.len() < GENERATIONS {
        let lineage: Value = atomic::read_json(&folder.join("hearth.json"))?;
        let weights = sha256_file(&folder.join("model.safetensors"))?;
        let is_whole = lineage["weights_sha256"] == json!(weights);
        let found = args.contains.as_ref().map(|text| found_in(&folder, &lineage, text)).transpose()?;
        let parent = lineage["parent"].as_str().map(PathBuf::from);
        generations.push(json!({
            "model": folder, "weights_match": is_whole, "lineage": lineage, "contains": found,
        }));
        match parent {
            Some(parent) if parent.join("hearth.json").is_file() => folder = parent,
            _ => break,
        }
    }
    if context.json {
        context.print_json(&json!({ "generations": generations }));
    } else {
        for generation in &generations {
            context.print(&text_of(generation));
        }
    }
    Ok(())
}

/// A folder, or the model of a run.
fn model_folder(context: &Context, name: &str) -> Result<PathBuf> {
    let run = context.machine.home.runs().join(name).join("model");
    let places = [PathBuf::from(name), Path::new(name).join("model"), run];
    let has_lineage = |folder: &PathBuf| folder.join("hearth.json").is_file();
    places.into_iter().find(has_lineage).with_context(|| {
        format!(
            "`{name}` has no `hearth.json`: only models trained by `hearth train pretrain` or `hearth run` say where they come \
             from\nhint: name a run, or a model's folder"
        )
    })
}

/// Documents of one generation's tokens that hold the text.
fn found_in(folder: &Path, lineage: &Value, text: &str) -> Result<Value> {
    let Some(tokens) = lineage["tokens"].as_str() else {
        return Ok(Value::Null);
    };
    let shards = TokenShards::open(Path::new(tokens))
        .with_context(|| format!("the tokens of `{}` can't be searched", folder.display()))?;
    let file = folder.join("tokenizer.json");
    let tokenizer = Tokenizer::from_json(&fs_err::read(&file)?)?;
    if sha256_file(&file)? != shards.manifest().tokenizer_sha256 {
        bail!("`{tokens}` is of another tokenizer than `{}`", file.display());
    }
    let ids = tokenizer.encode(text);
    if ids.is_empty() {
        bail!("`--contains` is empty");
    }
    let documents = shards.find(&ids, SHOWN)?;
    let origins = documents.iter().map(|&document| Ok(shards.origin(document)?.to_owned()));
    let origins: Vec<String> = origins.collect::<Result<_>>()?;
    Ok(json!({ "documents": origins, "more": documents.len() == SHOWN }))
}

fn text_of(generation: &Value) -> String {
    let lineage = &generation["lineage"];
    let text = |value: &Value| value.as_str().unwrap_or("–").to_owned();
    let mut lines = vec![
        format!("model      {}", text(&generation["model"])),
        format!("  run      {}", text(&lineage["run"])),
        format!("  weights  sha256 {}", text(&lineage["weights_sha256"])),
        format!("  trained  on {} documents in {}", lineage["documents"], text(&lineage["tokens"])),
    ];
    if generation["weights_match"] == false {
        lines.push("  note     the weights have changed since they were written".into());
    }
    for source in lineage["sources"].as_array().into_iter().flatten() {
        lines.push(format!("  source   {} ({} documents)", text(&source["name"]), source["num_documents"]));
    }
    if let Some(documents) = generation["contains"]["documents"].as_array() {
        let found = documents.iter().map(|origin| format!("  found in {}", text(origin)));
        lines.extend(found);
        if documents.is_empty() {
            lines.push("  the text is in none of its documents".into());
        }
        if generation["contains"]["more"] == true {
            lines.push("  … and maybe in more".into());
        }
    }
    lines.join("\n")
}
