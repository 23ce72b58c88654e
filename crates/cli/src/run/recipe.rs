//! A recipe's file: a name, a seed, and a table for each stage. What isn't known is refused by its name.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use hearth_artifacts::hash::sha256_file;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use toml::Table;

use crate::pretraining::Settings as TrainSettings;
use crate::settings;

/// Where texts and conversations come from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Collect {
    /// Files and folders of texts; without any, a made-up world is told of.
    pub(super) texts: Vec<PathBuf>,
    /// JSON Lines of `messages` to fine-tune on.
    pub(super) chats: Vec<PathBuf>,
    /// JSON Lines of `question` and `answer`, asked in the end.
    pub(super) questions: Vec<PathBuf>,
    /// How much is made up of what no files are given for.
    pub(super) made_up_texts: usize,
    pub(super) made_up_chats: usize,
    pub(super) made_up_questions: usize,
}

impl Default for Collect {
    fn default() -> Self {
        Self {
            texts: Vec::new(),
            chats: Vec::new(),
            questions: Vec::new(),
            made_up_texts: 4000,
            made_up_chats: 6000,
            made_up_questions: 120,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TokenizerSettings {
    pub(super) vocab_size: usize,
    pub(super) pattern: String,
    pub(super) min_frequency: u64,
}

impl Default for TokenizerSettings {
    fn default() -> Self {
        Self { vocab_size: 2048, pattern: "qwen2".into(), min_frequency: 2 }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Pack {
    /// Of the documents, chosen by the hash of their text.
    pub(super) validation_share: f64,
    pub(super) max_shard_bytes: u64,
}

impl Default for Pack {
    fn default() -> Self {
        Self { validation_share: 0.05, max_shard_bytes: 256 << 20 }
    }
}

/// Fine-tuning of all weights: the settings of training, and the share of conversations that validates.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Sft {
    #[serde(default = "five_hundredths")]
    pub(super) validation_share: f64,
    #[serde(flatten)]
    pub(super) train: Table,
}

fn five_hundredths() -> f64 {
    0.05
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Evaluate {
    pub(super) max_tokens: usize,
    /// Questions whose answers are shown.
    pub(super) shown: usize,
}

impl Default for Evaluate {
    fn default() -> Self {
        Self { max_tokens: 64, shown: 3 }
    }
}

/// A recipe as it was read, defaults filled in a stage at a time.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) name: String,
    pub(super) seed: u64,
    folder: PathBuf,
    tables: Table,
}

impl Recipe {
    pub(super) fn read(path: &Path, set: &[String]) -> Result<Self> {
        let mut tables = settings::read(path)?;
        settings::set(&mut tables, set)?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let stem =
            path.file_stem().map_or_else(|| "recipe".into(), |stem| stem.to_string_lossy().into_owned());
        let name = match tables.remove("name") {
            None => stem,
            Some(name) => name.as_str().context("`name` isn't a text")?.to_owned(),
        };
        let seed = match tables.remove("seed") {
            None => 1,
            Some(seed) => seed
                .as_integer()
                .and_then(|seed| u64::try_from(seed).ok())
                .context("`seed` isn't a number")?,
        };
        for (key, value) in &tables {
            if !super::STAGES.iter().any(|(stage, _)| stage == key) || !value.is_table() {
                let stages: Vec<&str> = super::STAGES.iter().map(|(stage, _)| *stage).collect();
                bail!(
                    "`{}`: `{key}` isn't a stage\nhint: a recipe has tables {}",
                    path.display(),
                    stages.join(", ")
                );
            }
        }
        Ok(Self { name, seed, folder, tables })
    }

    /// A stage's settings with all defaults, or nothing if the recipe leaves it out. Files stand with their hashes, so that
    /// other contents are other settings.
    pub(super) fn settings(&self, stage: &str) -> Result<Option<Value>> {
        let Some(table) = self.tables.get(stage) else { return Ok(None) };
        let resolved = self.resolved(stage, table.clone()).with_context(|| format!("the table `{stage}`"))?;
        Ok(Some(resolved))
    }

    fn resolved(&self, stage: &str, table: toml::Value) -> Result<Value> {
        let mut value = match stage {
            "collect" => serde_json::to_value(self.collect(table.try_into()?)?)?,
            "clean" => serde_json::to_value(table.try_into::<hearth_data::clean::Config>()?)?,
            "dedup" => serde_json::to_value(table.try_into::<hearth_data::dedup::Config>()?)?,
            "tokenizer" => serde_json::to_value(table.try_into::<TokenizerSettings>()?)?,
            "pack" => serde_json::to_value(table.try_into::<Pack>()?)?,
            "pretrain" => {
                let train: TrainSettings = table.try_into()?;
                train.check_values()?;
                serde_json::to_value(train)?
            }
            "sft" => {
                let sft: Sft = table.try_into()?;
                // The settings of training are checked here, before anything is computed.
                let train: TrainSettings = toml::Value::Table(sft.train).try_into()?;
                train.check_values()?;
                json!({ "validation_share": sft.validation_share, "train": train })
            }
            _ => serde_json::to_value(table.try_into::<Evaluate>()?)?,
        };
        if stage == "collect" {
            value["files"] = Self::hashes(&value)?;
        }
        value["seed"] = self.seed.into();
        Ok(value)
    }

    fn collect(&self, mut collect: Collect) -> Result<Collect> {
        for path in collect.texts.iter_mut().chain(&mut collect.chats).chain(&mut collect.questions) {
            *path = fs_err::canonicalize(self.folder.join(&*path))?;
        }
        Ok(collect)
    }

    /// The sha256 of each file that is given, those of folders included.
    fn hashes(collect: &Value) -> Result<Value> {
        let mut hashes = serde_json::Map::new();
        for kind in ["texts", "chats", "questions"] {
            let paths: Vec<PathBuf> = serde_json::from_value(collect[kind].clone())?;
            for path in paths {
                add_hashes(&path, &mut hashes)?;
            }
        }
        Ok(hashes.into())
    }
}

fn add_hashes(path: &Path, hashes: &mut serde_json::Map<String, Value>) -> Result<()> {
    if path.is_dir() {
        for entry in fs_err::read_dir(path)? {
            add_hashes(&entry?.path(), hashes)?;
        }
        return Ok(());
    }
    hashes.insert(path.to_string_lossy().into_owned(), sha256_file(path)?.into());
    Ok(())
}
