//! `hearth bench infer|train|lora|serve|tokenizer`: tokens or megabytes a second on this machine.

use anyhow::{Result, bail};
use hearth_artifacts::progress::Silent;
use hearth_engine::bench::{Bench, Speed as GenerationSpeed};
use hearth_model::LoraConfig;
use hearth_tokenizer::Example;
use hearth_train::bench::{Shape, Speed};
use hearth_train::sft::{self, Input};
use hearth_train::{Checkpoints, Decay, OnSpike, Resume, SftConfig};
use serde_json::json;

use super::Context;
use crate::args::{BenchCommand, BenchShape, InferArgs, LoraArgs, TokenizerBenchArgs, TrainBenchArgs};

pub(super) fn run(context: &Context, command: &BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Infer(args) => infer(context, args),
        BenchCommand::Train(args) => train(context, args),
        BenchCommand::Lora(args) => lora(context, args),
        BenchCommand::Serve(args) => super::bench_serve::run(context, args),
        BenchCommand::Kb(args) => super::bench_kb::run(context, args),
        BenchCommand::Tokenizer(args) => tokenizer(context, args),
    }
}

fn infer(context: &Context, args: &InferArgs) -> Result<()> {
    let (local, model) = context.machine.model_with(&args.model, args.kv, &context.terminal)?;
    let (pool, kv) = (&context.machine.pool, model.decoder.kv);
    check_sizes(args, model.config().max_seq_len)?;
    for &depth in &args.depth {
        for &batch in &args.batch {
            let mut bench = Bench::new(&model.decoder, pool, batch, depth);
            // Warm: pages touched, threads awake.
            bench.decode(4);
            for (test, tokens) in [(format!("pp{}", args.pp), args.pp), (format!("tg{}", args.tg), args.tg)] {
                if tokens == 0 {
                    continue;
                }
                let run = |bench: &mut Bench<'_>| match test.starts_with("pp") {
                    true => bench.prefill(tokens),
                    false => bench.decode(tokens),
                };
                let speeds: Vec<GenerationSpeed> = (0..args.repeat).map(|_| run(&mut bench)).collect();
                let tokens_per_s = median(speeds.iter().map(GenerationSpeed::tokens_per_s).collect());
                let line = json!({
                    "what": "infer", "model": local.name, "test": test, "depth": depth, "batch": batch,
                    "threads": pool.threads(), "tokens_per_s": tokens_per_s, "peak_mib": peak_mib(),
                    "kv_type": kv.kv_type.name(), "sparse_pages": kv.sparse_pages,
                });
                if context.json {
                    context.print_json(&line);
                } else {
                    context.print(&format!(
                        "{:28} {test:>6}  depth {depth:>5}  batch {batch:>3}  {tokens_per_s:>8.1} tok/s",
                        local.name
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Refuses what would measure nothing, or something no model of this context does.
fn check_sizes(args: &InferArgs, max_context: usize) -> Result<()> {
    let InferArgs { pp, tg, .. } = *args;
    if pp == 0 && tg == 0 {
        bail!("`--pp 0 --tg 0` leaves nothing to measure\nhint: give one of them a number of tokens");
    }
    for (name, value) in
        [("--repeat", args.repeat)].into_iter().chain(args.batch.iter().map(|&b| ("--batch", b)))
    {
        if value == 0 {
            bail!("`{name}` is 0, at least 1 is needed");
        }
    }
    let (longest, deepest) = (pp.max(tg), args.depth.iter().copied().max().unwrap_or(0));
    if longest > max_context.saturating_sub(deepest) {
        bail!(
            "{longest} tokens at depth {deepest} are more than the {max_context} positions of this model\nhint: lower `--pp`, `--tg` or `--depth`"
        );
    }
    Ok(())
}

fn train(context: &Context, args: &TrainBenchArgs) -> Result<()> {
    let shape = match args.shape {
        BenchShape::Small => Shape::Small,
        BenchShape::Large => Shape::Large,
    };
    let speed = hearth_train::bench::run(shape, args.steps.into(), &context.machine.pool)?;
    let Speed { tokens_per_s, step_ms, first_loss, last_loss } = speed;
    if context.json {
        context.print_json(&json!({
            "what": "train", "shape": shape.name(), "threads": context.machine.pool.threads(),
            "tokens_per_s": tokens_per_s, "step_ms": step_ms, "peak_mib": peak_mib(),
            "first_loss": first_loss, "last_loss": last_loss,
        }));
    } else {
        context.print(&format!(
            "{:6} {tokens_per_s:>8.1} tok/s, {step_ms:.0} ms a step, loss {first_loss:.3} to {last_loss:.3}",
            shape.name()
        ));
    }
    Ok(())
}

/// Steps of 512 tokens, an eighth of which the assistant wrote: what fine-tuning on short answers looks like.
fn lora(context: &Context, args: &LoraArgs) -> Result<()> {
    let (local, model) = context.machine.model(&args.model, &context.terminal)?;
    let vocab_size = model.config().vocab_size;
    let example = |n: usize| Example {
        ids: (0..64).map(|i| ((n * 64 + i) * 7919 % vocab_size) as u32).collect(),
        mask: (0..64).map(|i| i >= 56).collect(),
        stops: vec![],
    };
    let train: Vec<Example> = (0..8 * args.steps).map(example).collect();
    let validation = vec![example(99_991)];
    let folder = context.machine.home.cache().join(format!("bench-lora-{}", std::process::id()));
    let input = Input {
        decoder: &model.decoder,
        train: &train,
        validation: &validation,
        places: &[],
        checkpoints: Checkpoints {
            folder: &folder.join("checkpoint"),
            every_seconds: u64::MAX,
            keep: 1,
            resume: Resume::IfSame,
        },
        metrics: None,
        on_spike: OnSpike::Note,
        time_budget: None,
    };
    let config = SftConfig {
        lora: LoraConfig {
            r: 8,
            lora_alpha: 16.0,
            target_modules: crate::up::TARGETS.map(str::to_owned).to_vec(),
            ..LoraConfig::default()
        },
        seed: 1,
        max_steps: args.steps,
        batch_tokens: 512,
        micro_batch_tokens: 512,
        recompute: false,
        lr: 1e-4,
        warmup_steps: 1,
        schedule: Decay::Cosine,
        weight_decay: 0.0,
        max_gradient_norm: 1.0,
        neftune_alpha: None,
        validate_every: args.steps,
        patience: 2,
    };
    let output = sft::run(&config, &input, &context.machine.pool, &Silent);
    // The checkpoint of a benchmark is of no use to anybody.
    let _ = fs_err::remove_dir_all(&folder);
    let output = output?;
    let tokens_per_s = output.tokens as f64 / output.seconds;
    let step_ms = output.seconds * 1e3 / output.steps as f64;
    if context.json {
        context.print_json(&json!({
            "what": "lora", "model": local.name, "tokens_per_s": tokens_per_s, "step_ms": step_ms, "peak_mib": peak_mib(),
            "first_loss": output.curve.train.first().map(|l| l.loss), "last_loss": output.curve.train.last().map(|l| l.loss),
        }));
    } else {
        context.print(&format!(
            "{:28} LoRA step of 512 tokens: {step_ms:.0} ms, {tokens_per_s:.1} tok/s",
            local.name
        ));
    }
    Ok(())
}

/// Cold is the first text of a tokenizer that was just opened.
fn tokenizer(context: &Context, args: &TokenizerBenchArgs) -> Result<()> {
    let tokenizer = super::tokenizer::open(context, &args.tokenizer)?;
    let text = super::tokenizer::read_text(Some(&args.text))?;
    if text.is_empty() {
        anyhow::bail!("`{}` is empty: there is nothing to measure", args.text.display());
    }
    let threads = context.machine.pool.threads();
    let run = || {
        let start = std::time::Instant::now();
        let ids = tokenizer.encode_on(&text, threads);
        (text.len() as f64 / 1e6 / start.elapsed().as_secs_f64(), ids.len())
    };
    let (cold, tokens) = run();
    let warm = median((0..args.repeat).map(|_| run().0).collect());
    if context.json {
        context.print_json(&json!({
            "what": "tokenizer", "tokenizer": args.tokenizer, "threads": threads, "bytes": text.len(),
            "mb_per_s": warm, "mb_per_s_cold": cold, "tokens": tokens,
        }));
    } else {
        context.print(&format!(
            "{:28} {threads} threads  {warm:>7.1} MB/s, cold {cold:>6.1} MB/s, {tokens} tokens",
            args.tokenizer
        ));
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The process's largest resident size so far, in MiB; `None` where the system doesn't tell.
pub(crate) fn peak_mib() -> Option<u64> {
    hearth_train::metrics::memory_mib().map(|(_, peak)| peak)
}
