//! Arguments of `hearth tokenizer train|compare` and of packing.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::DEFAULT_MODEL;

#[derive(Debug, ClapArgs)]
pub(crate) struct TrainTokenizerArgs {
    /// Text files, or JSON Lines with `text` or `messages`; `.gz` and `.zst` are unpacked
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Tokens in all: special tokens, 256 bytes, and what is learned
    #[arg(long, default_value_t = 32_768)]
    pub(crate) vocab_size: usize,
    /// How text is split into words: gpt2, cl100k, llama3, qwen2, nanochat, o200k, tekken, smollm, deepseek-v3, or a
    /// regular expression
    #[arg(long, default_value = "qwen2")]
    pub(crate) pattern: String,
    /// A special token, in the order of ids [default: those of `ChatML`]
    #[arg(long, value_name = "TOKEN")]
    pub(crate) special: Vec<String>,
    /// Pairs that occur less often are not joined
    #[arg(long, default_value_t = 0)]
    pub(crate) min_frequency: u64,
    /// Bytes that tokens stay below
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_token_length: Option<usize>,
    /// Compose texts first (Unicode's form C), as Qwen's tokenizers do
    #[arg(long)]
    pub(crate) nfc: bool,
    /// Folder for the vocabulary and its configuration
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CompareTokenizersArgs {
    /// Models, GGUF files, folders or tokenizer.json files
    #[arg(required = true, value_name = "TOKENIZER")]
    pub(crate) tokenizers: Vec<String>,
    /// Text file to count on; may be given again
    #[arg(long, required = true, value_name = "FILE")]
    pub(crate) text: Vec<PathBuf>,
    /// Runs to take the median speed of
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) repeat: u16,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct PackArgs {
    /// JSON Lines with `text` or `messages`, or files of plain text, each a document; `.gz` and `.zst` are unpacked
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// A model, a GGUF file, a folder or a tokenizer.json
    #[arg(long, default_value = DEFAULT_MODEL)]
    pub(crate) tokenizer: String,
    /// Rows are conversations: `messages` by the model's own template, with a loss mask over the answers
    #[arg(long)]
    pub(crate) conversations: bool,
    /// The token that ends each text [default: <|endoftext|> or the like, as the vocabulary has it]
    #[arg(long, value_name = "TOKEN", conflicts_with = "conversations")]
    pub(crate) end: Option<String>,
    /// Set rows aside that can't be read, counted and shown, instead of ending at the first
    #[arg(long)]
    pub(crate) skip_bad: bool,
    /// Bytes after which a new shard begins
    #[arg(long, default_value_t = 256 << 20, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_shard_bytes: u64,
    /// Also tell how well rows of this length would be filled
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    pub(crate) seq_len: u32,
    /// Folder for the shards; new or empty
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
}
