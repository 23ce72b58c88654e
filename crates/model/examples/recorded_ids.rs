//! A GGUF file and recorded ids: does its tokenizer give the same?
//!
//! `cargo run --release -p hearth-model --example recorded_ids MODEL.gguf RECORDED.json`, where the JSON file holds
//! `{"tokenizer": [{"text": …, "ids_no_special": […], "ids_special": […]}]}`. A line for each difference.

#![expect(clippy::print_stdout, reason = "a report for people")]

use hearth_model::files::{GgufFile, vocabulary};
use hearth_tokenizer::{TokenId, Tokenizer};

#[derive(serde::Deserialize)]
struct Recorded {
    tokenizer: Vec<Entry>,
}

#[derive(serde::Deserialize)]
struct Entry {
    text: String,
    ids_no_special: Vec<TokenId>,
    ids_special: Vec<TokenId>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(recorded)) = (arguments.next(), arguments.next()) else {
        return Err("usage: recorded_ids MODEL.gguf RECORDED.json".into());
    };
    let file = GgufFile::open(model)?;
    let start = std::time::Instant::now();
    let tokenizer = Tokenizer::from_parts(vocabulary::vocabulary(&file)?)?;
    println!("{tokenizer:?} in {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
    let recorded: Recorded = serde_json::from_slice(&std::fs::read(recorded)?)?;
    let mut num_equal = 0;
    for entry in &recorded.tokenizer {
        let found = tokenizer.encode_special(&entry.text);
        let wrapped = tokenizer.wrap(&found);
        if found == entry.ids_no_special && wrapped == entry.ids_special {
            num_equal += 1;
        } else {
            println!("{:?}\n  found    {found:?}\n  recorded {:?}", entry.text, entry.ids_special);
        }
        if tokenizer.decode_special(&found) != entry.text {
            println!("{:?} comes back as {:?}", entry.text, tokenizer.decode_special(&found));
        }
    }
    println!("{num_equal} of {} are equal", recorded.tokenizer.len());
    Ok(())
}
