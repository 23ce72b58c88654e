//! Arguments of `hearth kb`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::DEFAULT_EMBEDDER;

#[derive(Debug, Subcommand)]
pub(crate) enum KbCommand {
    /// Build a knowledge base from a folder
    #[command(after_help = "Example:\n  hearth kb create handbook examples/handbook")]
    Create(KbCreateArgs),
    /// Find passages
    #[command(
        after_help = "Example:\n  hearth kb search handbook \"how long does a cycle take\" --method hybrid -k 5"
    )]
    Search(KbSearchArgs),
    /// How well questions find the documents that answer them: nDCG, recall and reciprocal rank of each method
    #[command(
        after_help = "Example:\n  hearth kb eval handbook --queries examples/handbook-questions.jsonl --min-ndcg 0.8\n  hearth kb eval scifact --queries queries.jsonl --qrels qrels/test.tsv --json"
    )]
    Eval(KbEvalArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct KbCreateArgs {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    #[arg(long, default_value = DEFAULT_EMBEDDER)]
    pub(crate) embedder: String,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct KbSearchArgs {
    pub(crate) name: String,
    pub(crate) query: String,
    #[arg(long, value_enum, default_value_t = SearchMethod::Hybrid)]
    pub(crate) method: SearchMethod,
    #[arg(short, default_value_t = 10)]
    pub(crate) k: usize,
    #[arg(long, default_value = DEFAULT_EMBEDDER)]
    pub(crate) embedder: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SearchMethod {
    Bm25,
    Dense,
    Hybrid,
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
    #[arg(long, value_enum, value_delimiter = ',', default_value = "hybrid,bm25,dense")]
    pub(crate) methods: Vec<SearchMethod>,
    /// Documents of a ranking that count
    #[arg(short, default_value_t = 10)]
    pub(crate) k: usize,
    /// Fail (exit code 1) if nDCG of the first method is lower
    #[arg(long)]
    pub(crate) min_ndcg: Option<f64>,
    #[arg(long, default_value = DEFAULT_EMBEDDER)]
    pub(crate) embedder: String,
}
