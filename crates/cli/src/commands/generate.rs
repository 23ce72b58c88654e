//! `hearth generate`: one prompt to one answer, or several, or one of a given shape.

use std::io::Write;

use anyhow::{Context as _, Result, bail};
use hearth_engine::beam::{self, Beam, BeamConfig};
use hearth_engine::{Completion, Constraint, Event, Finish, Request, Stream, score};
use hearth_model::Model;
use hearth_tokenizer::{Conversation, Message, TokenId};
use serde_json::{Value, json};

use super::Context;
use super::tokenizer::read_text;
use crate::args::{GenerateArgs, Overflow, ShapeArgs};

pub(super) fn run(context: &Context, args: &GenerateArgs) -> Result<()> {
    let constraint = constraint(&args.shape)?;
    let prompt = prompt(args)?;
    let (_, model) = context.machine.model_with(&args.model, args.kv, &context.terminal)?;
    let model = context.machine.adapted(model, args.adapter.as_deref())?;
    let (prompt_ids, dropped) = fitting(context, args, &model, prompt_ids(&model, &prompt, args.raw)?)?;
    if let Some(width) = args.beams {
        return follow_beams(context, args, &model, &prompt_ids, width);
    }
    let best_of = args.best_of.unwrap_or(args.n);
    if best_of < args.n {
        bail!("`--best-of` {best_of} is less than the number of answers to show, `-n` {}", args.n);
    }
    let max_context = prompt_ids.len() + args.max_tokens + 1;
    let engine =
        context.machine.guessing_engine(&model, max_context, &args.speculation, &context.terminal)?;
    let stop_texts = model.chat.stop_texts().iter().map(|&stop| stop.to_owned());
    let request = Request {
        sampling: args.sampling.sampling(),
        stop: args.stop.iter().cloned().chain(stop_texts).collect(),
        constraint,
        logprobs: (context.json || best_of > args.n).then_some(0),
        ..Request::greedy(prompt_ids.clone(), args.max_tokens, model.chat.stops().to_vec())
    };
    let stream = engine.submit_choices(request, best_of)?;
    if best_of == 1 && !context.json {
        return show(&stream);
    }
    let mut answers = stream.collect_choices()?;
    if best_of > args.n {
        answers.sort_by(|a, b| b.mean_logprob().total_cmp(&a.mean_logprob()));
        answers.truncate(args.n);
    }
    if !context.json {
        for answer in &answers {
            context.print(&answer.text);
        }
        return Ok(());
    }
    let mut line = answer_json(&answers[0]);
    line["prompt_ids"] = json!(prompt_ids);
    line["dropped_prompt_tokens"] = json!(dropped);
    if answers.len() > 1 {
        line["choices"] = answers.iter().map(answer_json).collect();
    }
    context.print_json(&line);
    Ok(())
}

/// A prompt that fits, and how many of its tokens were dropped for that.
fn fitting(
    context: &Context,
    args: &GenerateArgs,
    model: &Model,
    ids: Vec<TokenId>,
) -> Result<(Vec<TokenId>, usize)> {
    let max_context = model.config().max_seq_len;
    let Some(room) = max_context.checked_sub(args.max_tokens + 1).filter(|&room| room > 0) else {
        bail!("`--max-tokens` {} leaves no room in the model's context of {max_context}", args.max_tokens);
    };
    if ids.len() <= room || args.overflow == Overflow::Error {
        return Ok((ids, 0));
    }
    let (first, dropped) = (room / 4, ids.len() - room);
    let message = format!(
        "dropped {dropped} of {} prompt tokens: {room} fit, {first} of the beginning are kept",
        ids.len()
    );
    context.terminal.say(&message);
    Ok(([&ids[..first], &ids[first + dropped..]].concat(), dropped))
}

fn prompt(args: &GenerateArgs) -> Result<String> {
    let prompt = match (&args.prompt, &args.prompt_file) {
        (Some(prompt), _) => prompt.clone(),
        (None, Some(path)) => read_text((path.as_os_str() != "-").then_some(path))?,
        (None, None) => bail!("`--prompt` or `--prompt-file` is missing"),
    };
    if prompt.is_empty() {
        bail!("the prompt is empty\nhint: `--prompt TEXT` or `--prompt-file FILE` says what to answer");
    }
    Ok(prompt)
}

fn prompt_ids(model: &Model, prompt: &str, is_raw: bool) -> Result<Vec<TokenId>> {
    if is_raw {
        let tokenizer = model.tokenizer();
        let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
        return Ok(bos.into_iter().chain(tokenizer.encode(prompt)).collect());
    }
    let messages = vec![Message::user(prompt)];
    Ok(model.chat.prompt(&Conversation { messages, ..Conversation::default() })?)
}

fn constraint(args: &ShapeArgs) -> Result<Option<Constraint>> {
    Ok(match args {
        ShapeArgs { json_schema: Some(schema), .. } => Some(Constraint::JsonSchema(text_or_file(schema)?)),
        ShapeArgs { regex: Some(regex), .. } => Some(Constraint::Regex(regex.clone())),
        ShapeArgs { grammar: Some(grammar), .. } => Some(Constraint::Grammar(text_or_file(grammar)?)),
        _ => None,
    })
}

/// `@FILE` is what the file holds.
fn text_or_file(text: &str) -> Result<String> {
    match text.strip_prefix('@') {
        Some(path) => {
            let text = fs_err::read_to_string(path);
            text.with_context(|| format!("`{path}` can't be read (`@` names a file)"))
        }
        None => Ok(text.to_owned()),
    }
}

fn answer_json(answer: &Completion) -> Value {
    let ids: Vec<TokenId> = answer.tokens.iter().map(|token| token.id).collect();
    let logprobs: Vec<Option<f32>> = answer.tokens.iter().map(|token| token.logprob).collect();
    json!({ "text": answer.text, "ids": ids, "logprobs": logprobs, "finish": finish_name(answer.finish) })
}

pub(super) fn finish_name(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
    }
}

/// Writes the answer as it comes.
fn show(stream: &Stream) -> Result<()> {
    let mut out = std::io::stdout();
    while let Some(event) = stream.next_event() {
        match event {
            Event::Token(token) => write!(out, "{}", token.text)?,
            Event::Done { text, .. } => writeln!(out, "{text}")?,
            Event::Failed(error) => return Err(error.into()),
        }
        out.flush()?;
    }
    Ok(())
}

fn follow_beams(
    context: &Context,
    args: &GenerateArgs,
    model: &Model,
    prompt_ids: &[TokenId],
    width: usize,
) -> Result<()> {
    let config = BeamConfig {
        width,
        length_penalty: args.length_penalty,
        max_tokens: args.max_tokens,
        max_context: prompt_ids.len() + args.max_tokens + 1,
        stop_ids: model.chat.stops().to_vec(),
    };
    let pool = &context.machine.pool;
    let beams = beam::search(&model.decoder, pool, prompt_ids, &config)?;
    let text = |beam: &Beam| model.tokenizer().decode(&beam.tokens);
    if !context.json {
        beams.iter().take(1).for_each(|beam| context.print(&text(beam)));
        return Ok(());
    }
    let beam_json = |beam: &Beam| -> Result<Value> {
        let all = [prompt_ids, &beam.tokens].concat();
        let logprobs = score::log_probs(&model.decoder, pool, &all, prompt_ids.len() - 1)?;
        Ok(json!({
            "text": text(beam), "ids": beam.tokens, "logprobs": logprobs, "score": beam.score,
            "finish": finish_name(beam.finish),
        }))
    };
    let beams = beams.iter().map(beam_json).collect::<Result<Vec<Value>>>()?;
    let mut line = beams.first().cloned().unwrap_or_default();
    line["prompt_ids"] = json!(prompt_ids);
    line["choices"] = beams.into();
    context.print_json(&line);
    Ok(())
}
