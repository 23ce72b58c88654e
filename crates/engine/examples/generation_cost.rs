//! What a constraint costs and what guessing saves on a real model, with a check that guessing changed no bit.
//!
//! In: MODEL [DRAFT]. The text is this crate's own documentation. Out: a line a way, tokens a second of decoding
//! (prompt apart), medians of alternating runs.

#![expect(clippy::print_stdout, reason = "an example prints its results")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use hearth_engine::{
    Completion, Constraint, Engine, EngineConfig, Event, Request, Sampling, Speculation, Stream,
};
use hearth_kernels::pool::Pool;
use hearth_model::Model;
use hearth_tokenizer::{Conversation, Message};

const CONFIG: EngineConfig =
    EngineConfig { max_batch: 4, prefill_chunk: 256, prefix_cache_bytes: 0, ..EngineConfig::new(4096) };
const NUM_PAIRS: usize = 11;
const TEXT: &str = include_str!("../../../ARCHITECTURE.md");
const SCHEMA: &str = r#"{"type": "object", "properties": {
    "title": {"type": "string"}, "summary": {"type": "string"}, "year": {"type": "integer"},
    "people": {"type": "array", "items": {"type": "object", "properties": {
        "name": {"type": "string"}, "role": {"enum": ["author", "reader", "maintainer"]}},
        "required": ["name", "role"], "additionalProperties": false}}},
    "required": ["title", "summary", "year", "people"], "additionalProperties": false}"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let pool = Arc::new(Pool::new(Pool::default_threads()));
    let open = |path: String| Model::open(Path::new(&path), &pool).map(Arc::new);
    let model = open(args.next().ok_or("which model?")?)?;
    let draft = args.next().map(open).transpose()?;
    let start = |speculation| Engine::start_with(Arc::clone(&model), Arc::clone(&pool), CONFIG, speculation);
    let plain = start(Speculation::Off)?;
    constraints(&plain)?;
    let mut ways = vec![];
    for max_draft in [3, 8, 16] {
        ways.push((format!("prompt lookup {max_draft}"), start(Speculation::PromptLookup { max_draft })?));
    }
    if let Some(draft) = draft {
        for max_draft in [3, 8] {
            let model = Arc::clone(&draft);
            ways.push((format!("draft model {max_draft}"), start(Speculation::Draft { model, max_draft })?));
        }
    }
    for (task, text) in tasks() {
        for temperature in [0.0, 0.7] {
            let mut request = request(&model, &text, 300)?;
            request.sampling = Sampling { temperature, seed: 1, ..Sampling::greedy() };
            compare(&format!("{task}, temperature {temperature}"), &plain, &ways, &request)?;
        }
    }
    Ok(())
}

fn tasks() -> [(&'static str, String); 3] {
    let section = |from: &str, bytes: usize| {
        let start = TEXT.find(from).unwrap_or_default();
        TEXT[start..].chars().take(bytes).collect::<String>()
    };
    [
        ("summary", format!("{}\n\nSummarise this text.", section("## How data flows", 3000))),
        ("copy", format!("Repeat this text word by word:\n\n{}", section("## Decisions", 1200))),
        ("free", "Write a short story about a kiln.".into()),
    ]
}

fn request(model: &Model, text: &str, max_tokens: usize) -> Result<Request, Box<dyn std::error::Error>> {
    let conversation = Conversation { messages: vec![Message::user(text)], ..Conversation::default() };
    let prompt = model.chat.prompt(&conversation)?;
    Ok(Request { logprobs: Some(0), ..Request::greedy(prompt, max_tokens, model.chat.stops().to_vec()) })
}

/// The answer, and tokens a second from the first token on.
fn run(engine: &Engine, request: &Request) -> Result<(Completion, f64), hearth_engine::Error> {
    let stream: Stream = engine.submit(request.clone())?;
    let (mut text, mut tokens) = (String::new(), Vec::new());
    let mut first = None;
    loop {
        match stream.next_event().unwrap_or(Event::Failed(hearth_engine::Error::Stopped)) {
            Event::Token(token) => {
                first.get_or_insert_with(Instant::now);
                text.push_str(&token.text);
                tokens.push(token);
            }
            Event::Done { finish, usage, text: rest } => {
                let seconds = first.map_or(0.0, |first| first.elapsed().as_secs_f64());
                let speed = (tokens.len().saturating_sub(1)) as f64 / seconds;
                return Ok((Completion { text: text + &rest, tokens, finish, usage }, speed));
            }
            Event::Failed(error) => return Err(error),
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The same tokens with and without a grammar that allows everything, then shapes that steer.
fn constraints(engine: &Engine) -> Result<(), Box<dyn std::error::Error>> {
    let free = request(engine.model(), "Write a short story about a kiln.", 200)?;
    let any = Request { constraint: Some(Constraint::Regex("(?s:.*)".into())), ..free.clone() };
    let schema = Request {
        constraint: Some(Constraint::JsonSchema(SCHEMA.into())),
        ..request(engine.model(), "Describe a book about kilns as JSON: title, summary, year, people.", 200)?
    };
    let unbound = Request { constraint: None, ..schema.clone() };
    let start = Instant::now();
    engine.generate(Request { max_tokens: 1, ..schema.clone() })?;
    println!("vocabulary and schema read in {:.3} s", start.elapsed().as_secs_f64());
    let start = Instant::now();
    drop(engine.submit(Request { max_tokens: 0, ..schema.clone() })?);
    println!("schema read again in {:.4} s", start.elapsed().as_secs_f64());
    let (free_ids, any_ids) = (run(engine, &free)?.0, run(engine, &any)?.0);
    assert_eq!(free_ids.tokens, any_ids.tokens, "a grammar that allows everything changes nothing");
    cost(engine, "a grammar of everything", [&free, &any])?;
    cost(engine, "a JSON schema", [&unbound, &schema])?;
    println!("{}", run(engine, &schema)?.0.text);
    Ok(())
}

/// Pairs of runs, one after the other and in turns the other way round: what the second request costs beside the first.
fn cost(engine: &Engine, name: &str, [free, bound]: [&Request; 2]) -> Result<(), hearth_engine::Error> {
    let (mut speeds, mut costs) = (Vec::new(), Vec::new());
    for round in 0..NUM_PAIRS {
        let (free, bound) = if round % 2 == 0 {
            let free = run(engine, free)?.1;
            (free, run(engine, bound)?.1)
        } else {
            let bound = run(engine, bound)?.1;
            (run(engine, free)?.1, bound)
        };
        speeds.push(free);
        costs.push(100.0 * (1.0 - bound / free));
    }
    println!("{:.1} tok/s; {name} costs {:.1} %, median of {NUM_PAIRS} pairs", median(speeds), median(costs));
    Ok(())
}

fn compare(
    task: &str,
    plain: &Engine,
    ways: &[(String, Engine)],
    request: &Request,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut speeds = vec![Vec::new(); ways.len() + 1];
    for _ in 0..3 {
        let (expected, speed) = run(plain, request)?;
        speeds[0].push(speed);
        for ((name, engine), speeds) in ways.iter().zip(&mut speeds[1..]) {
            let (found, speed) = run(engine, request)?;
            assert_eq!(found.tokens, expected.tokens, "{name} changed the answer");
            speeds.push(speed);
        }
    }
    let base = median(speeds.remove(0));
    println!("{task}: {base:.1} tok/s without guesses");
    for ((name, engine), speeds) in ways.iter().zip(speeds) {
        let computed = engine.computed();
        let (right, drafted) = (computed.accepted_tokens, computed.drafted_tokens);
        let speed = median(speeds);
        println!(
            "  {name}: {speed:.1} tok/s, {:.2} times; {right} of {drafted} guesses right so far",
            speed / base
        );
    }
    Ok(())
}
