//! Conversations by a chat template, for `golden/published_templates.py`: cases come in as lines of JSON, each with
//! `template`, `conversation`, `bos`, `eos` and the control tokens `special`; a line goes out for each.
//!
//! A line holds the prompt and the whole conversation as text, both as their ids spell them, and what the mask marks;
//! in place of what is refused stands the reason.

#![expect(clippy::print_stdout, reason = "a report for a program")]

use std::io::BufRead;
use std::sync::Arc;

use hearth_tokenizer::{ChatFormat, Conversation, Example, Kind, Result, TokenKind, Tokenizer, Vocabulary};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(serde::Deserialize)]
struct Case {
    template: String,
    conversation: Conversation,
    bos: String,
    eos: String,
    special: Vec<String>,
}

fn main() -> Result<(), Failure> {
    for line in std::io::stdin().lock().lines() {
        let case: Case = serde_json::from_str(&line?)?;
        println!("{}", answer(&case));
    }
    Ok(())
}

fn answer(case: &Case) -> Value {
    let format = match tokenizer(case).and_then(|tokenizer| ChatFormat::new(tokenizer, Some(&case.template)))
    {
        Ok(format) => format,
        Err(error) => return json!({"refused": reason(&error)}),
    };
    let spell = |ids: &[u32]| format.tokenizer().decode_special(ids);
    let stops: Vec<String> = format.stops().iter().map(|id| spell(&[*id])).collect();
    json!({
        "prompt": found(format.prompt_text(&case.conversation), Value::from),
        "prompt_ids": found(format.prompt(&case.conversation), |ids| spell(&ids).into()),
        "text": found(format.conversation_text(&case.conversation), Value::from),
        "is_whole": format.training(&case.conversation).is_ok(),
        "training": found(format.trainings(&case.conversation), |examples| {
            let show = |example: &Example| json!({"ids": spell(&example.ids), "learned": learned(example, &spell)});
            examples.iter().map(show).collect()
        }),
        "stops": stops,
    })
}

fn found<T>(result: Result<T>, show: impl Fn(T) -> Value) -> Value {
    match result {
        Ok(value) => json!({"ok": show(value)}),
        Err(error) => json!({"refused": reason(&error)}),
    }
}

fn reason(error: &dyn std::error::Error) -> String {
    let source = error.source().map_or(String::new(), |source| format!(": {source}"));
    format!("{error}{source}")
}

fn learned(example: &Example, spell: &impl Fn(&[u32]) -> String) -> Vec<String> {
    let marked: Vec<(u32, bool)> = example.ids.iter().copied().zip(example.mask.iter().copied()).collect();
    let runs = marked.chunk_by(|left, right| left.1 == right.1).filter(|run| run[0].1);
    runs.map(|run| spell(&run.iter().map(|(id, _)| *id).collect::<Vec<_>>())).collect()
}

/// All bytes, and the control tokens of the case.
fn tokenizer(case: &Case) -> Result<Arc<Tokenizer>> {
    let mut tokens: Vec<String> = (0x21..0x17f).filter_map(char::from_u32).map(String::from).collect();
    let mut kinds = vec![TokenKind::Normal; tokens.len()];
    for token in [&case.bos, &case.eos].into_iter().chain(&case.special) {
        if !token.is_empty() && !tokens.contains(token) {
            tokens.push(token.clone());
            kinds.push(TokenKind::Control);
        }
    }
    let id = |name: &str| tokens.iter().position(|token| token == name).map(|id| id as u32);
    let (bos, eos) = (id(&case.bos), id(&case.eos));
    let mut vocabulary = Vocabulary::new(Kind::ByteBpe, tokens);
    (vocabulary.token_kinds, vocabulary.bos, vocabulary.eos) = (kinds, bos, eos);
    Ok(Arc::new(Tokenizer::from_parts(vocabulary)?))
}
