//! One sitting of a run, whatever weights it trains: steps until the plan, the budget or the patience ends, looks at the
//! validation split between them, figures, checkpoints.
//!
//! What a step computes and what a state holds is behind [`Training`].

use std::path::Path;
use std::time::{Duration, Instant};

use hearth_artifacts::progress::{Event, Progress, Unit};

use crate::checkpoints::Checkpoints;
use crate::error::{Error, Result};
use crate::metrics::{Metric, Metrics, memory_mib};
use crate::sft::Curve;

/// Weights under training with everything the next step needs.
pub(crate) trait Training {
    /// Steps done.
    fn step(&self) -> usize;
    fn curve(&self) -> &Curve;
    /// Of all sittings; the sitting keeps it up to date.
    fn seconds(&mut self) -> &mut f64;
    /// One update; nothing has changed where it is refused.
    fn update(&mut self) -> Result<Done>;
    /// Adds a look at the validation split to the curve, and keeps the weights if they are the best so far.
    fn look(&mut self) -> Result<Look>;
    /// Writes the state into a folder that is there.
    fn write(&mut self, folder: &Path) -> Result<()>;
}

/// What a step did.
pub(crate) struct Done {
    pub(crate) loss: f64,
    pub(crate) lr: f32,
    /// Before clipping.
    pub(crate) gradient_norm: f64,
    pub(crate) tokens: usize,
    pub(crate) learned_tokens: usize,
    /// What to say of a jump of the loss that doesn't end the run.
    pub(crate) spike: Option<String>,
}

/// What is told of a look beside its loss.
#[derive(Default)]
pub(crate) struct Look {
    pub(crate) bits_per_byte: Option<f64>,
    pub(crate) sample: Option<String>,
}

/// When a run looks and when it ends.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) num_steps: usize,
    /// Steps between two looks.
    pub(crate) validate_every: usize,
    /// Looks without a better loss.
    pub(crate) patience: usize,
    /// Of all sittings.
    pub(crate) time_budget: Option<Duration>,
}

pub(crate) struct Sitting<'a, T> {
    pub(crate) training: T,
    stage: &'a str,
    limits: Limits,
    checkpoints: Checkpoints<'a>,
    fingerprint: String,
    metrics: Metrics,
    progress: &'a dyn Progress,
    start: Instant,
    /// Seconds of the sittings before.
    before: f64,
}

impl<'a, T: Training> Sitting<'a, T> {
    pub(crate) fn new(
        mut training: T,
        stage: &'a str,
        limits: Limits,
        (checkpoints, fingerprint): (Checkpoints<'a>, String),
        (metrics, progress): (Metrics, &'a dyn Progress),
    ) -> Self {
        let before = *training.seconds();
        let start = Instant::now();
        Self { training, stage, limits, checkpoints, fingerprint, metrics, progress, start, before }
    }

    /// Goes on to the end; why, if it isn't the plan's. The last state has been looked at and saved.
    pub(crate) fn run(&mut self) -> Result<Option<String>> {
        let total = Some(self.limits.num_steps as u64);
        self.progress.event(Event::Start { stage: self.stage, total, unit: Unit::Steps });
        if self.training.curve().validation.is_empty() {
            self.look()?;
        }
        let stopped_early = self.steps()?;
        let step = self.training.step();
        if self.training.curve().validation.last().is_none_or(|last| last.step != step) {
            self.look()?;
        }
        self.save()?;
        Ok(stopped_early)
    }

    fn seconds(&self) -> f64 {
        self.before + self.start.elapsed().as_secs_f64()
    }

    fn steps(&mut self) -> Result<Option<String>> {
        let Limits { num_steps, validate_every, .. } = self.limits;
        let mut saved = Instant::now();
        while self.training.step() < num_steps {
            *self.training.seconds() = self.seconds();
            if self.progress.cancelled() {
                self.save()?;
                return Err(Error::Cancelled { step: self.training.step() });
            }
            if let Some(reason) = self.reason_to_stop() {
                return Ok(Some(reason));
            }
            self.step()?;
            let step = self.training.step();
            if step.is_multiple_of(validate_every.max(1)) || step == num_steps {
                self.look()?;
            }
            self.progress.event(Event::Advance { stage: self.stage, done: step as u64 });
            if saved.elapsed().as_secs() >= self.checkpoints.every_seconds {
                self.save()?;
                saved = Instant::now();
            }
        }
        Ok(None)
    }

    /// One update, and what is told of it.
    fn step(&mut self) -> Result<()> {
        let began = Instant::now();
        let done = match self.training.update() {
            // The state before the bad step is worth keeping.
            Err(error @ (Error::Spike { .. } | Error::NotFinite { .. } | Error::Gradient { .. })) => {
                self.save()?;
                return Err(error);
            }
            done => done?,
        };
        let Done { loss, lr, gradient_norm, tokens, learned_tokens, spike } = done;
        if let Some(text) = spike {
            self.progress.event(Event::Note { stage: self.stage, text: &text });
        }
        let tokens_per_s = tokens as f64 / began.elapsed().as_secs_f64();
        let memory = memory_mib();
        self.metrics.write(&Metric {
            step: self.training.step(),
            loss: Some(loss),
            lr: Some(lr),
            gradient_norm: Some(gradient_norm),
            tokens: Some(tokens),
            learned_tokens: Some(learned_tokens),
            tokens_per_s: Some(tokens_per_s),
            seconds: self.seconds(),
            memory_mib: memory.map(|(now, _)| now),
            ..Metric::default()
        })?;
        let validation = self.training.curve().validation.last().map_or(f64::NAN, |last| last.loss);
        let memory = memory.map_or_else(String::new, |(now, _)| format!(", {now} MiB"));
        let text = format!("loss {loss:.3}, validation {validation:.3}, {tokens_per_s:.0} tok/s{memory}");
        self.progress.event(Event::Status { stage: self.stage, text: &text });
        Ok(())
    }

    fn save(&mut self) -> Result<()> {
        *self.training.seconds() = self.seconds();
        let step = self.training.step();
        let training = &mut self.training;
        self.checkpoints.save(&self.fingerprint, step, |folder| training.write(folder))
    }

    fn look(&mut self) -> Result<()> {
        let Look { bits_per_byte, sample } = self.training.look()?;
        self.write_look(bits_per_byte)?;
        let (step, curve) = (self.training.step(), self.training.curve());
        let loss = curve.validation.last().map_or(f64::NAN, |last| last.loss);
        let train = curve.train.last().map_or_else(String::new, |last| format!("loss {:.3}, ", last.loss));
        let bits = bits_per_byte.map_or_else(String::new, |bits| format!(", {bits:.3} bits a byte"));
        let sample = sample.map_or_else(String::new, |sample| format!("\n  {sample}"));
        let text = format!("step {step}: {train}validation {loss:.3}{bits}{sample}");
        self.progress.event(Event::Note { stage: self.stage, text: &text });
        Ok(())
    }

    /// The last look at the validation split as a line of figures.
    pub(crate) fn write_look(&mut self, bits_per_byte: Option<f64>) -> Result<()> {
        self.metrics.write(&Metric {
            step: self.training.step(),
            validation_loss: self.training.curve().validation.last().map(|last| last.loss),
            bits_per_byte,
            seconds: self.seconds(),
            memory_mib: memory_mib().map(|(now, _)| now),
            ..Metric::default()
        })
    }

    /// Overfitting or the end of the time budget.
    fn reason_to_stop(&mut self) -> Option<String> {
        let Limits { num_steps, patience, time_budget, .. } = self.limits;
        let curve = self.training.curve();
        let best = curve.best()?;
        let since = curve.validation.iter().filter(|entry| entry.step > best.step).count();
        if since >= patience {
            let (step, loss) = (best.step, best.loss);
            return Some(format!(
                "validation loss was lowest at step {step} ({loss:.3}) and rose in {since} later looks: overfitting"
            ));
        }
        let (budget, step) = (time_budget?.as_secs_f64(), self.training.step());
        (*self.training.seconds() > budget)
            .then(|| format!("the time budget of {budget:.0} s ended at step {step} of {num_steps}"))
    }
}
