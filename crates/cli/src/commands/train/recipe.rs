//! The settings of a fine-tuning run: defaults, then a TOML file, then flags.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use hearth_model::LoraConfig;
use hearth_train::{Decay, OnSpike, SftConfig};
use serde::{Deserialize, Serialize};

use crate::args::SftArgs;
use crate::settings;

/// One flat table, so that each line of a file can be a flag.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of the file by its own name")]
pub(super) struct Recipe {
    /// Short name, source or path.
    pub(super) model: String,
    /// Files of conversations.
    pub(super) data: Vec<PathBuf>,
    /// Files to validate with; without them `validation_share` of the data is set aside.
    pub(super) validation_data: Vec<PathBuf>,
    pub(super) validation_share: f64,
    /// Name of the run.
    pub(super) output: Option<String>,
    /// By the base if it isn't said: `qlora` for a quantised one, `lora` for a dense one.
    pub(super) method: Option<Method>,
    pub(super) rank: usize,
    /// Twice the rank if it isn't said.
    pub(super) alpha: Option<f32>,
    /// `all-linear`, or names such as `q_proj`.
    pub(super) targets: Vec<String>,
    pub(super) rslora: bool,
    pub(super) dora: bool,
    /// Layers with an adapter, counted from 0; all without it.
    pub(super) layers: Option<Vec<usize>>,
    pub(super) lr: f64,
    pub(super) schedule: Decay,
    /// A thirtieth of the steps if it isn't said.
    pub(super) warmup_steps: Option<usize>,
    pub(super) weight_decay: f32,
    pub(super) max_gradient_norm: f32,
    /// Times each conversation is seen, unless `steps` is given.
    pub(super) epochs: u32,
    pub(super) steps: Option<usize>,
    /// Tokens of an update.
    pub(super) batch_tokens: usize,
    /// Tokens that go through the model together: memory against speed.
    pub(super) micro_batch_tokens: usize,
    /// Compute the forward's values again in the backward: less memory, more time.
    pub(super) recompute: bool,
    /// A longer conversation can't be used; the model's context if it isn't said.
    pub(super) max_tokens: Option<usize>,
    pub(super) neftune_alpha: Option<f32>,
    /// Steps between two looks at the validation split: a tenth of all if it isn't said.
    pub(super) validate_every: Option<usize>,
    /// Looks without a better loss after which the run ends.
    pub(super) patience: usize,
    pub(super) checkpoint_seconds: u64,
    pub(super) keep_checkpoints: usize,
    pub(super) on_spike: OnSpike,
    pub(super) allow_skips: bool,
    pub(super) seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Method {
    Lora,
    Qlora,
    Full,
}

/// Settings that change no number: a run may go on with others.
/// Files may have moved: their hashes must be what they were.
pub(super) const HARMLESS: [&str; 8] = [
    "checkpoint_seconds",
    "keep_checkpoints",
    "on_spike",
    "output",
    "data",
    "validation_data",
    "path",
    "started",
];

impl Default for Recipe {
    fn default() -> Self {
        Self {
            model: crate::args::DEFAULT_MODEL.into(),
            data: Vec::new(),
            validation_data: Vec::new(),
            validation_share: 0.1,
            output: None,
            method: None,
            rank: 16,
            alpha: None,
            targets: vec!["all-linear".into()],
            rslora: false,
            dora: false,
            layers: None,
            lr: 3e-4,
            schedule: Decay::Cosine,
            warmup_steps: None,
            weight_decay: 0.0,
            max_gradient_norm: 1.0,
            epochs: 2,
            steps: None,
            batch_tokens: 2048,
            micro_batch_tokens: 512,
            recompute: false,
            max_tokens: None,
            neftune_alpha: None,
            validate_every: None,
            patience: 4,
            checkpoint_seconds: 30,
            keep_checkpoints: 2,
            on_spike: OnSpike::Stop,
            allow_skips: false,
            seed: 1,
        }
    }
}

impl Recipe {
    /// Defaults, the settings of `before` or of the file, then the flags.
    pub(super) fn read(args: &SftArgs, before: Option<&Self>) -> Result<Self> {
        let mut table = match (&args.config, before) {
            (Some(path), _) => settings::read(path)?,
            (None, Some(before)) => toml::Table::try_from(before)?,
            (None, None) => toml::Table::new(),
        };
        flags(args, &mut table)?;
        let mut recipe: Self = toml::Value::Table(table).try_into().with_context(|| match &args.config {
            Some(path) => format!("the settings of `{}` and of the flags", path.display()),
            None => "the settings of the flags".into(),
        })?;
        if let Some(folder) =
            args.config.as_ref().and_then(|path| path.parent()).filter(|_| args.data.is_empty())
        {
            beside(folder, &mut recipe.data);
        }
        if let Some(folder) = args.config.as_ref().and_then(|path| path.parent()) {
            if args.validation_data.is_empty() {
                beside(folder, &mut recipe.validation_data);
            }
        }
        recipe.check()?;
        Ok(recipe)
    }

    fn check(&self) -> Result<()> {
        if self.data.is_empty() {
            bail!(
                "no data to learn from\nhint: --data chats.jsonl, or `data = [\"chats.jsonl\"]` in a configuration file"
            );
        }
        if self.method == Some(Method::Full) {
            bail!(
                "`method` full isn't there yet: lora and qlora train an adapter, `hearth merge` makes a whole model of it"
            );
        }
        let positive = [
            ("rank", self.rank as f64),
            ("lr", self.lr),
            ("max_gradient_norm", f64::from(self.max_gradient_norm)),
            ("epochs", f64::from(self.epochs)),
            ("steps", self.steps.unwrap_or(1) as f64),
            ("batch_tokens", self.batch_tokens as f64),
            ("micro_batch_tokens", self.micro_batch_tokens as f64),
            ("validate_every", self.validate_every.unwrap_or(1) as f64),
            ("patience", self.patience as f64),
            ("keep_checkpoints", self.keep_checkpoints as f64),
            ("alpha", f64::from(self.alpha.unwrap_or(1.0))),
            ("neftune_alpha", f64::from(self.neftune_alpha.unwrap_or(1.0))),
        ];
        for (name, value) in positive {
            // Written so that NaN is refused as well.
            if !(value > 0.0 && value.is_finite()) {
                bail!("`{name}` is {value}, expected more than 0");
            }
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            bail!("`weight_decay` is {}, expected 0 or more", self.weight_decay);
        }
        if self.validation_data.is_empty() && !(self.validation_share > 0.0 && self.validation_share < 1.0) {
            bail!(
                "`validation_share` is {}, expected more than 0 and less than 1\nhint: without a validation split nobody \
                 sees whether the model learns by heart",
                self.validation_share
            );
        }
        Ok(())
    }

    pub(super) fn lora(&self) -> LoraConfig {
        LoraConfig {
            r: self.rank,
            lora_alpha: self.alpha.unwrap_or(2.0 * self.rank as f32),
            target_modules: self.targets.clone(),
            use_rslora: self.rslora,
            use_dora: self.dora,
            layers_to_transform: self.layers.clone(),
        }
    }

    /// With every setting said that follows from others and from the number of steps.
    pub(super) fn resolve(&mut self, max_steps: usize) -> SftConfig {
        let config = SftConfig {
            lora: self.lora(),
            seed: self.seed,
            max_steps,
            batch_tokens: self.batch_tokens,
            micro_batch_tokens: self.micro_batch_tokens,
            recompute: self.recompute,
            lr: self.lr as f32,
            schedule: self.schedule,
            warmup_steps: self.warmup_steps.unwrap_or((max_steps / 30).max(2)).min(max_steps),
            weight_decay: self.weight_decay,
            max_gradient_norm: self.max_gradient_norm,
            neftune_alpha: self.neftune_alpha,
            validate_every: self.validate_every.unwrap_or((max_steps / 10).max(1)),
            patience: self.patience,
        };
        self.steps = Some(max_steps);
        self.alpha = Some(config.lora.lora_alpha);
        self.warmup_steps = Some(config.warmup_steps);
        self.validate_every = Some(config.validate_every);
        config
    }
}

/// Files that a configuration names lie beside it.
fn beside(folder: &Path, files: &mut [PathBuf]) {
    for file in files.iter_mut().filter(|file| file.is_relative()) {
        *file = folder.join(&*file);
    }
}

/// Puts what the flags say into the table.
fn flags(args: &SftArgs, table: &mut toml::Table) -> Result<()> {
    let mut put = |name: &str, value: Option<toml::Value>| {
        if let Some(value) = value {
            table.insert(name.into(), value);
        }
    };
    let paths = |paths: &[PathBuf]| -> Option<toml::Value> {
        let paths: Vec<toml::Value> =
            paths.iter().map(|path| path.to_string_lossy().into_owned().into()).collect();
        (!paths.is_empty()).then_some(toml::Value::Array(paths))
    };
    put("model", args.model.clone().map(Into::into));
    put("data", paths(&args.data));
    put("validation_data", paths(&args.validation_data));
    put("output", args.output.clone().map(Into::into));
    put("method", args.method.clone().map(Into::into));
    put("rank", args.rank.map(|rank| (rank as i64).into()));
    put("lr", args.lr.map(Into::into));
    put("epochs", args.epochs.map(Into::into));
    put("steps", args.steps.map(|steps| (steps as i64).into()));
    put("seed", args.seed.map(Into::into));
    put("allow_skips", args.allow_skips.then_some(true.into()));
    settings::set(table, &args.set)?;
    if args.epochs.is_some() {
        table.remove("steps");
    }
    // One name may stand for a list of one.
    for name in ["data", "validation_data", "targets"] {
        if let Some(value @ toml::Value::String(_)) = table.get_mut(name) {
            *value = toml::Value::Array(vec![value.clone()]);
        }
    }
    Ok(())
}
