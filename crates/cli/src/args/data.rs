//! Arguments of `hearth data`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::PackArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Read files of any format, repair their text, tell languages, filter for quality
    #[command(
        after_help = "Example:\n  hearth data clean raw -o clean --languages zh,en\n  hearth data clean crawl.warc.gz -o clean --config clean.toml"
    )]
    Clean(DataCleanArgs),
    /// Keep each text once: equal ones, nearly equal ones, repeated paragraphs
    #[command(
        after_help = "Example:\n  hearth data dedup clean -o unique\n  hearth data dedup clean -o unique --exact-only --passages line"
    )]
    Dedup(DataDedupArgs),
    /// Put placeholders where persons are named or reached
    #[command(
        after_help = "Example:\n  hearth data pii unique -o masked\n  hearth data pii --evaluate built-in\n  hearth data pii --evaluate labelled.jsonl --json"
    )]
    Pii(DataPiiArgs),
    /// Remove rows that hold stretches of evaluation sets
    #[command(
        after_help = "Example:\n  hearth data decontaminate masked -o train --evaluation ceval.jsonl gsm8k.jsonl"
    )]
    Decontaminate(DataDecontaminateArgs),
    /// Tell topic or quality by a small trained model
    #[command(subcommand)]
    Classify(DataClassifyCommand),
    /// Mix sources in the shares that are asked for
    #[command(after_help = "Example:\n  hearth data mix web books code -o mixed --weights 6,3,1 --by bytes")]
    Mix(DataMixArgs),
    /// Texts or conversations to token shards, which training reads
    #[command(
        after_help = "Example:\n  hearth data pack corpus.jsonl.zst --tokenizer my-tokenizer -o shards\n  hearth data pack chats.jsonl --conversations -o chats"
    )]
    Pack(PackArgs),
    /// What a corpus holds, as numbers and as a page
    #[command(
        after_help = "Example:\n  hearth data stats masked -o report\n  hearth data stats masked -o report --json"
    )]
    Stats(DataStatsArgs),
}

/// What every verb reads and writes.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct DataJobArgs {
    /// Files and folders: text, Markdown, HTML, JSON, JSON Lines, CSV, Parquet, WARC, plain or as .gz or .zst
    #[arg(required = true, value_name = "INPUT")]
    pub(crate) inputs: Vec<PathBuf>,
    /// Folder for the result; the same command into it goes on where an earlier one was stopped
    #[arg(short, long, value_name = "FOLDER")]
    pub(crate) output: PathBuf,
    /// How rows are written
    #[arg(long, value_enum, default_value_t = DataFormat::JsonlZst)]
    pub(crate) format: DataFormat,
    /// Settings as TOML, those of a recipe's stage; flags count for more
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Throw away what an earlier job left in the output folder
    #[arg(long)]
    pub(crate) restart: bool,
    #[command(flatten)]
    pub(crate) read: DataReadArgs,
}

/// How files become rows.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct DataReadArgs {
    /// Field or column that holds the text [default: text, content, body or document]
    #[arg(long, value_name = "NAME")]
    pub(crate) text_field: Option<String>,
    /// Field or column that holds the id
    #[arg(long, value_name = "NAME", default_value = "id")]
    pub(crate) id_field: String,
    /// A longer row is set aside, a longer text file becomes several rows
    #[arg(long, value_name = "MIB", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(crate) max_row_mib: u64,
    /// Input that is worked on between two points to resume from
    #[arg(long, value_name = "MIB", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub(crate) shard_mib: u64,
    /// Keep the rows before the damage of files that break off, and count these files
    #[arg(long)]
    pub(crate) allow_damaged: bool,
    /// Keep all text of HTML pages, and not only the main part
    #[arg(long)]
    pub(crate) whole_pages: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DataFormat {
    #[value(name = "jsonl.zst")]
    JsonlZst,
    #[value(name = "jsonl.gz")]
    JsonlGz,
    Jsonl,
    Parquet,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DataCleanArgs {
    #[command(flatten)]
    pub(crate) job: DataJobArgs,
    /// Languages that stay, as zh,en [default: all]
    #[arg(long, value_delimiter = ',', value_name = "LANGUAGES")]
    pub(crate) languages: Vec<String>,
    /// Repair and tell languages only, remove nothing
    #[arg(long)]
    pub(crate) repair_only: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DataDedupArgs {
    #[command(flatten)]
    pub(crate) job: DataJobArgs,
    /// Only texts that are equal to the byte
    #[arg(long)]
    pub(crate) exact_only: bool,
    /// Also cut out paragraphs or lines that stand elsewhere
    #[arg(long, value_enum)]
    pub(crate) passages: Option<DataPassage>,
    /// Bands of hash functions; with the rows they set which similarity is found [default: 20]
    #[arg(long)]
    pub(crate) bands: Option<usize>,
    /// Hash functions of a band [default: 8]
    #[arg(long)]
    pub(crate) rows: Option<usize>,
    /// Words of a shingle, in Chinese characters [default: 5]
    #[arg(long)]
    pub(crate) ngram: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DataPassage {
    Paragraph,
    Line,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DataPiiArgs {
    /// Files and folders to mask
    #[arg(required_unless_present = "evaluate", value_name = "INPUT")]
    pub(crate) inputs: Vec<PathBuf>,
    /// Folder for the result
    #[arg(short, long, value_name = "FOLDER", required_unless_present = "evaluate")]
    pub(crate) output: Option<PathBuf>,
    /// Print precision and recall on labelled rows of {"text","spans":[{"kind","start","end"}]}; `built-in` makes some
    #[arg(long, value_name = "FILE", conflicts_with_all = ["inputs", "output"])]
    pub(crate) evaluate: Option<PathBuf>,
    /// Kinds to look for: secret,email,id-card,bank-card,ip,phone,passport,plate,address,name [default: all]
    #[arg(long, value_delimiter = ',')]
    pub(crate) kinds: Vec<String>,
    /// Where the same value has the same placeholder
    #[arg(long, value_enum)]
    pub(crate) scope: Option<DataScope>,
    /// Secret that goes into the placeholders of `--scope corpus`
    #[arg(long)]
    pub(crate) salt: Option<String>,
    #[arg(long, value_enum, default_value_t = DataFormat::JsonlZst)]
    pub(crate) format: DataFormat,
    /// Settings as TOML
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Throw away what an earlier job left in the output folder
    #[arg(long)]
    pub(crate) restart: bool,
    #[command(flatten)]
    pub(crate) read: DataReadArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DataScope {
    Row,
    Corpus,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DataDecontaminateArgs {
    #[command(flatten)]
    pub(crate) job: DataJobArgs,
    /// Files or folders of evaluation sets
    #[arg(long, required_unless_present = "config", num_args = 1.., value_name = "FILE")]
    pub(crate) evaluation: Vec<PathBuf>,
    /// Words of a stretch [default: 13]
    #[arg(long)]
    pub(crate) ngram_words: Option<usize>,
    /// Characters of a stretch in Chinese [default: 20]
    #[arg(long)]
    pub(crate) ngram_characters: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DataClassifyCommand {
    /// Train on rows with a label
    #[command(
        after_help = "Example:\n  hearth data classify train labelled.jsonl -o topics.bin --label-field topic"
    )]
    Train(DataClassifyTrainArgs),
    /// Set the class of rows, and keep some
    #[command(
        after_help = "Example:\n  hearth data classify run clean -o good --model quality.bin --keep good --min-score 0.7"
    )]
    Run(DataClassifyRunArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DataClassifyTrainArgs {
    /// Files and folders of rows with a label
    #[arg(required = true, value_name = "INPUT")]
    pub(crate) inputs: Vec<PathBuf>,
    /// The model's file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Field that holds the label
    #[arg(long, default_value = "label")]
    pub(crate) label_field: String,
    #[arg(long, default_value_t = 8)]
    pub(crate) epochs: usize,
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) read: DataReadArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DataClassifyRunArgs {
    #[command(flatten)]
    pub(crate) job: DataJobArgs,
    /// What `hearth data classify train` wrote
    #[arg(long, value_name = "FILE")]
    pub(crate) model: PathBuf,
    /// Classes that stay [default: all]
    #[arg(long, value_delimiter = ',')]
    pub(crate) keep: Vec<String>,
    /// Rows whose class is less probable go
    #[arg(long, default_value_t = 0.0)]
    pub(crate) min_score: f32,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DataMixArgs {
    #[command(flatten)]
    pub(crate) job: DataJobArgs,
    /// A weight for each input [default: equal ones]
    #[arg(long, value_delimiter = ',')]
    pub(crate) weights: Vec<f64>,
    /// What shares are counted in
    #[arg(long, value_enum)]
    pub(crate) by: Option<DataMixBy>,
    /// When the mix ends
    #[arg(long, value_enum)]
    pub(crate) until: Option<DataMixUntil>,
    /// Rows of the mix at most
    #[arg(long, value_name = "N")]
    pub(crate) max_rows: Option<u64>,
    #[arg(long)]
    pub(crate) seed: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DataMixBy {
    Rows,
    Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DataMixUntil {
    /// A source has no more rows
    FirstEnds,
    /// Every source was read once; smaller ones come again
    AllEnd,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DataStatsArgs {
    #[command(flatten)]
    pub(crate) job: DataJobArgs,
    /// Don't look for personal data
    #[arg(long)]
    pub(crate) no_pii: bool,
}
