//! What can stop a training run.

use std::path::PathBuf;

use hearth_tensor::optimizer::OptimizerError;

use crate::guard::Suspect;
use crate::run_folder::Difference;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    Model(#[from] hearth_model::Error),
    #[error(transparent)]
    Artifact(#[from] hearth_artifacts::Error),
    #[error("{train} examples to train on and {validation} to validate with; both need at least one")]
    NoExamples { train: usize, validation: usize },
    #[error("{example} has {num_tokens} tokens, more than the model's context of {max_seq_len}")]
    TooLong { example: String, num_tokens: usize, max_seq_len: usize },
    #[error("{example} has a loss mask that is all {value}: nothing to learn, or nothing to answer")]
    Mask { example: String, value: bool },
    #[error("the loss at step {step} is {loss}; its examples, the worst first: {}", list(suspects))]
    NotFinite { step: usize, loss: f64, suspects: Vec<Suspect> },
    #[error(
        "the loss at step {step} is {loss:.3}, where the steps before had {median:.3}: its examples, the worst first: {}",
        list(suspects)
    )]
    Spike { step: usize, loss: f64, median: f64, suspects: Vec<Suspect> },
    #[error(
        "the update of step {step} isn't finite, so the learning rate of {lr} is too large or an example is broken; the \
         step's examples, the worst first: {}",
        list(suspects)
    )]
    Gradient {
        step: usize,
        lr: f32,
        suspects: Vec<Suspect>,
        #[source]
        source: OptimizerError,
    },
    #[error("stopped at step {step}; the checkpoint is kept, run the same command again to go on")]
    Cancelled { step: usize },
    #[error("the checkpoint in `{path}` can't be read: {reason}{}", previous_hint(*previous))]
    Checkpoint { path: PathBuf, reason: String, previous: Option<usize> },
    #[error("there is no checkpoint of step {step} in `{folder}`; there are: {}", numbers(steps))]
    NoCheckpoint { step: usize, folder: PathBuf, steps: Vec<usize> },
    #[error("the checkpoint of step {step} can't be written{}", previous_whole(*last))]
    CheckpointWrite {
        step: usize,
        last: Option<usize>,
        #[source]
        source: Box<Error>,
    },
    #[error("`{name}` can't name a run: letters, digits, `.`, `_` and `-`, not a `.` first, 100 at most")]
    RunName { name: String },
    #[error("a run called `{name}` is there already, in `{folder}`")]
    RunExists { name: String, folder: PathBuf },
    #[error("no run is called `{name}`: `{folder}` isn't there or isn't a run of `hearth train`")]
    NoRun { name: String, folder: PathBuf },
    #[error("the run `{name}` was started with other settings:\n{}", lines(differences))]
    Changed { name: String, differences: Vec<Difference> },
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

fn list(suspects: &[Suspect]) -> String {
    let shown: Vec<String> = suspects.iter().map(ToString::to_string).collect();
    shown.join(", ")
}

fn numbers(steps: &[usize]) -> String {
    let shown: Vec<String> = steps.iter().map(ToString::to_string).collect();
    if shown.is_empty() { "none".into() } else { shown.join(", ") }
}

fn lines(differences: &[Difference]) -> String {
    let shown: Vec<String> = differences.iter().map(|difference| format!("  {difference}")).collect();
    shown.join("\n")
}

fn previous_hint(previous: Option<usize>) -> String {
    match previous {
        Some(step) => format!("; the one before it is of step {step}"),
        None => "; there is none before it, remove the folder to start over".into(),
    }
}

fn previous_whole(last: Option<usize>) -> String {
    match last {
        Some(step) => format!("; the one of step {step} is whole"),
        None => "; there is none before it".into(),
    }
}
