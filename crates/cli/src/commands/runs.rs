//! `hearth runs`: what was trained here, and how runs compare.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use hearth_artifacts::atomic;
use hearth_train::metrics::{self, Metric};
use hearth_train::run_folder::{METRICS, RECORD};
use serde_json::{Value, json};

use super::Context;
use crate::args::RunsArgs;

pub(super) fn run(context: &Context, args: &RunsArgs) -> Result<()> {
    let folder = context.machine.home.runs();
    match args.runs.as_slice() {
        [] => list(context, &folder),
        names => compare(context, &folder, names),
    }
}

/// A run as far as it is.
struct Run {
    name: String,
    record: Value,
    metrics: Vec<Metric>,
    /// What came of it, once it is done.
    result: Option<Value>,
}

impl Run {
    /// `None` if the folder isn't a run of `hearth train`.
    fn read(folder: &Path, name: &str) -> Result<Option<Self>> {
        let folder = folder.join(name);
        let record = folder.join(RECORD);
        if !record.is_file() {
            return Ok(None);
        }
        let result = folder.join("result.json");
        Ok(Some(Self {
            name: name.into(),
            record: atomic::read_json(&record)?,
            metrics: metrics::read(&folder.join(METRICS))?,
            result: if result.is_file() { Some(atomic::read_json(&result)?) } else { None },
        }))
    }

    fn steps(&self) -> usize {
        self.metrics.last().map_or(0, |last| last.step)
    }

    fn best(&self) -> Option<(usize, f64)> {
        let looks = self.metrics.iter().filter_map(|line| Some((line.step, line.validation_loss?)));
        looks.min_by(|a, b| a.1.total_cmp(&b.1))
    }

    fn state(&self) -> String {
        let text = |value: &Value| value.as_str().unwrap_or("done").replace('_', " ");
        self.result.as_ref().map_or_else(|| "not finished".into(), |result| text(&result["verdict"]))
    }

    fn to_json(&self) -> Value {
        let best = self.best();
        json!({
            "run": self.name, "kind": self.record["kind"], "model": self.record["config"]["model"],
            "started": self.record["started"], "steps": self.steps(), "planned_steps": self.record["config"]["steps"],
            "best_step": best.map(|(step, _)| step), "best_validation_loss": best.map(|(_, loss)| loss),
            "state": self.state(),
        })
    }
}

fn list(context: &Context, folder: &Path) -> Result<()> {
    let mut runs = Vec::new();
    if folder.is_dir() {
        for entry in fs_err::read_dir(folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            runs.extend(Run::read(folder, &name)?);
        }
    }
    runs.sort_by_key(|run| (run.record["started"].as_u64(), run.name.clone()));
    for run in &runs {
        if context.json {
            context.print_json(&run.to_json());
            continue;
        }
        let best =
            run.best().map_or_else(String::new, |(step, loss)| format!("best {loss:.3} at step {step}"));
        let (steps, planned) = (run.steps(), &run.record["config"]["steps"]);
        let model = run.record["config"]["model"].as_str().unwrap_or_default();
        context.print(&format!(
            "{:24} {steps:>6} of {planned:<6} {best:24} {:14} {model}",
            run.name,
            run.state()
        ));
    }
    if runs.is_empty() && !context.json {
        context.print("no run here yet; try: hearth train sft --model smollm2-135m --data chats.jsonl");
    }
    Ok(())
}

/// Settings in which runs differ, and their validation losses side by side.
fn compare(context: &Context, folder: &Path, names: &[String]) -> Result<()> {
    let mut runs = Vec::new();
    for name in names {
        match Run::read(folder, name)? {
            Some(run) => runs.push(run),
            None => bail!("no run is called `{name}`; `hearth runs` lists what is here"),
        }
    }
    let mut curves: BTreeMap<usize, Vec<Option<f64>>> = BTreeMap::new();
    for (index, run) in runs.iter().enumerate() {
        for line in &run.metrics {
            if line.validation_loss.is_some() {
                curves.entry(line.step).or_insert_with(|| vec![None; runs.len()])[index] =
                    line.validation_loss;
            }
        }
    }
    let settings = differing(&runs);
    if context.json {
        let curves: Vec<Value> =
            curves.iter().map(|(step, losses)| json!({"step": step, "losses": losses})).collect();
        let all: Vec<Value> = runs.iter().map(Run::to_json).collect();
        context.print_json(&json!({ "runs": all, "settings": settings, "validation": curves }));
        return Ok(());
    }
    let row = |name: &str, cells: Vec<String>| {
        let cells: Vec<String> = cells.iter().map(|cell| format!("{cell:>16}")).collect();
        context.print(&format!("{name:20}{}", cells.concat()));
    };
    row("", runs.iter().map(|run| run.name.clone()).collect());
    row("state", runs.iter().map(Run::state).collect());
    for (name, values) in &settings {
        row(name, values.iter().map(ToString::to_string).collect());
    }
    for (step, losses) in &curves {
        let shown = |loss: &Option<f64>| loss.map_or_else(String::new, |loss| format!("{loss:.4}"));
        row(&format!("step {step}"), losses.iter().map(shown).collect());
    }
    Ok(())
}

/// Settings that aren't the same in all runs; all of a single one's.
fn differing(runs: &[Run]) -> BTreeMap<String, Vec<Value>> {
    let keys =
        runs.iter().filter_map(|run| run.record["config"].as_object()).flat_map(|config| config.keys());
    let values =
        |key: &String| (key.clone(), runs.iter().map(|run| run.record["config"][key].clone()).collect());
    let all: BTreeMap<String, Vec<Value>> = keys.filter(|key| *key != "output").map(values).collect();
    let differs = |values: &[Value]| runs.len() == 1 || values.iter().any(|value| *value != values[0]);
    all.into_iter().filter(|(_, values)| differs(values)).collect()
}
