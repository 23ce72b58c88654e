//! A training run's curves and facts as one HTML page.

use std::path::Path;

use anyhow::Result;
use hearth_eval::compare::{Fact, LossPoint, TrainingCurve};
use hearth_eval::report;
use hearth_train::{Curve, Loss};

/// What every run has to show beside facts of its own.
pub(crate) struct Outcome<'a> {
    pub(crate) curve: &'a Curve,
    pub(crate) steps: usize,
    pub(crate) tokens: u64,
    pub(crate) seconds: f64,
    pub(crate) stopped_early: Option<&'a String>,
}

impl Outcome<'_> {
    pub(crate) fn speed(&self) -> Fact {
        Fact::new("Speed", format!("{:.0} tokens/s", self.tokens as f64 / self.seconds.max(1e-9)))
    }

    /// Writes the page; why the run ended early, if it did, stands behind the other facts.
    pub(crate) fn write_page(&self, path: &Path, name: &str, mut facts: Vec<Fact>) -> Result<()> {
        if let Some(reason) = self.stopped_early {
            facts.push(Fact::new("Ended early", reason.clone()));
        }
        let points = |losses: &[Loss]| {
            losses.iter().map(|entry| LossPoint { step: entry.step as u64, loss: entry.loss }).collect()
        };
        let curve = TrainingCurve {
            steps: self.steps as u64,
            train_loss: points(&self.curve.train),
            validation_loss: points(&self.curve.validation),
            facts,
        };
        Ok(report::write_training(path, name, &self.curve.verdict_text(), &curve)?)
    }
}
