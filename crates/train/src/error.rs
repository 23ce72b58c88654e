//! What can stop a training run.

use hearth_tensor::optimizer::OptimizerError;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    Model(#[from] hearth_model::Error),
    #[error(transparent)]
    Artifact(#[from] hearth_artifacts::Error),
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    #[error("{train} examples to train on and {validation} to validate with; both need at least one")]
    NoExamples { train: usize, validation: usize },
    #[error("example `{index}` has {num_tokens} tokens, more than the model's context of {max_seq_len}")]
    TooLong { index: usize, num_tokens: usize, max_seq_len: usize },
    #[error("example `{index}` has a loss mask that is all {value}: nothing to learn, or nothing to answer")]
    Mask { index: usize, value: bool },
    #[error("the loss at step {step} is {loss}; its examples are {examples:?}")]
    NotFinite { step: usize, loss: f64, examples: Vec<usize> },
    #[error("stopped at step {step}; the checkpoint is kept, run the same command again to go on")]
    Cancelled { step: usize },
    #[error("the checkpoint in `{path}` can't be read: {reason}; remove the folder to start over")]
    Checkpoint { path: std::path::PathBuf, reason: String },
}

pub type Result<T> = std::result::Result<T, Error>;
