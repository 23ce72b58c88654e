//! A `tokenizer.json` and a text: are the ids those of Hugging Face's `tokenizers`, and how fast are both?
//!
//! `cargo run --release -p hearth-tokenizer --example compare TOKENIZER.json TEXT`: a line for each difference between
//! the ids of a line, then megabytes a second of one thread, whole text at once, best of five.

#![expect(clippy::print_stdout, reason = "a report for people")]

use std::time::Instant;

use hearth_tokenizer::Tokenizer;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (Some(tokenizer), Some(text)) = (arguments.next(), arguments.next()) else {
        return Err("usage: compare TOKENIZER.json TEXT".into());
    };
    let text = String::from_utf8_lossy(&std::fs::read(text)?).into_owned();
    let json = std::fs::read(tokenizer)?;
    let start = Instant::now();
    let ours = Tokenizer::from_json(&json)?;
    println!("loaded in {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
    let mut theirs = tokenizers::Tokenizer::from_bytes(&json)?;
    theirs.with_truncation(None)?.with_padding(None);
    let mut num_different = 0;
    for line in text.split_inclusive('\n') {
        let expected = theirs.encode(line, true)?;
        let found = ours.wrap(&ours.encode_special(line));
        if found != expected.get_ids() {
            num_different += 1;
            if num_different <= 5 {
                println!("{line:?}\n  ours   {found:?}\n  theirs {:?}", expected.get_ids());
            }
        }
    }
    println!("{num_different} lines differ");
    let megabytes = text.len() as f64 / 1e6;
    let best = |run: &mut dyn FnMut() -> usize| {
        let times = (0..5).map(|_| {
            let start = Instant::now();
            let num_ids = run();
            (start.elapsed().as_secs_f64(), num_ids)
        });
        times.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_default()
    };
    let (seconds, num_ids) = best(&mut || ours.encode(&text).len());
    println!("hearth     {:8.2} MB/s, {num_ids} ids", megabytes / seconds);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let (seconds, num_ids) = best(&mut || lines.iter().map(|line| ours.encode(line).len()).sum());
    println!("  by line  {:8.2} MB/s, {num_ids} ids", megabytes / seconds);
    let failed = |error| println!("tokenizers failed: {error}");
    let count = |text: &str| theirs.encode_fast(text, false).map_err(failed).map_or(0, |found| found.len());
    let (seconds, num_ids) = best(&mut || lines.iter().map(|line| count(line)).sum());
    println!("tokenizers {:8.2} MB/s by line, {num_ids} ids", megabytes / seconds);
    Ok(())
}
