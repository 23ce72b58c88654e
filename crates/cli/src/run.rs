//! `hearth run RECIPE.toml`: raw text to a chat model of one's own, a stage after the other.
//!
//! A recipe has a table a stage, and stages run in one order: collect → clean → dedup → tokenizer → pack → pretrain →
//! sft → evaluate. Each stage has a key, the hash of its settings and of the keys of what it reads; its folder carries the
//! key in its name, so that a changed line runs anew what depends on it and nothing else. A stage that was stopped goes on
//! in its folder.
//!
//! * `recipe` — the file
//! * `stages` — what each stage does
//! * `stories` — a made-up world to learn about when no texts are given

mod recipe;
mod stages;
mod stories;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use hearth_artifacts::atomic;
use hearth_artifacts::hash::sha256;
use hearth_artifacts::home::Lock;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::args::RunArgs;
use crate::commands::Context;
use recipe::Recipe;

/// What stages leave behind; a change of what a stage does changes this, and no old folder is taken for a new one.
const FORMAT_VERSION: u32 = 1;

/// The stages in their order, each with those it reads from.
const STAGES: [(&str, &[&str]); 8] = [
    ("collect", &[]),
    ("clean", &["collect"]),
    ("dedup", &["clean"]),
    ("tokenizer", &["dedup"]),
    ("pack", &["dedup", "tokenizer"]),
    ("pretrain", &["pack", "tokenizer"]),
    ("sft", &["collect", "pretrain"]),
    ("evaluate", &["collect", "sft"]),
];

/// A stage that is done, as its folder says.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Done {
    stage: String,
    key: String,
    folder: PathBuf,
    /// Of the computing, however often it is taken over.
    seconds: f64,
    settings: Value,
    inputs: BTreeMap<String, String>,
    /// What came out, in figures.
    summary: Value,
}

const DONE: &str = "stage.json";

pub(crate) fn run(context: &Context, args: &RunArgs) -> Result<()> {
    let recipe = Recipe::read(&args.recipe, &args.set)?;
    if let Some(from) = &args.from
        && !STAGES.iter().any(|(name, _)| name == from)
    {
        let names: Vec<&str> = STAGES.iter().map(|(name, _)| *name).collect();
        bail!("`--from {from}`: no stage is called so\nhint: stages are {}", names.join(", "));
    }
    // All tables are read before anything is computed.
    let settings = STAGES.map(|(stage, _)| recipe.settings(stage));
    let settings: Vec<Option<Value>> = settings.into_iter().collect::<Result<_>>()?;
    let name = args.name.clone().unwrap_or_else(|| recipe.name.clone());
    let folder = context.machine.home.runs().join(&name);
    fs_err::create_dir_all(&folder)?;
    let _lock = Lock::try_acquire(&folder.join("lock"))?;
    let start = Instant::now();
    let mut runner = Runner { context, recipe: &recipe, done: BTreeMap::new(), anew: false };
    let mut order = Vec::new();
    for ((stage, inputs), settings) in STAGES.into_iter().zip(settings) {
        let Some(settings) = settings else { continue };
        runner.anew |= args.from.as_deref() == Some(stage);
        let done = runner.stage(stage, inputs, settings)?;
        order.push(done);
        // Each finished stage is in the record: a run that is stopped can be looked at.
        write_record(&folder, &name, args, &order)?;
    }
    let Some(model) = order.iter().rev().find_map(model_of) else {
        context.print("no stage of the recipe makes a model");
        return Ok(());
    };
    let target = folder.join("model");
    copy_model(&model, &target)?;
    let verdict = order.last().map(line_of).unwrap_or_default();
    atomic::write_json(
        &folder.join("result.json"),
        &json!({ "what": "recipe", "verdict": verdict, "stages": order }),
    )?;
    if context.json {
        context.print_json(&json!({ "run": name, "model": target, "seconds": start.elapsed().as_secs_f64(), "stages": order }));
        return Ok(());
    }
    context.print(&format!("\n{:10} {:>9}  {}", "stage", "seconds", "result"));
    for done in &order {
        context.print(&format!("{:10} {:>9.1}  {}", done.stage, done.seconds, line_of(done)));
    }
    context.print(&format!("\nmodel:   {}\ntalk to it: hearth chat --model {0}", target.display()));
    Ok(())
}

fn write_record(folder: &Path, name: &str, args: &RunArgs, stages: &[Done]) -> Result<()> {
    let recipe = fs_err::canonicalize(&args.recipe)?;
    let record =
        json!({ "kind": "recipe", "name": name, "recipe": recipe, "set": args.set, "stages": stages });
    Ok(atomic::write_json(&folder.join("run.json"), &record)?)
}

fn model_of(done: &Done) -> Option<PathBuf> {
    let model = done.folder.join("model");
    model.join("config.json").is_file().then_some(model)
}

/// The files of a model, over those of an earlier run.
fn copy_model(from: &Path, to: &Path) -> Result<()> {
    let partial = atomic::PartialFolder::create(to)?;
    for entry in fs_err::read_dir(from)? {
        let entry = entry?;
        fs_err::copy(entry.path(), partial.inside().join(entry.file_name()))?;
    }
    if to.exists() {
        fs_err::remove_dir_all(to)?;
    }
    Ok(partial.commit()?)
}

/// The figures of a stage that a person looks for.
fn line_of(done: &Done) -> String {
    let figures = done.summary.get("shown").and_then(Value::as_array).cloned().unwrap_or_default();
    let figures: Vec<&str> = figures.iter().filter_map(Value::as_str).collect();
    figures.join(", ")
}

struct Runner<'a> {
    context: &'a Context,
    recipe: &'a Recipe,
    done: BTreeMap<&'static str, Done>,
    /// From here on nothing is taken over.
    anew: bool,
}

impl Runner<'_> {
    /// Does a stage, or takes over what was done before.
    fn stage(&mut self, stage: &'static str, reads: &[&str], settings: Value) -> Result<Done> {
        // A recipe may leave a stage out: what it would have read is read instead.
        let inputs: BTreeMap<String, String> = reads
            .iter()
            .filter_map(|name| self.nearest(name))
            .map(|done| (done.stage.clone(), done.key.clone()))
            .collect();
        let key =
            json!({ "version": FORMAT_VERSION, "stage": stage, "settings": settings, "inputs": inputs });
        let key = sha256(key.to_string().as_bytes())[..16].to_owned();
        let folder = self.context.machine.home.cache().join("stages").join(format!("{stage}-{key}"));
        let file = folder.join(DONE);
        if self.anew && folder.exists() {
            fs_err::remove_dir_all(&folder)?;
        }
        if file.is_file() {
            let done: Done = atomic::read_json(&file)?;
            self.context.terminal.say(&format!("{stage}: as before ({:.1} s then)", done.seconds));
            self.done.insert(stage, done.clone());
            return Ok(done);
        }
        fs_err::create_dir_all(&folder)?;
        let _lock = Lock::try_acquire(&folder.join("lock"))?;
        self.context.terminal.say(&format!("{stage} …"));
        let start = Instant::now();
        let work = stages::Work {
            context: self.context,
            folder: &folder,
            settings: &settings,
            seed: self.recipe.seed,
        };
        let summary = stages::run(stage, &work, &|name| self.nearest(name).map(|done| done.folder.clone()))
            .with_context(|| format!("the stage `{stage}` in `{}`", folder.display()))?;
        let seconds = start.elapsed().as_secs_f64();
        let done = Done { stage: stage.into(), key, folder, seconds, settings, inputs, summary };
        atomic::write_json(&file, &done)?;
        self.context.terminal.say(&format!("{stage}: {} ({seconds:.1} s)", line_of(&done)));
        self.done.insert(stage, done.clone());
        Ok(done)
    }

    /// The stage of this name, or the last one before it that the recipe has.
    fn nearest(&self, name: &str) -> Option<&Done> {
        let place = STAGES.iter().position(|(stage, _)| *stage == name)?;
        let same_line = |stage: &str| match name {
            // What makes texts, and what makes models.
            "collect" | "clean" | "dedup" => ["collect", "clean", "dedup"].contains(&stage),
            "pretrain" | "sft" => ["pretrain", "sft"].contains(&stage),
            other => stage == other,
        };
        STAGES[..=place]
            .iter()
            .rev()
            .filter(|(stage, _)| same_line(stage))
            .find_map(|(stage, _)| self.done.get(stage))
    }
}
