//! What can be wrong with questions and records.

use std::path::PathBuf;

use crate::compare::WayKind;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Artifacts(#[from] hearth_artifacts::Error),
    #[error(
        "`{}` line {line} isn't a question: {reason}\n\
         hint: each line is {{\"question\":…,\"answers\":[…],\"source\":…}}",
        path.display()
    )]
    Question { path: PathBuf, line: usize, reason: String },
    #[error("`{}` holds no question", path.display())]
    NoQuestions { path: PathBuf },
    #[error("question id `{id}` occurs twice")]
    DuplicateQuestion { id: String },
    #[error(
        "`{}` line {line} isn't a query: {reason}\n\
         hint: each line is {{\"_id\":…,\"text\":…}} or {{\"question\":…,\"source\":…}}",
        path.display()
    )]
    Query { path: PathBuf, line: usize, reason: String },
    #[error(
        "`{}` line {line} isn't a judgement: `{text}`\nhint: each line is `query 0 document gain` or `query document gain`",
        path.display()
    )]
    Qrel { path: PathBuf, line: usize, text: String },
    #[error(
        "none of the {num_queries} queries of `{}` has a document that answers it\n\
         hint: give `--qrels FILE` whose first column has the ids of the queries, or a `source` to each question",
        path.display()
    )]
    NothingJudged { path: PathBuf, num_queries: usize },
    #[error("there is nothing to compare: {questions} questions, {ways} ways")]
    NothingToCompare { questions: usize, ways: usize },
    #[error("way `{way}` has {found} records for question `{question}`, expected 1")]
    Records { way: WayKind, question: String, found: usize },
    #[error("a record of way `{way}` answers question `{question}`, which wasn't asked")]
    UnknownQuestion { way: WayKind, question: String },
}
