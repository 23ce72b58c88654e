//! Measures of a model.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::{DEFAULT_MODEL, KvArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum EvalCommand {
    /// Perplexity of a text, in windows without overlap whose second half is scored
    #[command(
        after_help = "Example:\n  hearth eval perplexity --model smollm2-135m --text book.txt --window 512"
    )]
    Perplexity(PerplexityArgs),
    /// Whether a sentence is found again in a long text, by length and depth
    #[command(
        after_help = "Example:\n  hearth eval needle --lengths 1024,4096 --depths 0,0.5,1 --text book.txt --sparse-pages 16"
    )]
    Needle(NeedleArgs),
    /// How probable given continuations of given texts are, token by token
    #[command(after_help = "Example:\n  hearth eval logprobs --model smollm2-135m --file pairs.jsonl --json")]
    Logprobs(LogprobsArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct LogprobsArgs {
    #[arg(long, default_value = DEFAULT_MODEL)]
    pub(crate) model: String,
    /// JSON Lines of `{"context": …, "continuation": …}`
    #[arg(long)]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) kv: KvArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct NeedleArgs {
    #[arg(long, default_value = DEFAULT_MODEL)]
    pub(crate) model: String,
    /// The haystack, repeated if it is too short
    #[arg(long)]
    pub(crate) text: PathBuf,
    /// Tokens of the prompt
    #[arg(long, default_value = "1024,4096", value_delimiter = ',')]
    pub(crate) lengths: Vec<usize>,
    /// Where the sentence is hidden: 0 at the beginning, 1 at the end
    #[arg(long, default_value = "0,0.25,0.5,0.75,1", value_delimiter = ',')]
    pub(crate) depths: Vec<f64>,
    /// Sentences hidden for each length and depth, one prompt each
    #[arg(long, default_value_t = 2)]
    pub(crate) needles: usize,
    #[command(flatten)]
    pub(crate) kv: KvArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct PerplexityArgs {
    #[arg(long, default_value = DEFAULT_MODEL)]
    pub(crate) model: String,
    #[arg(long)]
    pub(crate) text: PathBuf,
    #[arg(long, default_value_t = 512)]
    pub(crate) window: usize,
    #[command(flatten)]
    pub(crate) kv: KvArgs,
}
