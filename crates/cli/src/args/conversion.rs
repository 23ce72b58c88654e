//! The arguments of `hearth imatrix|quantize|convert`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};

#[derive(Debug, ClapArgs)]
pub(crate) struct ImatrixArgs {
    /// Short name, source or path of the model: the less its weights are rounded the better
    pub(crate) model: String,
    /// UTF-8 text like what the model will read and write
    pub(crate) text: PathBuf,
    /// Where the importance matrix goes, as a GGUF file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Tokens that are read together, each window from an empty context
    #[arg(long, default_value_t = 512)]
    pub(crate) window: usize,
    /// Windows at most; all of the text without it
    #[arg(long, value_name = "N")]
    pub(crate) chunks: Option<usize>,
    /// Take the place of a file that is there already
    #[arg(long)]
    pub(crate) overwrite: bool,
}

/// How a model is written, whatever becomes of its weights.
#[derive(Debug, ClapArgs)]
pub(crate) struct WriteArgs {
    /// Short name, source or path of the model to read: a GGUF file or a folder with config.json
    pub(crate) source: String,
    /// A GGUF file if it ends in `.gguf`, else a folder
    pub(crate) target: PathBuf,
    /// Don't compare the logits of both models
    #[arg(long)]
    pub(crate) no_verify: bool,
    /// Take the place of a file that is there already
    #[arg(long)]
    pub(crate) overwrite: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct QuantizeArgs {
    #[command(flatten)]
    pub(crate) write: WriteArgs,
    /// What most of the weights become
    #[arg(long = "type", value_enum)]
    pub(crate) kind: QuantizedType,
    /// Importance matrix, of `hearth imatrix` or llama.cpp's llama-imatrix: which columns count more
    #[arg(long, value_name = "FILE")]
    pub(crate) imatrix: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(non_camel_case_types, reason = "spelt as on the command line")]
pub(crate) enum QuantizedType {
    #[value(name = "q4_0")]
    Q4_0,
    #[value(name = "q5_0")]
    Q5_0,
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q4_k_m")]
    Q4_K_M,
    #[value(name = "q5_k_m")]
    Q5_K_M,
    #[value(name = "q6_k")]
    Q6_K,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ConvertArgs {
    #[command(flatten)]
    pub(crate) write: WriteArgs,
    /// Type of the matrices; `keep` makes f16 of quantised ones where a folder is written
    #[arg(long = "type", value_enum, default_value_t = DenseType::Keep)]
    pub(crate) kind: DenseType,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DenseType {
    Keep,
    F32,
    F16,
    Bf16,
}
