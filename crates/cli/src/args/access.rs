//! Serving, its accounts, and the measure of a server.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

/// How `hearth serve` is reached, beside its address.
#[derive(Debug, ClapArgs)]
pub(crate) struct AccessArgs {
    /// Also serve this text embedder, for `/v1/embeddings` and `/v1/rerank`
    #[arg(long, value_name = "MODEL")]
    pub(crate) embedder: Option<String>,
    /// A model of another OpenAI-compatible server, or of several: NAME=URL[,URL…]; `$HEARTH_UPSTREAM_KEY` is their key
    #[arg(long, value_name = "NAME=URL", value_parser = upstream)]
    pub(crate) upstream: Vec<(String, Vec<String>)>,
    /// More of them from a file, a JSON list of `{"name", "urls", "model", "key_env"}`: `model` is its name there,
    /// `key_env` the variable with the key
    #[arg(long, value_name = "FILE")]
    pub(crate) upstreams: Option<PathBuf>,
    /// Pages of this origin may use the server, `https://app.example` say; may be given several times
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) allow_origin: Vec<String>,
    /// Certificate chain for TLS, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key for TLS, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Write a line of JSON for each request to standard error; prompts and answers are never in it
    #[arg(long)]
    pub(crate) log: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key; its secret is shown once
    #[command(
        after_help = "Example:\n  hearth keys create ci --requests-per-minute 60 --tokens-per-day 100000"
    )]
    Create(KeysCreateArgs),
    /// List the keys, without their secrets
    #[command(after_help = "Example:\n  hearth keys list --json")]
    List,
    /// End a key, by name or id
    #[command(after_help = "Example:\n  hearth keys revoke ci")]
    Revoke {
        /// Name or id
        key: String,
    },
    /// Set the price of a model, for `hearth usage`
    #[command(
        after_help = "Example:\n  hearth keys price qwen2.5-coder-0.5b-instruct --prompt 0.1 --completion 0.4"
    )]
    Price(PriceArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct KeysCreateArgs {
    /// Whose key it is
    pub(crate) name: String,
    /// More are answered by 429
    #[arg(long, value_name = "N")]
    pub(crate) requests_per_minute: Option<u32>,
    /// Prompt and answer together, by days of UTC; what goes beyond is answered by 429
    #[arg(long, value_name = "N")]
    pub(crate) tokens_per_day: Option<u64>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct PriceArgs {
    /// Name of the model as requests say it
    pub(crate) model: String,
    /// Of a million prompt tokens, in a currency of your own
    #[arg(long)]
    pub(crate) prompt: f64,
    /// Of a million tokens of answers
    #[arg(long)]
    pub(crate) completion: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Prompts {
    /// No two begin alike
    Unique,
    /// All begin with the same long text
    Shared,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct BenchServeArgs {
    /// Where the server is; any OpenAI-compatible one
    #[arg(long, default_value = "http://127.0.0.1:8686")]
    pub(crate) url: String,
    /// Name of the model; the server's first without it
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// The server's key; `$HEARTH_API_KEY` without it
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Clients that each send the next request when the last one is answered
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) clients: u16,
    /// Send so many requests a second at random times (Poisson) instead, however many are under way
    #[arg(long, value_name = "PER_SECOND", conflicts_with = "clients")]
    pub(crate) rate: Option<f64>,
    /// Requests in all
    #[arg(long, default_value_t = 32)]
    pub(crate) requests: usize,
    #[arg(long, value_enum, default_value_t = Prompts::Unique)]
    pub(crate) prompts: Prompts,
    /// Words of a prompt's own part
    #[arg(long, default_value_t = 64)]
    pub(crate) words: usize,
    /// Words of the shared beginning
    #[arg(long, default_value_t = 480)]
    pub(crate) shared_words: usize,
    /// Tokens of an answer at most
    #[arg(long, default_value_t = 64)]
    pub(crate) max_tokens: usize,
    /// Seconds after which a request that isn't answered whole is given up and counts as an error
    #[arg(long, default_value_t = 600.0, value_name = "SECONDS")]
    pub(crate) timeout: f64,
    /// Seed of prompts and arrivals
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

fn upstream(text: &str) -> Result<(String, Vec<String>), String> {
    let (name, urls) = text.split_once('=').ok_or("expected NAME=URL")?;
    let urls: Vec<String> = urls.split(',').map(str::to_owned).collect();
    let is_url = |url: &String| url.starts_with("http://") || url.starts_with("https://");
    match urls.iter().find(|url| !is_url(url)) {
        Some(url) => Err(format!("`{url}` begins with neither http:// nor https://")),
        None if name.is_empty() => Err("the name is empty".into()),
        None => Ok((name.into(), urls)),
    }
}
