//! Arguments of `hearth kb`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::{DEFAULT_EMBEDDER, DEFAULT_MODEL};

#[derive(Debug, Subcommand)]
pub(crate) enum KbCommand {
    /// Make a knowledge base, empty or from a folder
    #[command(
        after_help = "Example:\n  hearth kb create handbook examples/handbook\n  hearth kb create words --embedder none"
    )]
    Create(KbCreateArgs),
    /// Add folders, files and web pages; what is there already and has not changed is left alone
    #[command(
        after_help = "Example:\n  hearth kb add handbook docs report.pdf --meta year=2026\n  hearth kb add scifact corpus.jsonl"
    )]
    Add(KbAddArgs),
    /// Remove files or single documents
    #[command(after_help = "Example:\n  hearth kb remove handbook old/report.pdf")]
    Remove(KbRemoveArgs),
    /// List knowledge bases, or the documents and skipped files of one
    #[command(after_help = "Example:\n  hearth kb list\n  hearth kb list handbook --json")]
    List(KbListArgs),
    /// Show the chunks a file or folder would give, without keeping anything
    #[command(after_help = "Example:\n  hearth kb preview report.pdf --target-tokens 120")]
    Preview(KbPreviewArgs),
    /// Find passages
    #[command(
        after_help = "Example:\n  hearth kb search handbook \"how long does a cycle take\" --method hybrid -k 5\n  hearth kb search handbook,reports \"turnover\" --filter year=2026,kind=pdf --trace"
    )]
    Search(KbSearchArgs),
    /// Answer a question from the documents, with citations that were checked
    #[command(after_help = "Example:\n  hearth kb ask handbook \"how long does a cycle take\"")]
    Ask(KbAskArgs),
    /// How well questions find the documents that answer them: nDCG, recall and reciprocal rank of each method
    #[command(
        after_help = "Example:\n  hearth kb eval handbook --queries examples/handbook-questions.jsonl --min-ndcg 0.8\n  hearth kb eval scifact --queries queries.jsonl --qrels qrels/test.tsv --json"
    )]
    Eval(KbEvalArgs),
    /// Keep a base as its folders are: adds, changes and removes until Ctrl-C
    #[command(after_help = "Example:\n  hearth kb watch handbook docs --every 5")]
    Watch(KbWatchArgs),
    /// Embed a base with another model; the old vectors serve until all new ones are there
    #[command(after_help = "Example:\n  hearth kb re-embed handbook --embedder all-minilm-l6-v2")]
    ReEmbed(KbReEmbedArgs),
    /// Write a base into one file: documents, chunks, vectors, settings
    #[command(after_help = "Example:\n  hearth kb export handbook handbook.hearth-kb")]
    Export(KbTransferArgs),
    /// Make a base from an exported file
    #[command(after_help = "Example:\n  hearth kb import handbook handbook.hearth-kb")]
    Import(KbTransferArgs),
    /// Delete a base with all it holds
    #[command(after_help = "Example:\n  hearth kb delete handbook")]
    Delete(KbNameArgs),
}

/// How documents are cut.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub(crate) struct ChunkArgs {
    /// Tokens up to which paragraphs are joined
    #[arg(long, default_value_t = 160)]
    pub(crate) target_tokens: usize,
    /// Tokens of a chunk at most
    #[arg(long, default_value_t = 320)]
    pub(crate) max_tokens: usize,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct KbCreateArgs {
    pub(crate) name: String,
    /// Folder or file to begin with
    pub(crate) folder: Option<PathBuf>,
    /// Model that makes the vectors; `none` for a base that is searched by words alone
    #[arg(long, default_value = DEFAULT_EMBEDDER)]
    pub(crate) embedder: String,
    #[command(flatten)]
    pub(crate) chunk: ChunkArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct KbAddArgs {
    pub(crate) name: String,
    /// Folders, files and addresses (http:// or https://)
    #[arg(required_unless_present = "urls")]
    pub(crate) paths: Vec<PathBuf>,
    /// A file with an address a line
    #[arg(long, value_name = "FILE")]
    pub(crate) urls: Option<PathBuf>,
    /// Given to every document, to be asked for with `--filter`
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) meta: Vec<String>,
    /// Remove documents whose files are gone from the folder
    #[arg(long)]
    pub(crate) prune: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct KbRemoveArgs {
    pub(crate) name: String,
    /// Paths as `hearth kb list NAME` shows them
    #[arg(required = true)]
    pub(crate) paths: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct KbListArgs {
    pub(crate) name: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct KbNameArgs {
    pub(crate) name: String,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct KbPreviewArgs {
    pub(crate) path: PathBuf,
    /// Model in whose tokens chunks are measured; `none` counts words
    #[arg(long, default_value = DEFAULT_EMBEDDER)]
    pub(crate) embedder: String,
    #[command(flatten)]
    pub(crate) chunk: ChunkArgs,
}

/// How passages are found.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct FindArgs {
    /// Share of meaning in a hybrid search, 0 to 1 [default: 0.5]
    #[arg(long, value_name = "SHARE")]
    pub(crate) dense_share: Option<f64>,
    /// Join the two rankings of a hybrid search by ranks instead of scores
    #[arg(long, conflicts_with = "dense_share")]
    pub(crate) by_ranks: bool,
    /// Only documents of this kind: `kind=pdf,path=guides/*,year!=2023`
    #[arg(long, default_value = "")]
    pub(crate) filter: String,
    /// What stands around a found chunk and is given with it
    #[arg(long, value_enum, default_value_t = ContextArg::Chunk)]
    pub(crate) context: ContextArg,
    /// Tokens of all passages at most
    #[arg(long)]
    pub(crate) max_passage_tokens: Option<usize>,
    /// Keep passages that say nearly the same
    #[arg(long)]
    pub(crate) keep_duplicates: bool,
    /// Chat model that reads found passages once more with `--method rerank` [default: passages near other good ones
    /// move up, without a model]
    #[arg(long, value_name = "MODEL")]
    pub(crate) reranker: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ContextArg {
    Chunk,
    Neighbours,
    Section,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct KbSearchArgs {
    /// One base, or several with commas between
    pub(crate) name: String,
    pub(crate) query: String,
    #[arg(long, value_enum, default_value_t = SearchMethod::Hybrid)]
    pub(crate) method: SearchMethod,
    #[arg(short, default_value_t = 10)]
    pub(crate) k: usize,
    #[command(flatten)]
    pub(crate) find: FindArgs,
    /// Say what each stage did and took
    #[arg(long)]
    pub(crate) trace: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct KbAskArgs {
    /// One base, or several with commas between
    pub(crate) name: String,
    pub(crate) question: String,
    #[arg(long, default_value = DEFAULT_MODEL)]
    pub(crate) model: String,
    #[arg(long, value_enum, default_value_t = SearchMethod::Hybrid)]
    pub(crate) method: SearchMethod,
    /// Passages put before the question
    #[arg(short, default_value_t = 3)]
    pub(crate) k: usize,
    #[command(flatten)]
    pub(crate) find: FindArgs,
    /// Ask the model for other forms of the question and search by all of them
    #[arg(long)]
    pub(crate) multi_query: bool,
    /// Ask the model for a made-up answer and search by it, too (`HyDE`)
    #[arg(long)]
    pub(crate) hyde: bool,
    /// What was said before, a JSON Lines file of `role` and `content`: the question is first made to stand alone
    #[arg(long)]
    pub(crate) history: Option<PathBuf>,
    /// Put the whole documents of the best passages before the question, as far as this many tokens allow
    #[arg(long, value_name = "TOKENS")]
    pub(crate) long_context: Option<usize>,
    /// Evidence below which the answer is "not in the documents", 0 to 1
    #[arg(long, default_value_t = hearth_knowledge::evidence::THRESHOLD)]
    pub(crate) min_evidence: f64,
    #[arg(long, default_value_t = 256)]
    pub(crate) max_tokens: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SearchMethod {
    Bm25,
    Dense,
    Hybrid,
    /// Hybrid, and the best of it read once more by a model
    Rerank,
}

impl SearchMethod {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bm25 => "bm25",
            Self::Dense => "dense",
            Self::Hybrid => "hybrid",
            Self::Rerank => "rerank",
        }
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct KbEvalArgs {
    pub(crate) name: String,
    /// Queries, a JSON object a line: BEIR's `_id` and `text`, or a question with its `source`
    #[arg(long)]
    pub(crate) queries: PathBuf,
    /// Which documents answer them: TREC's `query 0 document gain` or BEIR's `query document gain`; a document is named
    /// by its path in the folder, with or without its ending
    #[arg(long)]
    pub(crate) qrels: Option<PathBuf>,
    /// Methods to compare; the first is what the others are compared with
    #[arg(
        long = "method",
        visible_alias = "methods",
        value_enum,
        value_delimiter = ',',
        default_value = "hybrid,bm25,dense"
    )]
    pub(crate) methods: Vec<SearchMethod>,
    /// Documents of a ranking that count for nDCG and reciprocal rank
    #[arg(short, default_value_t = 10)]
    pub(crate) k: usize,
    /// Documents of a ranking that count for recall
    #[arg(long, default_value_t = 100)]
    pub(crate) recall_at: usize,
    /// Fail (exit code 1) if nDCG of the first method is lower
    #[arg(long)]
    pub(crate) min_ndcg: Option<f64>,
    #[command(flatten)]
    pub(crate) find: FindArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct KbWatchArgs {
    pub(crate) name: String,
    #[arg(required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Seconds between two looks
    #[arg(long, default_value_t = 5)]
    pub(crate) every: u64,
    /// Look once and end
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct KbReEmbedArgs {
    pub(crate) name: String,
    #[arg(long)]
    pub(crate) embedder: String,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct KbTransferArgs {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
}
