//! `hearth imatrix`: which columns of a model's matrices count, over a text.

use anyhow::{Context as _, Result, bail};
use hearth_artifacts::progress::{Event, Progress, Unit};
use hearth_model::convert::importance::collect::{Collector, Origin};
use serde_json::json;

use super::Context;
use crate::args::ImatrixArgs;

const STAGE: &str = "imatrix";

pub(super) fn run(context: &Context, args: &ImatrixArgs) -> Result<()> {
    if args.output.exists() && !args.overwrite {
        bail!(
            "`{}` is there already\nhint: `--overwrite` replaces it, another `-o` leaves it alone",
            args.output.display()
        );
    }
    let text = String::from_utf8(fs_err::read(&args.text)?)
        .with_context(|| format!("`{}` isn't UTF-8", args.text.display()))?;
    let (_, model) = context.machine.model(&args.model, &context.terminal)?;
    let max = model.config().max_seq_len;
    if args.window < 16 || args.window > max {
        bail!("`--window` {} must be 16 to {max}, the model's context", args.window);
    }
    if args.chunks == Some(0) {
        bail!("`--chunks` 0 reads nothing; without it all of the text is read");
    }
    let tokenizer = model.tokenizer();
    let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    let mut ids: Vec<u32> = bos.into_iter().collect();
    ids.extend(tokenizer.encode(&text));
    let total = (ids.len() / args.window).min(args.chunks.unwrap_or(usize::MAX));
    if total == 0 {
        let (path, num_tokens) = (args.text.display(), ids.len());
        bail!("`{path}` has {num_tokens} tokens, less than one window of {}", args.window);
    }
    let progress = &context.terminal;
    progress.event(Event::Start { stage: STAGE, total: Some(total as u64), unit: Unit::Items });
    let mut collector = Collector::new(&model.decoder);
    for window in ids.chunks_exact_mut(args.window).take(total) {
        if progress.cancelled() {
            bail!("stopped after {} of {total} windows; nothing was written", collector.num_windows());
        }
        if let Some(bos) = bos {
            window[0] = bos;
        }
        collector.add(&context.machine.pool, window)?;
        progress.event(Event::Advance { stage: STAGE, done: collector.num_windows() as u64 });
    }
    let dataset = args.text.file_name().unwrap_or_default().to_string_lossy();
    collector.write(&args.output, Origin { dataset: &dataset, window: args.window })?;
    let (num_tensors, num_tokens) = (collector.num_tensors(), total * args.window);
    let summary = format!("{num_tensors} tensors over {num_tokens} tokens");
    progress.event(Event::Finish { stage: STAGE, summary: &summary });
    if context.json {
        context.print_json(&json!({
            "output": args.output, "tensors": num_tensors, "windows": total, "tokens": num_tokens,
        }));
    } else {
        context.print(&format!("{} is written", args.output.display()));
    }
    Ok(())
}
