//! `hearth generate`.

use std::io::Write;

use anyhow::Result;
use hearth_engine::{Event, Request, Sampling};
use hearth_tokenizer::{Conversation, Message, TokenId};
use serde_json::json;

use super::Context;
use crate::args::GenerateArgs;

pub(super) fn run(context: &Context, args: &GenerateArgs) -> Result<()> {
    let (_, model) = context.machine.model(&args.model, &context.terminal)?;
    let prompt_ids = if args.raw {
        let tokenizer = model.tokenizer();
        let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
        bos.into_iter().chain(tokenizer.encode(&args.prompt)).collect()
    } else {
        let messages = vec![Message::user(&args.prompt)];
        model.chat.prompt(&Conversation { messages, ..Conversation::default() })?
    };
    let engine = context.machine.engine(&model, prompt_ids.len() + args.max_tokens + 1);
    let stream = engine.submit(Request {
        prompt: prompt_ids.clone(),
        adapter: None,
        max_tokens: args.max_tokens,
        sampling: Sampling {
            temperature: args.temperature,
            top_p: args.top_p,
            seed: args.seed,
            ..Sampling::greedy()
        },
        stop_ids: model.chat.stops().to_vec(),
        stop: model.chat.stop_texts().iter().map(|&stop| stop.to_owned()).collect(),
        logprobs: context.json.then_some(0),
        constraint: None,
    })?;
    if context.json {
        let answer = stream.collect()?;
        let ids: Vec<TokenId> = answer.tokens.iter().map(|token| token.id).collect();
        let logprobs: Vec<Option<f32>> = answer.tokens.iter().map(|token| token.logprob).collect();
        context.print_json(
            &json!({ "text": answer.text, "ids": ids, "prompt_ids": prompt_ids, "logprobs": logprobs }),
        );
        return Ok(());
    }
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
