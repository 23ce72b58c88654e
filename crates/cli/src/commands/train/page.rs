//! A run's curves and facts as one HTML page.

use std::path::Path;

use anyhow::Result;
use hearth_eval::compare::{Fact, LossPoint, TrainingCurve};
use hearth_eval::report;
use hearth_train::{Loss, Output};

use super::recipe::Recipe;

pub(super) fn write(path: &Path, name: &str, recipe: &Recipe, output: &Output, skipped: usize) -> Result<()> {
    let points = |losses: &[Loss]| {
        losses.iter().map(|entry| LossPoint { step: entry.step as u64, loss: entry.loss }).collect()
    };
    let adapter = &output.adapter.config;
    let kind = [("rsLoRA", adapter.use_rslora), ("DoRA", adapter.use_dora)];
    let kind: Vec<&str> = kind.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect();
    let kind = [&["LoRA"], kind.as_slice()].concat().join(", ");
    let files: Vec<String> = recipe.data.iter().map(|file| file.display().to_string()).collect();
    let mut facts = vec![
        Fact::new("Model", recipe.model.clone()),
        Fact::new("Data", files.join(", ")),
        Fact::new(
            "Adapter",
            format!(
                "{kind}, rank {}, alpha {}, {}",
                adapter.r,
                adapter.lora_alpha,
                adapter.target_modules.join(", ")
            ),
        ),
        Fact::new("Trained parameters", output.adapter.num_params().to_string()),
        Fact::new("Steps", output.steps.to_string()),
        Fact::new("Tokens", output.tokens.to_string()),
        Fact::new("Speed", format!("{:.0} tokens/s", output.tokens as f64 / output.seconds.max(1e-9))),
        Fact::new("Peak learning rate", recipe.lr.to_string()),
        Fact::new("Seed", recipe.seed.to_string()),
    ];
    if skipped > 0 {
        facts.push(Fact::new("Rows left out", skipped.to_string()));
    }
    if let Some(reason) = &output.stopped_early {
        facts.push(Fact::new("Ended early", reason.clone()));
    }
    let curve = TrainingCurve {
        steps: output.steps as u64,
        train_loss: points(&output.curve.train),
        validation_loss: points(&output.curve.validation),
        facts,
    };
    Ok(report::write_training(path, name, &output.curve.verdict_text(), &curve)?)
}
