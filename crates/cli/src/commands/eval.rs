//! `hearth eval perplexity`.

use anyhow::{Context as _, Result, bail};
use hearth_artifacts::progress::{Event, Progress, Unit};
use hearth_engine::score;
use serde_json::json;

use super::Context;
use crate::args::{EvalCommand, PerplexityArgs};

pub(super) fn run(context: &Context, command: &EvalCommand) -> Result<()> {
    let EvalCommand::Perplexity(args) = command;
    perplexity(context, args)
}

fn perplexity(context: &Context, args: &PerplexityArgs) -> Result<()> {
    let (_, model) = context.machine.model(&args.model, &context.terminal)?;
    let max = model.config().max_seq_len;
    if args.window < 4 || args.window > max {
        bail!("`--window` {} must be 4 to {max}, the model's context", args.window);
    }
    let text = String::from_utf8(fs_err::read(&args.text)?)
        .with_context(|| format!("`{}` isn't UTF-8", args.text.display()))?;
    let progress = &context.terminal;
    let mut started = false;
    let result = score::perplexity(
        &model.decoder,
        model.tokenizer(),
        &context.machine.pool,
        &text,
        args.window,
        |done, total| {
            if !started {
                progress.event(Event::Start {
                    stage: "perplexity",
                    total: Some(total as u64),
                    unit: Unit::Items,
                });
                started = true;
            }
            progress.event(Event::Advance { stage: "perplexity", done: done as u64 });
        },
    )?;
    let Some(result) = result else {
        bail!("`{}` has fewer tokens than one window of {}", args.text.display(), args.window);
    };
    progress.event(Event::Finish { stage: "perplexity", summary: "done" });
    if context.json {
        context.print_json(&json!({ "perplexity": result.perplexity, "tokens": result.tokens }));
    } else {
        context.print(&format!("perplexity {:.4} over {} tokens", result.perplexity, result.tokens));
    }
    Ok(())
}
