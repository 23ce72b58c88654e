//! How many texts and tokens a second an encoder embeds: a line of text is a passage.
//!
//! `cargo run --release -p hearth-model --example embed_speed -- MODEL TEXTS [THREADS] [VECTORS]` prints one line of JSON;
//! VECTORS, if given, is where the vectors go as raw f32, to be compared with a peer's.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use hearth_kernels::pool::Pool;
use hearth_model::encoder::Encoder;
use serde_json::json;

/// The best of so many runs counts: what else runs on the machine only slows down.
const RUNS: usize = 3;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, texts, rest @ ..] = &arguments[..] else {
        return Err(std::io::Error::other("expected MODEL TEXTS [THREADS] [VECTORS]"));
    };
    let threads = rest.first().map_or(Ok(2), |text| text.parse()).map_err(std::io::Error::other)?;
    let encoder =
        Encoder::open(Path::new(model), Arc::new(Pool::new(threads))).map_err(std::io::Error::other)?;
    let texts = fs_err::read_to_string(texts)?;
    let texts: Vec<&str> = texts.lines().collect();
    let mut seconds = f64::INFINITY;
    let mut embedded =
        encoder.embed_passages(&texts[..texts.len().min(32)]).map_err(std::io::Error::other)?;
    for _ in 0..RUNS {
        let started = Instant::now();
        embedded = encoder.embed_passages(&texts).map_err(std::io::Error::other)?;
        seconds = seconds.min(started.elapsed().as_secs_f64());
    }
    let tokens: usize = embedded.token_counts.iter().sum();
    let line = json!({
        "model": encoder.name(), "threads": threads, "texts": texts.len(), "tokens": tokens,
        "truncated": embedded.truncated.len(), "seconds": seconds,
        "texts_per_s": texts.len() as f64 / seconds, "tokens_per_s": tokens as f64 / seconds,
    });
    if let Some(path) = rest.get(1) {
        let bytes: Vec<u8> =
            embedded.vectors.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
        fs_err::write(path, bytes)?;
    }
    writeln!(std::io::stdout(), "{line}")
}
