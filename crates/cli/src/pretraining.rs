//! Training all weights, as `hearth train pretrain` and the stages of a recipe do it: settings to a run folder with
//! curves, checkpoints and a model that can be served.
//!
//! In: two folders of token shards and their tokenizer; sizes of a new model, or a model to go on from. Out: `model/` in
//! the run folder, a Hugging Face folder with `hearth.json` for lineage.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use hearth_artifacts::atomic;
use hearth_artifacts::hash::sha256_file;
use hearth_artifacts::shards::TokenShards;
use hearth_artifacts::shards::packing::Packing;
use hearth_eval::compare::Fact;
use hearth_model::trained::Sizes;
use hearth_model::{Decoder, Model};
use hearth_tokenizer::Tokenizer;
use hearth_train::checkpoints::{Checkpoints, Resume};
use hearth_train::guard::OnSpike;
use hearth_train::pretrain::{self, Input, Method, Output, PretrainConfig};
use hearth_train::schedule::{Decay, Schedule};
use hearth_train::{Error, sample};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::commands::Context;
use crate::training_page::Outcome;

/// The settings of a run, with their defaults; what isn't said follows from the rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Folders of token shards, as `hearth data pack` writes them.
    pub(crate) tokens: PathBuf,
    pub(crate) validation_tokens: PathBuf,
    /// Folder with `tokenizer.json`; that of the model to go on from if it isn't said.
    pub(crate) tokenizer: PathBuf,
    /// Folder of a model to go on from, all of whose weights are trained.
    pub(crate) model: Option<PathBuf>,
    /// Layers of a new model, 64 channels each for every layer; `sizes` says all instead.
    pub(crate) depth: usize,
    pub(crate) sizes: Option<Sizes>,
    pub(crate) seq_len: u32,
    /// How long: steps, or times that each token is seen.
    pub(crate) steps: Option<usize>,
    pub(crate) epochs: f64,
    /// Tokens of an update, and how many go through the model together.
    pub(crate) batch_tokens: usize,
    pub(crate) micro_tokens: usize,
    pub(crate) method: Method,
    /// The peak.
    pub(crate) lr: f32,
    pub(crate) warmup_share: f32,
    pub(crate) decay: Decay,
    pub(crate) min_lr_share: f32,
    /// Of the steps, with `decay = "wsd"`.
    pub(crate) decay_share: f32,
    pub(crate) beta1: f32,
    pub(crate) beta2: f32,
    pub(crate) momentum: f32,
    pub(crate) weight_decay: f32,
    pub(crate) max_gradient_norm: f32,
    pub(crate) recompute: bool,
    /// A tenth of the steps if it isn't said.
    pub(crate) validate_every: Option<usize>,
    pub(crate) validation_rows: u64,
    pub(crate) patience: usize,
    pub(crate) checkpoint_seconds: u64,
    pub(crate) keep_checkpoints: usize,
    pub(crate) on_spike: OnSpike,
    /// A text that is gone on with at each look at the validation split.
    pub(crate) sample: Option<String>,
    pub(crate) seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tokens: PathBuf::new(),
            validation_tokens: PathBuf::new(),
            tokenizer: PathBuf::new(),
            model: None,
            depth: 4,
            sizes: None,
            seq_len: 256,
            steps: None,
            epochs: 1.0,
            batch_tokens: 4096,
            micro_tokens: 2048,
            method: Method::Muon,
            lr: 3e-3,
            warmup_share: 0.05,
            decay: Decay::Cosine,
            min_lr_share: 0.1,
            decay_share: 0.2,
            beta1: 0.9,
            beta2: 0.95,
            momentum: 0.95,
            weight_decay: 0.1,
            max_gradient_norm: 1.0,
            recompute: false,
            validate_every: None,
            validation_rows: 256,
            patience: 5,
            checkpoint_seconds: 60,
            keep_checkpoints: 2,
            on_spike: OnSpike::Stop,
            sample: None,
            seed: 1,
        }
    }
}

/// Settings that change no number: a run may go on with others.
pub(crate) const HARMLESS: [&str; 7] = [
    "checkpoint_seconds",
    "keep_checkpoints",
    "on_spike",
    "sample",
    "tokens",
    "validation_tokens",
    "tokenizer",
];

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Done {
    /// The Hugging Face folder.
    pub(crate) model: PathBuf,
    /// As `--json` prints it.
    pub(crate) summary: Value,
}

/// What a run reads, opened and checked.
pub(crate) struct Plan {
    settings: Settings,
    pub(crate) config: PretrainConfig,
    train: TokenShards,
    validation: TokenShards,
    tokenizer: Tokenizer,
    /// Folder of the tokenizer's files.
    tokenizer_folder: PathBuf,
    initial: Option<Model>,
    config_json: Value,
}

impl Plan {
    /// Opens everything and settles what follows from it.
    pub(crate) fn new(context: &Context, settings: &Settings) -> Result<Self> {
        settings.check()?;
        let tokenizer_folder = match (&settings.model, settings.tokenizer.as_os_str().is_empty()) {
            (Some(model), true) => model.clone(),
            _ => settings.tokenizer.clone(),
        };
        let file = tokenizer_folder.join("tokenizer.json");
        let tokenizer = Tokenizer::from_json(&fs_err::read(&file)?)
            .with_context(|| format!("`{}` isn't a tokenizer", file.display()))?;
        let expected = sha256_file(&file)?;
        let open = |folder: &Path| -> Result<TokenShards> {
            let shards = TokenShards::open(folder)?;
            if shards.manifest().tokenizer_sha256 != expected {
                bail!(
                    "the tokens of `{}` are of another tokenizer than `{}`\nhint: pack the texts again with this one",
                    folder.display(),
                    file.display()
                );
            }
            Ok(shards)
        };
        let (train, validation) = (open(&settings.tokens)?, open(&settings.validation_tokens)?);
        let initial = settings.model.as_deref().map(|folder| Model::open(folder, &context.machine.pool));
        let initial = initial.transpose()?;
        let sizes = match (&initial, &settings.sizes) {
            (Some(_), _) => None,
            (None, Some(sizes)) => Some(sizes.clone()),
            (None, None) => {
                let (vocab_size, len) = (train.manifest().vocab_size as usize, settings.seq_len as usize);
                Some(PretrainConfig::sizes_of_depth(settings.depth, vocab_size, len))
            }
        };
        let config_json = match (&settings.model, &sizes) {
            (Some(folder), _) => atomic::read_json(&folder.join("config.json"))?,
            (None, sizes) => {
                let end = train.manifest().end_of_document;
                sizes.as_ref().map(|sizes| sizes.config_json(end)).unwrap_or_default()
            }
        };
        let config = settings.config(sizes, train.num_tokens());
        Ok(Self {
            settings: settings.clone(),
            config,
            train,
            validation,
            tokenizer,
            tokenizer_folder,
            initial,
            config_json,
        })
    }

    /// What the run is, for its record: what has changed since is refused.
    pub(crate) fn record(&self) -> Value {
        let shards = |shards: &TokenShards| -> Vec<String> {
            shards.manifest().shards.iter().map(|shard| shard.sha256.clone()).collect()
        };
        json!({
            "kind": "pretrain",
            "settings": self.settings,
            "config": self.config,
            "train_sha256": shards(&self.train),
            "validation_sha256": shards(&self.validation),
            "tokenizer_sha256": self.train.manifest().tokenizer_sha256,
            "version": env!("CARGO_PKG_VERSION"),
        })
    }

    /// Trains in `folder`, or goes on there.
    pub(crate) fn run(&self, context: &Context, folder: &Path, name: &str, resume: Resume) -> Result<Done> {
        let pool = &context.machine.pool;
        let pack = |shards: &TokenShards| -> Result<Packing> {
            Ok(Packing::new(&shards.lengths()?, self.config.seq_len, self.config.seed)?)
        };
        let (packed, packed_validation) = (pack(&self.train)?, pack(&self.validation)?);
        self.say_plan(context, &packed);
        let token_bytes = self.token_bytes();
        let prompt = self.settings.sample.as_ref().map(|text| (text, self.tokenizer.encode(text)));
        let end = self.train.manifest().end_of_document;
        let say = |decoder: &Decoder| -> String {
            let Some((text, ids)) = prompt.as_ref().filter(|(_, ids)| !ids.is_empty()) else {
                return String::new();
            };
            let ids = sample::greedy(pool, decoder, ids, 40, &end.into_iter().collect::<Vec<_>>());
            format!("{text}{}", self.tokenizer.decode(&ids)).replace('\n', " ")
        };
        let checkpoints = folder.join("checkpoints");
        let metrics = folder.join("metrics.jsonl");
        let input = Input {
            stage: if self.train.manifest().has_mask { "sft" } else { "pretrain" },
            train: (&self.train, &packed),
            validation: (&self.validation, &packed_validation),
            initial: self.initial.as_ref().map(|model| &model.decoder),
            config_json: &self.config_json,
            token_bytes: Some(&token_bytes),
            checkpoints: Checkpoints {
                folder: &checkpoints,
                every_seconds: self.settings.checkpoint_seconds,
                keep: self.settings.keep_checkpoints,
                resume,
            },
            metrics: Some(&metrics),
            on_spike: self.settings.on_spike,
            time_budget: None,
            sample: prompt.is_some().then_some(&say as &dyn Fn(&Decoder) -> String),
        };
        let mut output = pretrain::run(&self.config, &input, pool, &context.terminal)?;
        self.finish(folder, name, &mut output)
    }

    fn say_plan(&self, context: &Context, packed: &Packing) {
        let size = match (&self.config.sizes, &self.initial) {
            (Some(sizes), _) => format!("{:.2} M parameters", sizes.num_params() as f64 / 1e6),
            (None, _) => "all weights of the model".into(),
        };
        let (config, tokens) = (&self.config, self.train.num_tokens());
        context.terminal.say(&format!(
            "{size}; {tokens} tokens in {} rows of {} ({:.1} % full); {} steps of {} tokens",
            packed.num_rows(),
            config.seq_len,
            packed.fill() * 100.0,
            config.num_steps,
            config.batch_rows * config.seq_len as usize,
        ));
    }

    /// Bytes of text that each token stands for; none of a special one.
    fn token_bytes(&self) -> Vec<u32> {
        let count = self.config.sizes.as_ref().map_or(self.tokenizer.vocab_size(), |sizes| sizes.vocab_size);
        let count = count.max(self.initial.as_ref().map_or(0, |model| model.config().vocab_size));
        (0..count as u32)
            .map(|id| match (id as usize) < self.tokenizer.vocab_size() {
                true => self.tokenizer.decode(&[id]).len() as u32,
                false => 0,
            })
            .collect()
    }

    /// Writes the model, the result and the page.
    fn finish(&self, folder: &Path, name: &str, output: &mut Output) -> Result<Done> {
        let model = folder.join("model");
        if model.exists() {
            fs_err::remove_dir_all(&model)?;
        }
        let partial = atomic::PartialFolder::create(&model)?;
        let inside = partial.inside();
        output.decoder.write_folder(&inside, Some(&self.config_json))?;
        for file in
            ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"]
        {
            let from = self.tokenizer_folder.join(file);
            if from.is_file() {
                fs_err::copy(from, inside.join(file))?;
            }
        }
        let lineage = json!({
            "format": 1,
            "run": name,
            "parent": self.settings.model,
            "tokenizer_sha256": self.train.manifest().tokenizer_sha256,
            "weights_sha256": sha256_file(&inside.join("model.safetensors"))?,
            "tokens": fs_err::canonicalize(&self.settings.tokens)?,
            "documents": self.train.num_documents(),
            "sources": self.train.manifest().sources,
            "validation_loss": output.best.loss,
            "bits_per_byte": output.best.bits_per_byte,
        });
        atomic::write_json(&inside.join("hearth.json"), &lineage)?;
        partial.commit()?;
        let summary = json!({
            "what": "pretrain", "run": name, "model": model, "steps": output.steps, "tokens": output.tokens,
            "seconds": output.seconds, "tokens_per_s": output.tokens as f64 / output.seconds.max(1e-9),
            "validation_loss": output.best.loss, "bits_per_byte": output.best.bits_per_byte,
            "first_loss": output.curve.train.first().map(|entry| entry.loss),
            "last_loss": output.curve.train.last().map(|entry| entry.loss),
            "stopped_early": output.stopped_early, "verdict": output.curve.verdict_text(),
            "peak_mib": crate::commands::peak_mib(),
        });
        atomic::write_json(&folder.join("result.json"), &summary)?;
        self.write_page(&folder.join("report.html"), name, output)?;
        Ok(Done { model, summary })
    }

    fn write_page(&self, path: &Path, name: &str, output: &Output) -> Result<()> {
        let outcome = Outcome {
            curve: &output.curve,
            steps: output.steps,
            tokens: output.tokens,
            seconds: output.seconds,
            stopped_early: output.stopped_early.as_ref(),
        };
        let mut facts = vec![
            Fact::new("Tokens of the data", self.train.num_tokens().to_string()),
            Fact::new("Documents", self.train.num_documents().to_string()),
            Fact::new("Steps", output.steps.to_string()),
            Fact::new("Tokens seen", output.tokens.to_string()),
            outcome.speed(),
            Fact::new("Validation loss", format!("{:.4}", output.best.loss)),
        ];
        if let Some(sizes) = &self.config.sizes {
            facts.insert(0, Fact::new("Parameters", sizes.num_params().to_string()));
        }
        if let Some(bits) = output.best.bits_per_byte {
            facts.push(Fact::new("Bits a byte", format!("{bits:.4}")));
        }
        outcome.write_page(path, name, facts)
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        for (name, path) in [("tokens", &self.tokens), ("validation_tokens", &self.validation_tokens)] {
            if path.as_os_str().is_empty() {
                bail!("`{name}` is missing: a folder of token shards\nhint: `hearth data pack` makes one");
            }
        }
        if self.tokenizer.as_os_str().is_empty() && self.model.is_none() {
            bail!(
                "`tokenizer` is missing: a folder with `tokenizer.json`\nhint: `hearth tokenizer train` makes one"
            );
        }
        self.check_values()
    }

    /// Refuses numbers that no run can have.
    pub(crate) fn check_values(&self) -> Result<()> {
        let positive = [
            ("depth", self.depth as f64),
            ("epochs", self.epochs),
            ("steps", self.steps.unwrap_or(1) as f64),
            ("batch_tokens", self.batch_tokens as f64),
            ("micro_tokens", self.micro_tokens as f64),
            ("lr", f64::from(self.lr)),
            ("max_gradient_norm", f64::from(self.max_gradient_norm)),
            ("validate_every", self.validate_every.unwrap_or(1) as f64),
            ("validation_rows", self.validation_rows as f64),
            ("patience", self.patience as f64),
            ("keep_checkpoints", self.keep_checkpoints as f64),
        ];
        for (name, value) in positive {
            // Written so that NaN is refused as well.
            if !(value > 0.0 && value.is_finite()) {
                bail!("`{name}` is {value}, expected more than 0");
            }
        }
        let shares = [
            ("warmup_share", self.warmup_share),
            ("min_lr_share", self.min_lr_share),
            ("decay_share", self.decay_share),
            ("beta1", self.beta1),
            ("beta2", self.beta2),
            ("momentum", self.momentum),
            ("weight_decay", self.weight_decay),
        ];
        for (name, value) in shares {
            if !(0.0..=1.0).contains(&value) {
                bail!("`{name}` is {value}, expected 0 to 1");
            }
        }
        if !(2..=1 << 20).contains(&self.seq_len) {
            bail!("`seq_len` is {}, expected 2 to 1048576", self.seq_len);
        }
        Ok(())
    }

    fn config(&self, sizes: Option<Sizes>, num_tokens: u64) -> PretrainConfig {
        let rows = |tokens: usize| (tokens / self.seq_len as usize).max(1);
        let batch_rows = rows(self.batch_tokens);
        let of_epochs = self.epochs * num_tokens as f64 / (batch_rows * self.seq_len as usize) as f64;
        let num_steps = self.steps.unwrap_or((of_epochs.ceil() as usize).max(1));
        PretrainConfig {
            sizes,
            seed: self.seed,
            num_steps,
            seq_len: self.seq_len,
            batch_rows,
            micro_rows: rows(self.micro_tokens).min(batch_rows),
            method: self.method,
            schedule: Schedule {
                lr: self.lr,
                warmup_steps: (num_steps as f32 * self.warmup_share).ceil() as usize,
                decay: self.decay,
                min_lr_share: self.min_lr_share,
                decay_share: self.decay_share,
            },
            beta1: self.beta1,
            beta2: self.beta2,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            max_gradient_norm: self.max_gradient_norm,
            recompute: self.recompute,
            validate_every: self.validate_every.unwrap_or((num_steps / 10).max(1)),
            validation_rows: self.validation_rows,
            patience: self.patience,
        }
    }
}

/// What to do about an error; `again` is the command that goes on.
pub(crate) fn hinted(error: anyhow::Error, again: &str) -> anyhow::Error {
    let Some(found) = error.downcast_ref::<Error>() else { return error };
    let hint = match found {
        Error::Cancelled { .. } => format!("go on with: {again}"),
        Error::CheckpointWrite { .. } => format!("make room, then go on with: {again}"),
        Error::Spike { .. } => {
            "look at the documents; `on_spike = \"note\"` goes on all the same, a lower `lr` may help".into()
        }
        Error::NotFinite { .. } | Error::Gradient { .. } => {
            "look at the documents, or start another run with a lower `lr`".into()
        }
        _ => return error,
    };
    anyhow!("{found}\nhint: {hint}")
}
