//! `hearth train pretrain`: token shards to a model, in a run folder that survives a kill.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use hearth_train::Error;
use hearth_train::checkpoints::Resume;
use hearth_train::run_folder::RunFolder;

use super::super::Context;
use crate::args::PretrainArgs;
use crate::pretraining::{self, HARMLESS, Plan, Settings};
use crate::settings;

pub(super) fn run(context: &Context, args: &PretrainArgs) -> Result<()> {
    let runs = context.machine.home.runs();
    let resumed = args.resume.as_ref().map(|name| RunFolder::open(&runs, name)).transpose()?;
    let settings = read(args, resumed.as_ref())?;
    let plan = Plan::new(context, &settings)?;
    let record = plan.record();
    let folder = match resumed {
        Some(folder) => {
            folder.check_unchanged(&record, &HARMLESS)?;
            folder
        }
        None => {
            let folder = RunFolder::create(&runs, &args.output).map_err(|error| match error {
                Error::RunExists { .. } => anyhow!(
                    "{error}\nhint: go on with it by `--resume {0}`, or name another with `-o`",
                    args.output
                ),
                error => error.into(),
            })?;
            folder.write_record(&record)?;
            folder
        }
    };
    let resume = args.checkpoint.map_or(Resume::Last, Resume::Step);
    let again = format!("hearth train pretrain --resume {}", folder.name());
    let done = plan
        .run(context, folder.folder(), folder.name(), resume)
        .map_err(|error| pretraining::hinted(error, &again))?;
    if context.json {
        context.print_json(&done.summary);
        return Ok(());
    }
    context.print(done.summary["verdict"].as_str().unwrap_or_default());
    context.print(&format!(
        "model:  {}\nreport: {}\ntry it: hearth generate --model {0} --raw --prompt …",
        done.model.display(),
        folder.path("report.html").display()
    ));
    Ok(())
}

/// Defaults, those of the run to go on with or of the file, then the flags.
fn read(args: &PretrainArgs, resumed: Option<&RunFolder>) -> Result<Settings> {
    let mut table = match (&args.config, resumed) {
        (Some(path), _) => {
            let mut table = settings::read(path)?;
            let beside = path.parent().unwrap_or(Path::new(""));
            settings::beside(beside, &mut table, &["tokens", "validation_tokens", "tokenizer", "model"]);
            table
        }
        (None, Some(folder)) => {
            let before: Settings = serde_json::from_value(folder.record()?["settings"].take())
                .with_context(|| format!("`{}` is of another version", folder.path("run.json").display()))?;
            toml::Table::try_from(before)?
        }
        (None, None) => toml::Table::new(),
    };
    settings::set(&mut table, &args.set)?;
    table.try_into().context("the settings of the run")
}
