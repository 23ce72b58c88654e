//! A run's folder, `runs/NAME`: one trainer at a time, its settings as resolved, and what has changed since.

use std::fmt;
use std::path::{Path, PathBuf};

use hearth_artifacts::atomic;
use hearth_artifacts::home::Lock;
use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};

/// Settings, model and data of a run as they were at its start.
pub const RECORD: &str = "run.json";

/// The figures of each step; there once the run has begun.
pub const METRICS: &str = "metrics.jsonl";

/// A folder that this process alone works in.
#[derive(Debug)]
pub struct RunFolder {
    name: String,
    folder: PathBuf,
    _lock: Lock,
}

impl RunFolder {
    /// Makes the folder of a new run; one that has begun already is an error.
    pub fn create(runs: &Path, name: &str) -> Result<Self> {
        let run = Self::locked(runs, name)?;
        if run.path(RECORD).exists() && run.path(METRICS).exists() {
            return Err(Error::RunExists { name: name.into(), folder: run.folder });
        }
        Ok(run)
    }

    /// Finds the folder of a run that was started before.
    pub fn open(runs: &Path, name: &str) -> Result<Self> {
        check_name(name)?;
        let folder = runs.join(name);
        if !folder.join(RECORD).is_file() {
            return Err(Error::NoRun { name: name.into(), folder });
        }
        Self::locked(runs, name)
    }

    fn locked(runs: &Path, name: &str) -> Result<Self> {
        check_name(name)?;
        let folder = runs.join(name);
        let lock = Lock::try_acquire(&folder.join("lock"))?;
        Ok(Self { name: name.into(), folder, _lock: lock })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// What the run was started with.
    pub fn record(&self) -> Result<Value> {
        Ok(atomic::read_json(&self.path(RECORD))?)
    }

    /// Writes down what the run is started with.
    pub fn write_record(&self, record: &impl Serialize) -> Result<()> {
        Ok(atomic::write_json(&self.path(RECORD), record)?)
    }

    /// Refuses a record that isn't the one of the run's start, but for the `harmless` fields, which change no number.
    pub fn check_unchanged(&self, record: &Value, harmless: &[&str]) -> Result<()> {
        let mut differences = Vec::new();
        compare("", &self.record()?, record, &mut differences);
        let name = |part: &str| part.split('[').next().is_some_and(|name| harmless.contains(&name));
        let is_harmless = |field: &str| field.split('.').any(name);
        differences.retain(|difference| !is_harmless(&difference.field));
        match differences.is_empty() {
            true => Ok(()),
            false => Err(Error::Changed { name: self.name.clone(), differences }),
        }
    }
}

fn check_name(name: &str) -> Result<()> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.chars().all(is_plain) {
        true => Ok(()),
        false => Err(Error::RunName { name: name.chars().take(200).collect() }),
    }
}

/// A setting that isn't what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Such as `config.lr`.
    pub field: String,
    pub old: String,
    pub new: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` was {} and is {} now", self.field, self.old, self.new)
    }
}

fn compare(field: &str, old: &Value, new: &Value, differences: &mut Vec<Difference>) {
    let inside = |part: &str| if field.is_empty() { part.to_owned() } else { format!("{field}.{part}") };
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                compare(&inside(key), &of(old), &of(new), differences);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                compare(&format!("{field}[{index}]"), old, new, differences);
            }
        }
        _ if old == new => {}
        _ => differences.push(Difference { field: field.into(), old: old.to_string(), new: new.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_name_field_and_both_values() {
        let runs = std::env::temp_dir().join(format!("hearth-runs-{}", std::process::id()));
        let run = RunFolder::create(&runs, "a").unwrap();
        let record =
            |lr: f64, keep: usize| json!({"config": {"lr": lr, "keep": keep}, "data": [{"sha256": "x"}]});
        run.write_record(&record(0.1, 2)).unwrap();
        assert!(run.check_unchanged(&record(0.1, 3), &["keep"]).is_ok());
        let error = run.check_unchanged(&record(0.2, 3), &[]).unwrap_err().to_string();
        assert!(error.contains("`config.lr` was 0.1 and is 0.2 now"), "{error}");
        assert!(error.contains("`config.keep` was 2 and is 3 now"), "{error}");
        let locked = RunFolder::open(&runs, "a").unwrap_err().to_string();
        assert!(locked.contains(&std::process::id().to_string()), "{locked}");
        fs_err::write(run.path(METRICS), "").unwrap();
        drop(run);
        assert!(matches!(RunFolder::create(&runs, "a"), Err(Error::RunExists { .. })));
        assert!(matches!(RunFolder::open(&runs, "b"), Err(Error::NoRun { .. })));
        for name in ["", "../a", ".a", "a/b", "é"] {
            assert!(matches!(RunFolder::open(&runs, name), Err(Error::RunName { .. })), "{name}");
        }
        fs_err::remove_dir_all(runs).unwrap();
    }
}
