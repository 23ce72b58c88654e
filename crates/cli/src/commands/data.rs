//! `hearth data`: raw text to rows that are clean, each once, and without persons; one job a verb.

mod report;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use hearth_data::read::ReadConfig;
use hearth_data::write::Format;
use hearth_data::{Input, Output, Summary, classify, clean, decontaminate, dedup, mix, pii, stats};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Context;
use crate::args::{
    DataClassifyCommand, DataClassifyRunArgs, DataClassifyTrainArgs, DataCleanArgs, DataCommand,
    DataDecontaminateArgs, DataDedupArgs, DataFormat, DataJobArgs, DataMixArgs, DataMixBy, DataMixUntil,
    DataPassage, DataPiiArgs, DataReadArgs, DataScope, DataStatsArgs,
};

pub(super) fn run(context: &Context, command: &DataCommand) -> Result<()> {
    match command {
        DataCommand::Clean(args) => clean(context, args),
        DataCommand::Dedup(args) => dedup(context, args),
        DataCommand::Pii(args) => pii(context, args),
        DataCommand::Decontaminate(args) => decontaminate(context, args),
        DataCommand::Classify(DataClassifyCommand::Train(args)) => train(context, args),
        DataCommand::Classify(DataClassifyCommand::Run(args)) => classify(context, args),
        DataCommand::Mix(args) => mix(context, args),
        DataCommand::Pack(args) => super::pack::run(context, args),
        DataCommand::Stats(args) => stats(context, args),
    }
}

/// Settings of a file, or the defaults.
fn config<C: DeserializeOwned + Default>(path: Option<&Path>) -> Result<C> {
    let Some(path) = path else {
        return Ok(C::default());
    };
    let text = fs_err::read_to_string(path)?;
    toml::from_str(&text).with_context(|| format!("`{}` can't be read as settings", path.display()))
}

fn read_config(args: &DataReadArgs) -> ReadConfig {
    ReadConfig {
        text_field: args.text_field.clone(),
        id_field: args.id_field.clone(),
        max_row_bytes: args.max_row_mib << 20,
        shard_bytes: args.shard_mib << 20,
        allow_damaged: args.allow_damaged,
        whole_pages: args.whole_pages,
        ..ReadConfig::default()
    }
}

fn format(format: DataFormat) -> Format {
    match format {
        DataFormat::JsonlZst => Format::JsonlZst,
        DataFormat::JsonlGz => Format::JsonlGz,
        DataFormat::Jsonl => Format::Jsonl,
        DataFormat::Parquet => Format::Parquet,
    }
}

fn input(args: &DataJobArgs) -> Input {
    Input { paths: args.inputs.clone(), read: read_config(&args.read) }
}

fn output(context: &Context, args: &DataJobArgs) -> Output {
    Output {
        folder: args.output.clone(),
        format: format(args.format),
        threads: context.machine.pool.threads(),
        restart: args.restart,
    }
}

/// Runs a verb and shows what came of it.
fn show<D: Serialize>(
    context: &Context,
    folder: &Path,
    work: impl FnOnce() -> hearth_data::Result<Summary<D>>,
) -> Result<()> {
    let started = Instant::now();
    let summary = work()?;
    let seconds = started.elapsed().as_secs_f64();
    let mut value = serde_json::to_value(&summary)?;
    value["output"] = json!(folder);
    value["seconds"] = json!(seconds);
    value["mb_per_s"] = json!(summary.tally.bytes_in as f64 / 1e6 / seconds.max(1e-9));
    match context.json {
        true => context.print_json(&value),
        false => context.print(&report::text(&value)),
    }
    Ok(())
}

fn clean(context: &Context, args: &DataCleanArgs) -> Result<()> {
    let mut config: clean::Config = config(args.job.config.as_deref())?;
    if args.repair_only {
        config = clean::Config {
            repair: config.repair,
            languages: config.languages,
            ..clean::Config::repair_only()
        };
    }
    if !args.languages.is_empty() {
        config.languages.clone_from(&args.languages);
    }
    show(context, &args.job.output, || {
        clean::run(&config, &input(&args.job), &output(context, &args.job), &context.terminal)
    })
}

fn dedup(context: &Context, args: &DataDedupArgs) -> Result<()> {
    let mut config: dedup::Config = config(args.job.config.as_deref())?;
    if args.exact_only {
        config.near.enabled = false;
        config.exact = true;
    }
    if let Some(passage) = args.passages {
        config.passages.enabled = true;
        config.passages.unit = match passage {
            DataPassage::Paragraph => dedup::Passage::Paragraph,
            DataPassage::Line => dedup::Passage::Line,
        };
    }
    let near = &mut config.near;
    near.bands = args.bands.unwrap_or(near.bands);
    near.rows = args.rows.unwrap_or(near.rows);
    near.ngram = args.ngram.unwrap_or(near.ngram);
    show(context, &args.job.output, || {
        dedup::run(&config, &input(&args.job), &output(context, &args.job), &context.terminal)
    })
}

fn pii(context: &Context, args: &DataPiiArgs) -> Result<()> {
    let mut config: pii::Config = config(args.config.as_deref())?;
    if !args.kinds.is_empty() {
        config.kinds = args.kinds.iter().map(|kind| kind_of(kind)).collect::<Result<_>>()?;
    }
    match args.scope {
        Some(DataScope::Row) => config.scope = pii::Scope::Row,
        Some(DataScope::Corpus) => config.scope = pii::Scope::Corpus,
        None => {}
    }
    if let Some(salt) = &args.salt {
        config.salt.clone_from(salt);
    }
    if let Some(path) = &args.evaluate {
        return evaluate(context, &config, path);
    }
    let folder = args.output.clone().unwrap_or_default();
    let output = Output {
        folder: folder.clone(),
        format: format(args.format),
        threads: context.machine.pool.threads(),
        restart: args.restart,
    };
    let input = Input { paths: args.inputs.clone(), read: read_config(&args.read) };
    show(context, &folder, || pii::run(&config, &input, &output, &context.terminal))
}

fn kind_of(name: &str) -> Result<pii::Kind> {
    serde_json::from_value(json!(name)).with_context(|| {
        let kinds: Vec<String> =
            pii::Kind::ALL.iter().map(|kind| kind.label().to_lowercase().replace('_', "-")).collect();
        format!("`{name}` is no kind of personal data; there are {}", kinds.join(", "))
    })
}

/// Rows of the set that `built-in` makes.
const BUILT_IN_ROWS: usize = 4000;
const BUILT_IN_SEED: u64 = 7;

fn evaluate(context: &Context, config: &pii::Config, path: &Path) -> Result<()> {
    let rows = match path.as_os_str() == "built-in" {
        true => pii::labelled::make(BUILT_IN_SEED, BUILT_IN_ROWS),
        false => pii::evaluate::read(path)?,
    };
    let evaluation = pii::evaluate::evaluate(&pii::Finder::new(config), &rows);
    match context.json {
        true => context.print_json(&report::evaluation_json(&evaluation)),
        false => context.print(&report::evaluation_text(&evaluation)),
    }
    Ok(())
}

fn decontaminate(context: &Context, args: &DataDecontaminateArgs) -> Result<()> {
    let mut config: decontaminate::Config = config(args.job.config.as_deref())?;
    config.evaluation.extend(args.evaluation.iter().cloned());
    config.ngram_words = args.ngram_words.unwrap_or(config.ngram_words);
    config.ngram_characters = args.ngram_characters.unwrap_or(config.ngram_characters);
    show(context, &args.job.output, || {
        decontaminate::run(&config, &input(&args.job), &output(context, &args.job), &context.terminal)
    })
}

fn train(context: &Context, args: &DataClassifyTrainArgs) -> Result<()> {
    let config = classify::TrainConfig {
        label_field: args.label_field.clone(),
        epochs: args.epochs,
        seed: args.seed,
        ..classify::TrainConfig::default()
    };
    let input = Input { paths: args.inputs.clone(), read: read_config(&args.read) };
    let report = classify::train(&config, &input, &args.output, &context.terminal)?;
    if context.json {
        context.print_json(&serde_json::to_value(&report)?);
        return Ok(());
    }
    for (label, rows) in &report.labels {
        context.print(&format!("{rows:>10} rows of `{label}`"));
    }
    context.print(&format!(
        "{:.1} % of {} held-out rows told right (mean over labels {:.1} %); {} rows left out",
        report.accuracy * 100.0,
        report.held_out,
        report.balanced_accuracy * 100.0,
        report.left_out
    ));
    context.print(&format!("{} is written", args.output.display()));
    Ok(())
}

fn classify(context: &Context, args: &DataClassifyRunArgs) -> Result<()> {
    let base: classify::Config = config(args.job.config.as_deref())?;
    let config = classify::Config {
        model: args.model.clone(),
        keep: if args.keep.is_empty() { base.keep.clone() } else { args.keep.clone() },
        min_score: if args.min_score > 0.0 { args.min_score } else { base.min_score },
        ..base
    };
    show(context, &args.job.output, || {
        classify::run(&config, &input(&args.job), &output(context, &args.job), &context.terminal)
    })
}

fn mix(context: &Context, args: &DataMixArgs) -> Result<()> {
    let mut config: mix::Config = config(args.job.config.as_deref())?;
    if !args.weights.is_empty() {
        config.weights.clone_from(&args.weights);
    }
    match args.by {
        Some(DataMixBy::Rows) => config.by = mix::By::Rows,
        Some(DataMixBy::Bytes) => config.by = mix::By::Bytes,
        None => {}
    }
    match args.until {
        Some(DataMixUntil::FirstEnds) => config.until = mix::Until::FirstEnds,
        Some(DataMixUntil::AllEnd) => config.until = mix::Until::AllEnd,
        None => {}
    }
    config.max_rows = args.max_rows.or(config.max_rows);
    config.seed = args.seed.unwrap_or(config.seed);
    show(context, &args.job.output, || {
        mix::run(&config, &input(&args.job), &output(context, &args.job), &context.terminal)
    })
}

fn stats(context: &Context, args: &DataStatsArgs) -> Result<()> {
    let mut config: stats::Config = config(args.job.config.as_deref())?;
    config.pii &= !args.no_pii;
    show(context, &args.job.output, || {
        stats::run(&config, &input(&args.job), &output(context, &args.job), &context.terminal)
    })
}
