//! `hearth train sft`: conversations and a model to an adapter, in a run folder that survives a kill.

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow, bail};
use hearth_artifacts::atomic;
use hearth_artifacts::hash::sha256_file;
use hearth_hub::Local;
use hearth_model::Decoder;
use hearth_tokenizer::{ChatFormat, Example};
use hearth_train::conversations::{self, Examples, Place};
use hearth_train::metrics::memory_mib;
use hearth_train::run_folder::{METRICS, RunFolder};
use hearth_train::sft::{self, Input};
use hearth_train::{Checkpoints, Error, Output, Resume, SftConfig, batches};
use serde_json::{Value, json};

use super::super::Context;
use super::page;
use super::recipe::{HARMLESS, Method, Recipe};
use crate::args::SftArgs;

/// Rows that can't be used and are shown; all of them are in `skipped.txt`.
const SHOWN_SKIPS: usize = 10;

/// What there is to learn from, with the number of rows left out.
struct Data {
    train: Vec<Example>,
    validation: Vec<Example>,
    /// Of those to train on, then of those to validate with.
    places: Vec<Place>,
    skipped: Vec<String>,
}

pub(super) fn run(context: &Context, args: &SftArgs) -> Result<()> {
    let runs = context.machine.home.runs();
    let resumed = args.resume.as_ref().map(|name| RunFolder::open(&runs, name)).transpose()?;
    let before = resumed.as_ref().map(settings_of).transpose()?;
    let mut recipe = Recipe::read(args, before.as_ref())?;
    let folder = match resumed {
        Some(folder) => folder,
        None => start(context, &mut recipe)?,
    };
    recipe.output = Some(folder.name().to_owned());
    let (local, model) = context.machine.model(&recipe.model, &context.terminal)?;
    let decoder = base(context, &model.decoder, &mut recipe)?;
    let decoder = decoder.as_ref().unwrap_or(&model.decoder);
    recipe.lora().check(decoder)?;
    let data = read(context, &recipe, &model.chat, decoder.config.max_seq_len, &folder)?;
    let max_steps = match recipe.steps {
        Some(steps) => steps,
        None => batches::num_steps(&data.train, recipe.batch_tokens, u64::from(recipe.epochs), recipe.seed),
    };
    let config = recipe.resolve(max_steps);
    let record = record(&recipe, &local, &data)?;
    match args.resume {
        Some(_) => folder.check_unchanged(&record, &HARMLESS).map_err(|error| hinted(error, &folder))?,
        None => folder.write_record(&record)?,
    }
    say_plan(context, &config, &data, &folder);
    let checkpoints = folder.path("checkpoints");
    let resume = args.checkpoint.map_or(Resume::Last, Resume::Step);
    let metrics = folder.path(METRICS);
    let input = Input {
        decoder,
        train: &data.train,
        validation: &data.validation,
        places: &data.places,
        checkpoints: Checkpoints {
            folder: &checkpoints,
            every_seconds: recipe.checkpoint_seconds,
            keep: recipe.keep_checkpoints,
            resume,
        },
        metrics: Some(&metrics),
        on_spike: recipe.on_spike,
        time_budget: None,
    };
    let output = sft::run(&config, &input, &context.machine.pool, &context.terminal)
        .map_err(|error| hinted(error, &folder))?;
    finish(context, &folder, &recipe, &data, &output)
}

/// The settings a run was started with.
fn settings_of(folder: &RunFolder) -> Result<Recipe> {
    let mut record = folder.record()?;
    serde_json::from_value(record["config"].take())
        .with_context(|| format!("`{}` is damaged or of another version", folder.path("run.json").display()))
}

/// A new run's folder.
fn start(context: &Context, recipe: &mut Recipe) -> Result<RunFolder> {
    let runs = context.machine.home.runs();
    let name = recipe.output.clone().unwrap_or_else(|| default_name(&recipe.model));
    RunFolder::create(&runs, &name).map_err(|error| match error {
        Error::RunExists { .. } => {
            let hint = format!("go on with it by `--resume {name}`, or name another with `-o`");
            anyhow!("{error}\nhint: {hint}")
        }
        Error::RunName { .. } => anyhow!("{error}\nhint: name the run with `-o`"),
        error => error.into(),
    })
}

/// The last part of the model's name or path.
fn default_name(model: &str) -> String {
    let last = model.trim_end_matches('/').rsplit('/').next().unwrap_or(model);
    let last = last.strip_suffix(".gguf").unwrap_or(last);
    let plain =
        last.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' });
    format!("sft-{}", plain.collect::<String>())
}

/// The base as the method has it, if that isn't as it was loaded.
fn base(context: &Context, decoder: &Decoder, recipe: &mut Recipe) -> Result<Option<Decoder>> {
    let is_quantised = decoder.is_quantised();
    let method = recipe.method.unwrap_or(if is_quantised { Method::Qlora } else { Method::Lora });
    recipe.method = Some(method);
    match method {
        Method::Qlora if !is_quantised => bail!(
            "`method` qlora needs a quantised base, and `{}` isn't one\nhint: leave `method` out, or `hearth quantize` the \
             model first",
            recipe.model
        ),
        Method::Lora if is_quantised => {
            context.terminal.say("train: the base's weights are decoded to f32 (`method` lora)");
            Ok(Some(decoder.dequantised(&context.machine.pool)))
        }
        Method::Lora | Method::Qlora | Method::Full => Ok(None),
    }
}

fn read(
    context: &Context,
    recipe: &Recipe,
    chat: &ChatFormat,
    max_seq_len: usize,
    folder: &RunFolder,
) -> Result<Data> {
    let max_tokens = recipe.max_tokens.unwrap_or(max_seq_len).min(max_seq_len);
    let read = |files: &[PathBuf]| conversations::read(files, chat, max_tokens, &context.terminal);
    let mut train = read(&recipe.data)?;
    let mut held = match recipe.validation_data.as_slice() {
        [] => None,
        files => Some(read(files)?),
    };
    let of_held = held.iter_mut().flat_map(|held| std::mem::take(&mut held.skipped));
    let skipped: Vec<String> =
        std::mem::take(&mut train.skipped).into_iter().chain(of_held).map(|skip| skip.to_string()).collect();
    tell_skips(context, recipe, folder, &skipped)?;
    if train.split_rows > 0 {
        context.terminal.say(&format!(
            "train: {} conversations are learnt an answer at a time, since the model's template rewrites earlier answers",
            train.split_rows
        ));
    }
    let [(train, mut places), (validation, of_validation)] = match held {
        None => train.split(recipe.validation_share, recipe.seed),
        Some(held) => {
            tell_leak(context, &train, &held);
            [(train.examples, train.places), (held.examples, held.places)]
        }
    };
    places.extend(of_validation);
    Ok(Data { train, validation, places, skipped })
}

/// Rows that can't be used stop the run unless that is allowed.
fn tell_skips(context: &Context, recipe: &Recipe, folder: &RunFolder, skipped: &[String]) -> Result<()> {
    if skipped.is_empty() {
        return Ok(());
    }
    let mut shown: Vec<String> = skipped.iter().take(SHOWN_SKIPS).map(|skip| format!("\n  {skip}")).collect();
    if let Some(more) = skipped.len().checked_sub(SHOWN_SKIPS).filter(|more| *more > 0) {
        let list = folder.path("skipped.txt");
        atomic::write(&list, format!("{}\n", skipped.join("\n")).as_bytes())?;
        shown.push(format!("\n  … and {more} more, all in `{}`", list.display()));
    }
    let shown = shown.concat();
    let text = format!("{} rows can't be used:{shown}", skipped.len());
    if !recipe.allow_skips {
        bail!("{text}\nhint: mend them, or leave them out with `--allow-skips`");
    }
    context.terminal.say(&format!("train: {text}"));
    Ok(())
}

/// A validation split that was learnt from looks better than it is.
fn tell_leak(context: &Context, train: &Examples, held: &Examples) {
    let known: std::collections::BTreeSet<&[u32]> =
        train.examples.iter().map(|example| example.ids.as_slice()).collect();
    let leaked = held.examples.iter().filter(|example| known.contains(example.ids.as_slice())).count();
    if leaked > 0 {
        context.terminal.say(&format!(
            "train: {leaked} of {} validation conversations stand in the training data too: their loss says little",
            held.examples.len()
        ));
    }
}

/// Everything that decides the run's numbers, as it stands in `run.json`.
fn record(recipe: &Recipe, local: &Local, data: &Data) -> Result<Value> {
    let files = |paths: &[PathBuf]| -> Result<Vec<Value>> {
        let file = |path: &PathBuf| Ok(json!({ "path": path, "sha256": sha256_file(path)? }));
        paths.iter().map(file).collect()
    };
    let seconds =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    Ok(json!({
        "format_version": 1,
        "kind": "sft",
        "hearth": env!("CARGO_PKG_VERSION"),
        "started": seconds,
        "config": recipe,
        "model": { "name": local.name, "sha256": local.sha256, "bytes": local.bytes },
        "inputs": files(&recipe.data)?,
        "validation_inputs": files(&recipe.validation_data)?,
        "examples": { "train": data.train.len(), "validation": data.validation.len(), "skipped": data.skipped.len() },
    }))
}

fn say_plan(context: &Context, config: &SftConfig, data: &Data, folder: &RunFolder) {
    context.terminal.say(&format!(
        "train: run `{}`: {} examples, {} to validate with, {} steps of {} tokens; {}",
        folder.name(),
        data.train.len(),
        data.validation.len(),
        config.max_steps,
        config.batch_tokens,
        folder.folder().display()
    ));
}

fn finish(
    context: &Context,
    folder: &RunFolder,
    recipe: &Recipe,
    data: &Data,
    output: &Output,
) -> Result<()> {
    let adapter = folder.path("adapter");
    output.adapter.save(&adapter)?;
    let best = output.curve.best();
    let result = json!({
        "run": folder.name(), "folder": folder.folder(), "adapter": adapter, "model": recipe.model,
        "steps": output.steps, "tokens": output.tokens, "seconds": output.seconds,
        "tokens_per_s": output.tokens as f64 / output.seconds.max(1e-9),
        "peak_mib": memory_mib().map(|(_, peak)| peak),
        "trained_parameters": output.adapter.num_params(),
        "first_validation_loss": output.curve.validation.first().map(|first| first.loss),
        "best_validation_loss": best.map(|best| best.loss), "best_step": best.map(|best| best.step),
        "last_validation_loss": output.curve.validation.last().map(|last| last.loss),
        "verdict": output.curve.verdict(), "stopped_early": output.stopped_early,
        "examples": data.train.len(), "validation_examples": data.validation.len(), "skipped": data.skipped.len(),
    });
    atomic::write_json(&folder.path("result.json"), &result)?;
    page::write(&folder.path("report.html"), folder.name(), recipe, output, data.skipped.len())?;
    if context.json {
        context.print_json(&result);
        return Ok(());
    }
    if let Some(reason) = &output.stopped_early {
        context.print(&format!("ended early: {reason}"));
    }
    context.print(&output.curve.verdict_text());
    context.print(&format!(
        "adapter: {}\nreport:  {}",
        adapter.display(),
        folder.path("report.html").display()
    ));
    context.print(&format!(
        "try it:  hearth generate --model {} --adapter {} --prompt …",
        recipe.model,
        folder.name()
    ));
    Ok(())
}

/// What to do about an error.
fn hinted(error: Error, folder: &RunFolder) -> anyhow::Error {
    let name = folder.name();
    let again = format!("hearth train sft --resume {name}");
    let hint = match &error {
        Error::Cancelled { step } => {
            return anyhow!("stopped at step {step}; the checkpoint is kept\nhint: go on with: {again}");
        }
        Error::Changed { .. } => format!(
            "`{again}` alone goes on with the settings of its start; other settings are another run: name it with `-o`"
        ),
        Error::Checkpoint { previous: Some(step), .. } => {
            format!("go on from the one before with: {again} --checkpoint {step}")
        }
        Error::CheckpointWrite { .. } => format!("make room, then go on with: {again}"),
        Error::Spike { .. } => format!(
            "look at the documents; a lower `lr` is another run, and `{again} --set on_spike=note` goes on all the same"
        ),
        Error::NotFinite { .. } | Error::Gradient { .. } => {
            "look at the documents, or start another run with a lower `lr`".into()
        }
        _ => return error.into(),
    };
    let text = format!("{error}\nhint: {hint}");
    anyhow::Error::new(error).context(text)
}
