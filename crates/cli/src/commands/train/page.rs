//! What the page of a fine-tuning run tells.

use std::path::Path;

use anyhow::Result;
use hearth_eval::compare::Fact;
use hearth_train::Output;

use super::recipe::Recipe;
use crate::training_page::Outcome;

pub(super) fn write(path: &Path, name: &str, recipe: &Recipe, output: &Output, skipped: usize) -> Result<()> {
    let outcome = Outcome {
        curve: &output.curve,
        steps: output.steps,
        tokens: output.tokens as u64,
        seconds: output.seconds,
        stopped_early: output.stopped_early.as_ref(),
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
        outcome.speed(),
        Fact::new("Peak learning rate", recipe.lr.to_string()),
        Fact::new("Seed", recipe.seed.to_string()),
    ];
    if skipped > 0 {
        facts.push(Fact::new("Rows left out", skipped.to_string()));
    }
    outcome.write_page(path, name, facts)
}
