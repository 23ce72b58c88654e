//! `hearth eval perplexity|needle|logprobs`.

use anyhow::{Context as _, Result, bail};
use hearth_artifacts::progress::{Event, Progress, Unit};
use hearth_engine::{Request, sampling, score};
use hearth_eval::needle::Needle;
use hearth_model::Model;
use hearth_tokenizer::{Conversation, Message, TokenId};
use serde::Deserialize;
use serde_json::json;

use super::Context;
use crate::args::{EvalCommand, LogprobsArgs, NeedleArgs, PerplexityArgs};

pub(super) fn run(context: &Context, command: &EvalCommand) -> Result<()> {
    match command {
        EvalCommand::Perplexity(args) => perplexity(context, args),
        EvalCommand::Needle(args) => needle(context, args),
        EvalCommand::Logprobs(args) => logprobs(context, args),
    }
}

fn perplexity(context: &Context, args: &PerplexityArgs) -> Result<()> {
    let (_, model) = context.machine.model_with(&args.model, args.kv, &context.terminal)?;
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

/// Hides one sentence in a text and asks for it, at every length and depth.
fn needle(context: &Context, args: &NeedleArgs) -> Result<()> {
    let (local, model) = context.machine.model_with(&args.model, args.kv, &context.terminal)?;
    if let Some(depth) = args.depths.iter().find(|depth| !(0.0..=1.0).contains(*depth)) {
        bail!("`--depths` {depth} must be 0 to 1");
    }
    let text = fs_err::read_to_string(&args.text)?;
    let tokenizer = model.tokenizer();
    let haystack = tokenizer.encode(&text);
    if haystack.is_empty() {
        bail!("`{}` is empty", args.text.display());
    }
    let longest = args.lengths.iter().copied().max().unwrap_or(0);
    let engine = context.machine.engine(&model, longest + ROOM);
    let (mut found, mut asked) = (0, 0);
    for &length in &args.lengths {
        for &depth in &args.depths {
            let mut found_here = 0;
            for index in 0..args.needles {
                let needle = Needle::new(index);
                let hay = length.saturating_sub(ROOM);
                let before = (hay as f64 * depth) as usize;
                let mut ids = haystack.iter().copied().cycle();
                let part = |ids: Vec<u32>| tokenizer.decode(&ids);
                let (start, end) =
                    (part(ids.by_ref().take(before).collect()), part(ids.take(hay - before).collect()));
                let messages = vec![Message::user(needle.prompt(&start, &end))];
                let prompt = model.chat.prompt(&Conversation { messages, ..Conversation::default() })?;
                let stops = model.chat.stops().to_vec();
                let answer = engine.generate(Request::greedy(prompt, 24, stops))?;
                found_here += usize::from(needle.is_in(&answer.text));
            }
            (found, asked) = (found + found_here, asked + args.needles);
            if context.json {
                context.print_json(&json!({
                    "what": "needle", "model": local.name, "length": length, "depth": depth,
                    "found": found_here, "needles": args.needles,
                }));
            } else {
                context.print(&format!(
                    "{length:>6} tokens, depth {depth:>4}: {found_here} of {} found",
                    args.needles
                ));
            }
        }
    }
    if !context.json {
        context.print(&format!("found {found} of {asked}"));
    }
    Ok(())
}

/// Tokens of a prompt that aren't haystack: the conversation's frame, the sentence, the question, the answer.
const ROOM: usize = 128;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    context: String,
    continuation: String,
}

/// Ids of both together, and how many of them are the context's: the cut of lm-evaluation-harness. Spaces at the context's
/// end belong to the continuation, and no token that begins a sequence is added.
fn pair_ids(model: &Model, pair: &Pair) -> (Vec<TokenId>, usize) {
    let context = pair.context.trim_end();
    let spaces = &pair.context[context.len()..];
    let whole = format!("{context}{spaces}{}", pair.continuation);
    (model.tokenizer().encode(&whole), model.tokenizer().encode(context).len())
}

/// What a server's `echo` with `logprobs` says, without the server: to the bit.
fn logprobs(context: &Context, args: &LogprobsArgs) -> Result<()> {
    let (_, model) = context.machine.model_with(&args.model, args.kv, &context.terminal)?;
    let text = fs_err::read_to_string(&args.file)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    for (index, line) in lines {
        let at = || format!("line {} of `{}`", index + 1, args.file.display());
        let pair: Pair = serde_json::from_str(line).with_context(at)?;
        let (ids, from) = pair_ids(&model, &pair);
        if from == 0 || from >= ids.len() {
            bail!("{}: context and continuation must have a token each", at());
        }
        let (mut scored, mut is_greedy) = (Vec::new(), true);
        let pool = &context.machine.pool;
        score::each_row(&model.decoder, pool, &ids[..ids.len() - 1], from - 1, |i, logits| {
            scored.push(f64::from(score::log_prob(logits, ids[i + 1])));
            is_greedy &= sampling::top_logprobs(logits, 1).first().is_some_and(|best| best.0 == ids[i + 1]);
        })
        .with_context(at)?;
        let sum: f64 = scored.iter().sum();
        if context.json {
            context.print_json(&json!({ "logprob": sum, "is_greedy": is_greedy, "logprobs": scored }));
        } else {
            context.print(&format!("{sum:>10.4}  {:>4} tokens  {:?}", scored.len(), pair.continuation));
        }
    }
    Ok(())
}
