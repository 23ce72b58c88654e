//! `hearth bench serve`: many clients at once against a server, and what each of them waits for.
//!
//! Each request is a streamed chat completion over a connection of its own thread. In a closed loop a client sends the
//! next request when the last one is answered; with a rate requests come at random times, whatever is under way, and
//! waiting for a free place counts. A token's time is that of the event that carries its text.

use std::io::{BufRead, BufReader};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::Context;
use crate::args::{BenchServeArgs, Prompts};
use crate::random::Random;

const WORDS: [&str; 24] = [
    "kiln", "clay", "glaze", "fire", "river", "stone", "garden", "window", "letter", "winter", "market",
    "bridge", "engine", "valley", "music", "copper", "thread", "harbour", "lantern", "orchard", "paper",
    "silver", "train", "weather",
];

/// What one request met.
#[derive(Debug, Default)]
struct Met {
    first_ms: Option<f64>,
    between_ms: Vec<f64>,
    total_ms: f64,
    prompt_tokens: u64,
    cached_tokens: u64,
    completion_tokens: u64,
}

pub(super) fn run(context: &Context, args: &BenchServeArgs) -> Result<()> {
    if args.requests == 0 || args.max_tokens == 0 {
        bail!("`--requests` and `--max-tokens` must be at least 1");
    }
    if let Some(rate) = args.rate.filter(|rate| !rate.is_finite() || *rate <= 0.0) {
        bail!("`--rate` must be above 0, not {rate}");
    }
    if !(args.timeout > 0.0 && args.timeout <= 86_400.0) {
        bail!("`--timeout` must be above 0 and at most 86400 seconds, not {}", args.timeout);
    }
    let client = Client::new(args)?;
    let (results, errors) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let one = |index: usize| match client.ask(args, index) {
        Ok(met) => results.lock().expect("no thread panics with it").push(met),
        Err(error) => errors.lock().expect("no thread panics with it").push(format!("{error:#}")),
    };
    let started = Instant::now();
    match args.rate {
        None => closed_loop(args, &one),
        Some(rate) => poisson(args, rate, &one),
    }
    let seconds = started.elapsed().as_secs_f64();
    let results = results.into_inner().expect("no thread panics with it");
    let errors = errors.into_inner().expect("no thread panics with it");
    if results.is_empty() {
        bail!("no request was answered: {}", errors.first().map_or("", String::as_str));
    }
    report(context, &client, args, &Outcome { results, errors, seconds });
    Ok(())
}

fn closed_loop(args: &BenchServeArgs, one: &(impl Fn(usize) + Sync)) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..args.clients {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= args.requests {
                        return;
                    }
                    one(index);
                }
            });
        }
    });
}

fn poisson(args: &BenchServeArgs, rate: f64, one: &(impl Fn(usize) + Sync)) {
    let started = Instant::now();
    let mut random = Random(args.seed ^ 0x5EED);
    let mut at = 0.0;
    std::thread::scope(|scope| {
        for index in 0..args.requests {
            // Times between the events of a Poisson process are exponential.
            at += -(1.0 - random.unit()).ln() / rate;
            let due = started + Duration::from_secs_f64(at);
            while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                std::thread::park_timeout(left);
            }
            scope.spawn(move || one(index));
        }
    });
}

struct Client {
    agent: ureq::Agent,
    url: String,
    key: Option<String>,
    model: String,
}

impl Client {
    fn new(args: &BenchServeArgs) -> Result<Self> {
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
        // As many connections stay open as were needed at once: a new one for each request measures the system.
        let config = config.max_idle_connections(4096).max_idle_connections_per_host(4096);
        let config = config.timeout_global(Some(Duration::from_secs_f64(args.timeout))).build();
        let agent: ureq::Agent = config.into();
        let key = args.key.clone().or_else(|| std::env::var("HEARTH_API_KEY").ok());
        let url = args.url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        let mut client = Self { agent, url, key, model: args.model.clone().unwrap_or_default() };
        if args.model.is_none() {
            client.model = client.first_model()?;
        }
        Ok(client)
    }

    fn first_model(&self) -> Result<String> {
        let mut request = self.agent.get(format!("{}/v1/models", self.url));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let mut response = request.call().with_context(|| format!("`{}` can't be reached", self.url))?;
        let text = response.body_mut().read_to_string()?;
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        let name = body["data"][0]["id"].as_str().map(str::to_owned);
        name.with_context(|| format!("`{}` names no model: {text}", self.url))
    }

    fn ask(&self, args: &BenchServeArgs, index: usize) -> Result<Met> {
        let body = json!({
            "model": self.model, "messages": messages(args, index), "max_tokens": args.max_tokens, "temperature": 0,
            "stream": true, "stream_options": { "include_usage": true },
        });
        let started = Instant::now();
        let mut request = self.agent.post(format!("{}/v1/chat/completions", self.url));
        request = request.header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let mut response = request.send(body.to_string())?;
        if response.status() != 200 {
            bail!("status {}: {}", response.status().as_u16(), response.body_mut().read_to_string()?);
        }
        let mut met = Met::default();
        let mut last: Option<Instant> = None;
        for line in BufReader::new(response.body_mut().as_reader()).lines() {
            let line = line?;
            let Some(data) = line.strip_prefix("data: ") else { continue };
            if data == "[DONE]" {
                met.total_ms = ms(started.elapsed());
                return Ok(met);
            }
            let now = Instant::now();
            let chunk: Value = serde_json::from_str(data).with_context(|| format!("not JSON: `{data}`"))?;
            if let Some(message) = chunk["error"]["message"].as_str() {
                bail!("{message}");
            }
            let text = chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
            if !text.is_empty() {
                match last.replace(now) {
                    None => met.first_ms = Some(ms(now - started)),
                    Some(before) => met.between_ms.push(ms(now - before)),
                }
            }
            let usage = &chunk["usage"];
            if usage.is_object() {
                met.prompt_tokens = usage["prompt_tokens"].as_u64().unwrap_or(0);
                met.completion_tokens = usage["completion_tokens"].as_u64().unwrap_or(0);
                met.cached_tokens = usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0);
            }
        }
        bail!("the stream broke off")
    }
}

fn messages(args: &BenchServeArgs, index: usize) -> Value {
    let words = |seed: u64, count: usize| {
        let mut random = Random(seed);
        let words = (0..count).map(|_| WORDS[(random.next() % WORDS.len() as u64) as usize]);
        words.collect::<Vec<_>>().join(" ")
    };
    let own = words(args.seed.wrapping_add(index as u64 + 1), args.words);
    let user =
        json!({ "role": "user", "content": format!("{index}. Write a story with these words: {own}") });
    match args.prompts {
        Prompts::Unique => json!([user]),
        Prompts::Shared => {
            let shared = words(args.seed, args.shared_words);
            json!([{ "role": "system", "content": format!("You are a careful assistant. {shared}") }, user])
        }
    }
}

struct Outcome {
    results: Vec<Met>,
    errors: Vec<String>,
    seconds: f64,
}

fn report(context: &Context, client: &Client, args: &BenchServeArgs, outcome: &Outcome) {
    let Outcome { results, errors, seconds } = outcome;
    let sum = |pick: fn(&Met) -> u64| results.iter().map(pick).sum::<u64>();
    let generated = sum(|met| met.completion_tokens);
    let firsts = results.iter().filter_map(|met| met.first_ms).collect();
    let between = results.iter().flat_map(|met| met.between_ms.iter().copied()).collect();
    let totals = results.iter().map(|met| met.total_ms).collect();
    let tables = [("ttft_ms", firsts), ("inter_token_ms", between), ("total_ms", totals)];
    let tables = tables.map(|(name, values)| (name, percentiles(values)));
    let mut line = json!({
        "what": "serve", "url": client.url, "model": client.model, "rate": args.rate,
        "clients": if args.rate.is_some() { Value::Null } else { args.clients.into() },
        "prompts": if args.prompts == Prompts::Shared { "shared" } else { "unique" },
        "requests": results.len(), "errors": errors.len(), "error": errors.first(), "seconds": seconds,
        "prompt_tokens": sum(|met| met.prompt_tokens), "cached_tokens": sum(|met| met.cached_tokens),
        "completion_tokens": generated, "tokens_per_s": generated as f64 / seconds,
        "requests_per_s": results.len() as f64 / seconds,
    });
    for (name, [p50, p90, p99]) in tables {
        line[name] = json!({ "p50": p50, "p90": p90, "p99": p99 });
    }
    if context.json {
        return context.print_json(&line);
    }
    context.print(&format!(
        "{} requests in {seconds:.1} s, {} failed: {:.1} generated tokens/s, {:.1} requests/s",
        results.len(),
        errors.len(),
        generated as f64 / seconds,
        results.len() as f64 / seconds
    ));
    for (name, [p50, p90, p99]) in tables {
        context.print(&format!("{name:16} p50 {p50:>9.1}  p90 {p90:>9.1}  p99 {p99:>9.1}"));
    }
    if let Some(error) = errors.first() {
        context.terminal.say(&format!("first failure: {error}"));
    }
}

/// The 50th, 90th and 99th: the smallest value with so many at or below it. 0 without any value.
pub(super) fn percentiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [0.5, 0.9, 0.99].map(|share| {
        let rank = (share * values.len() as f64).ceil() as usize;
        values.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
    })
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::percentiles;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let check =
            |values: Vec<f64>, expected: &str| assert_eq!(format!("{:?}", percentiles(values)), expected);
        check((1..=100).rev().map(f64::from).collect(), "[50.0, 90.0, 99.0]");
        check(vec![7.0], "[7.0, 7.0, 7.0]");
        check(Vec::new(), "[0.0, 0.0, 0.0]");
    }
}
