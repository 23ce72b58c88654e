//! What goes wrong in training, noticed and named: losses that jump, documents to look at, learning by heart.

use std::fmt;

use crate::sft::{Curve, Loss};

/// An example of a step that went wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Suspect {
    /// Its place, `FILE:LINE` where it is known.
    pub name: String,
    /// Its own mean loss.
    pub loss: f64,
}

impl fmt::Display for Suspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:.3})", self.name, self.loss)
    }
}

/// What a jump of the loss does to the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnSpike {
    /// The run ends before the update.
    #[default]
    Stop,
    /// The run goes on and says so.
    Note,
}

/// Examples of a bad step that are named.
pub(crate) const SUSPECTS: usize = 5;

/// Those with the highest loss, what is no number before all.
pub(crate) fn worst_first(mut suspects: Vec<Suspect>) -> Vec<Suspect> {
    suspects.sort_by(|a, b| b.loss.is_nan().cmp(&a.loss.is_nan()).then(b.loss.total_cmp(&a.loss)));
    suspects.truncate(SUSPECTS);
    suspects
}

/// Steps that a loss is compared with, and how many there must be.
const WINDOW: usize = 32;
const AT_LEAST: usize = 8;

/// The median of the steps before, if the loss lies far above it: twice as high and two nats more. Batches of a few
/// short answers vary by a nat; a run that explodes ends near the logarithm of the vocabulary, above ten.
pub(crate) fn spike(before: &[Loss], loss: f64) -> Option<f64> {
    if before.len() < AT_LEAST {
        return None;
    }
    let mut window: Vec<f64> = before[before.len().saturating_sub(WINDOW)..].iter().map(|l| l.loss).collect();
    window.sort_by(f64::total_cmp);
    let median = window[window.len() / 2];
    (loss > 2.0 * median + 2.0).then_some(median)
}

/// What the validation split says about a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No step was better than the untrained adapter.
    NeverHelped,
    /// The loss fell and rose again.
    Overfitted,
    /// The best is the last, or as good as.
    Learned,
}

/// A loss this much above the best, in proportion, is worse and not just noise.
const WORSE: f64 = 1.02;

impl Curve {
    /// The lowest validation loss, the earliest of equals.
    pub fn best(&self) -> Option<Loss> {
        self.validation.iter().copied().min_by(|a, b| a.loss.total_cmp(&b.loss))
    }

    /// `None` before the first look at the validation split.
    pub fn verdict(&self) -> Option<Verdict> {
        let (best, last) = (self.best()?, self.validation.last()?);
        Some(match () {
            () if best.step == 0 => Verdict::NeverHelped,
            () if last.loss > best.loss * WORSE => Verdict::Overfitted,
            () => Verdict::Learned,
        })
    }

    /// The verdict as a sentence.
    pub fn verdict_text(&self) -> String {
        let (Some(verdict), Some(best), Some(first), Some(last)) =
            (self.verdict(), self.best(), self.validation.first(), self.validation.last())
        else {
            return "the validation split was never looked at".into();
        };
        match verdict {
            Verdict::NeverHelped => format!(
                "no step lowered the validation loss of {:.3}: the adapter handed out is the untrained one, and changes nothing",
                first.loss
            ),
            Verdict::Overfitted => format!(
                "overfitted: the validation loss was lowest at step {} ({:.3}) and {:.3} at step {}; the adapter is that of step {}",
                best.step, best.loss, last.loss, last.step, best.step
            ),
            Verdict::Learned => format!(
                "the validation loss fell from {:.3} to {:.3} (step {}); no overfitting",
                first.loss, best.loss, best.step
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(values: &[f64]) -> Vec<Loss> {
        values.iter().enumerate().map(|(step, &loss)| Loss { step, loss }).collect()
    }

    #[test]
    fn a_jump_is_a_spike_and_noise_is_not() {
        let calm = losses(&[2.0, 2.4, 1.7, 2.1, 2.2, 1.6, 2.0, 1.9, 2.3]);
        assert_eq!(spike(&calm, 3.4), None);
        assert_eq!(spike(&calm, 6.1), Some(2.0));
        assert_eq!(spike(&calm[..7], 60.0), None, "too few to compare with");
        assert_eq!(spike(&losses(&[0.01; 40]), 1.9), None);
    }

    #[test]
    fn verdicts_name_the_best_step() {
        let curve = |values: &[f64]| Curve { train: vec![], validation: losses(values) };
        for (values, expected) in [
            (&[3.0, 2.0, 1.5][..], Verdict::Learned),
            (&[3.0, 2.0, 2.01], Verdict::Learned),
            (&[3.0, 2.0, 2.5], Verdict::Overfitted),
            (&[3.0, 3.1, 3.5], Verdict::NeverHelped),
        ] {
            assert_eq!(curve(values).verdict(), Some(expected), "{values:?}");
        }
        assert!(curve(&[3.0, 2.0, 2.5]).verdict_text().contains("step 1 (2.000)"));
        assert_eq!(curve(&[]).verdict(), None);
    }
}
