//! The arguments of `hearth train|runs|merge`. Defaults of a run's settings stand in `commands/train/recipe.rs`, which the
//! configuration file shares.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum TrainCommand {
    /// Fine-tune a chat model on conversations: JSON Lines of messages, or what Alpaca and others publish
    #[command(
        after_help = "Example:\n  hearth train sft --model smollm2-135m --data chats.jsonl -o my-run\n  hearth train sft recipes/finetune.toml --set rank=32 --set dora=true\n  hearth train sft --resume my-run"
    )]
    Sft(SftArgs),
    /// Train all weights of a new model, or of one to go on from, on token shards
    #[command(
        after_help = "Example:\n  hearth train pretrain recipes/pretrain.toml --set depth=6\n  hearth train pretrain --set tokens=tokens/train --set validation_tokens=tokens/validation --set tokenizer=my-tokenizer -o my-run\n  hearth train pretrain --resume my-run"
    )]
    Pretrain(PretrainArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct PretrainArgs {
    /// Settings as TOML; `--set` goes before them
    #[arg(value_name = "CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Go on with a run; its settings and data must be what they were
    #[arg(long, value_name = "RUN")]
    pub(crate) resume: Option<String>,
    /// With `--resume`: from the checkpoint of this step instead of the last one, which is then removed
    #[arg(long, value_name = "STEP", requires = "resume")]
    pub(crate) checkpoint: Option<usize>,
    /// Name of the run
    #[arg(short, long, value_name = "RUN", default_value = "pretrain", conflicts_with = "resume")]
    pub(crate) output: String,
    /// A setting, as in the configuration file; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct SftArgs {
    /// Settings as TOML; flags go before them
    #[arg(value_name = "CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Go on with a run; its settings, model and data must be what they were
    #[arg(long, value_name = "RUN")]
    pub(crate) resume: Option<String>,
    /// With `--resume`: from the checkpoint of this step instead of the last one, which is then removed
    #[arg(long, value_name = "STEP", requires = "resume")]
    pub(crate) checkpoint: Option<usize>,
    /// Chat model: short name, source or path (GGUF file, safetensors folder)
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Conversations to learn from; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) data: Vec<PathBuf>,
    /// Conversations to validate with; without them a share of the data is set aside. May be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) validation_data: Vec<PathBuf>,
    /// Name of the run [default: model and method]
    #[arg(short, long, value_name = "RUN")]
    pub(crate) output: Option<String>,
    /// lora: the base in f32; qlora: a quantised base as it is; full: all weights
    #[arg(long)]
    pub(crate) method: Option<String>,
    #[arg(long)]
    pub(crate) rank: Option<usize>,
    /// Peak learning rate
    #[arg(long)]
    pub(crate) lr: Option<f64>,
    /// Times each conversation is seen
    #[arg(long, conflicts_with = "steps")]
    pub(crate) epochs: Option<u32>,
    /// Updates at most
    #[arg(long)]
    pub(crate) steps: Option<usize>,
    #[arg(long)]
    pub(crate) seed: Option<u32>,
    /// Any other setting, as in the configuration file; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Leave rows out that can't be used instead of stopping; they are counted and listed
    #[arg(long)]
    pub(crate) allow_skips: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RunsArgs {
    /// Runs to show side by side: settings in which they differ, validation losses; all are listed without it
    #[arg(value_name = "RUN")]
    pub(crate) runs: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct MergeArgs {
    /// Short name, source or path of the base: a GGUF file or a folder with config.json
    pub(crate) model: String,
    /// A run of `hearth train`, or a folder in PEFT's layout
    pub(crate) adapter: String,
    /// A GGUF file if it ends in `.gguf`, else a folder
    #[arg(short, long, value_name = "TARGET")]
    pub(crate) output: PathBuf,
    /// What the matrices become [default: the base's type, f16 where that is quantised]
    #[arg(long = "type", value_enum)]
    pub(crate) kind: Option<MergedType>,
    /// Don't compare the logits of the base with the adapter and of what is written
    #[arg(long)]
    pub(crate) no_verify: bool,
    /// Take the place of a file that is there already
    #[arg(long)]
    pub(crate) overwrite: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(non_camel_case_types, reason = "spelt as on the command line")]
pub(crate) enum MergedType {
    F32,
    F16,
    Bf16,
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q6_k")]
    Q6_K,
    #[value(name = "q5_k_m")]
    Q5_K_M,
    #[value(name = "q4_k_m")]
    Q4_K_M,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RunArgs {
    /// The recipe, as TOML: a table a stage
    #[arg(value_name = "RECIPE")]
    pub(crate) recipe: PathBuf,
    /// Do this stage and those behind it anew
    #[arg(long, value_name = "STAGE")]
    pub(crate) from: Option<String>,
    /// A setting, as in the recipe; may be given several times
    #[arg(long, value_name = "STAGE.KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Name of the run [default: the recipe's]
    #[arg(long, value_name = "RUN")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TrainBenchArgs {
    /// small: 7 M parameters, 8 rows of 256 tokens a step; large: 30 M, 4 rows
    #[arg(long, value_enum, default_value = "small")]
    pub(crate) shape: BenchShape,
    /// Steps that count, behind three that warm up
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) steps: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchShape {
    Small,
    Large,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct LineageArgs {
    /// A run, or a model's folder
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,
    /// Name the documents of the training data that hold this text
    #[arg(long, value_name = "TEXT")]
    pub(crate) contains: Option<String>,
}
