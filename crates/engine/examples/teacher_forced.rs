//! Holds a model against recorded log-probabilities: of llama.cpp, and of an f32 forward.
//!
//! `teacher_forced MODEL REFERENCE.json [TEXT WINDOWS]` prints the differences, and the perplexity of a text.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for developers")]

use std::path::Path;
use std::time::Instant;

use hearth_engine::bench::Bench;
use hearth_engine::{sampling, score};
use hearth_kernels::loss::log_prob_of;
use hearth_kernels::matmul::PackedMatrix;
use hearth_kernels::pool::Pool;
use hearth_model::{Decoder, Model};
use hearth_tensor::weight::{Linear, Matrix};
use serde_json::Value;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let pool = Pool::new(2);
    let start = Instant::now();
    let mut decoder = Decoder::open(Path::new(&args[1]), &pool).unwrap();
    if let Ok(which) = std::env::var("DENSE") {
        make_dense(&mut decoder, &which);
    }
    println!("loaded in {:?}, {} MiB of weights", start.elapsed(), decoder.weight_bytes() >> 20);
    for (batch, depth) in [(1, 0), (1, 1024), (16, 0)]
        .into_iter()
        .take(if std::env::var_os("NOBENCH").is_some() { 0 } else { 3 })
    {
        let mut bench = Bench::new(&decoder, &pool, batch, depth);
        bench.decode(4);
        let decode = bench.decode(if batch == 1 { 64 } else { 16 }).tokens_per_s();
        let prefill = if batch == 1 { bench.prefill(512).tokens_per_s() } else { 0.0 };
        println!("batch {batch} depth {depth}: prefill {prefill:.1}, decode {decode:.1} tokens/s");
    }
    let Some(reference) = args.get(2) else { return };
    let json: Value = serde_json::from_slice(&fs_err::read(reference).unwrap()).unwrap();
    for key in ["top5_logprobs", "f32_teacher_forced_top5"] {
        compare(&decoder, &pool, &json, key);
    }
    // Last, for models whose weights are known and whose vocabulary isn't.
    let model = Model::open(Path::new(&args[1]), &pool).unwrap();
    tokens(&model, &json);
    if let (Some(text), Some(windows)) = (args.get(3), args.get(4)) {
        let text = fs_err::read_to_string(text).unwrap();
        let ids = model.tokenizer().encode(&text);
        let kept = model.tokenizer().decode(&ids[..ids.len().min(512 * windows.parse::<usize>().unwrap())]);
        let result = score::perplexity(&decoder, model.tokenizer(), &pool, &kept, 512, |_, _| ()).unwrap();
        println!("perplexity {result:?}");
    }
}

/// Replaces the named packed matrices by their decoded values: the forward without rounded activations.
fn make_dense(decoder: &mut Decoder, which: &str) {
    let dense = |linear: &mut Linear| {
        let (rows, cols) = (linear.weight.rows(), linear.weight.cols());
        let mut values = vec![0.0; rows * cols];
        for (row, out) in values.chunks_exact_mut(cols).enumerate() {
            linear.weight.row(row, out);
        }
        linear.weight = Matrix::packed(PackedMatrix::from_f32(rows, cols, &values));
    };
    for layer in &mut decoder.layers {
        let modules: Vec<_> = layer.modules().collect();
        for module in modules {
            let name = module.projection.name().trim_end_matches("_proj");
            if which.split(',').any(|wanted| wanted == name) {
                dense(layer.module_mut(module));
            }
        }
    }
    if which.contains("head") {
        dense(&mut decoder.head);
    }
}

fn tokens(model: &Model, json: &Value) {
    let cases = json["tokenizer"].as_array().unwrap();
    let mut wrong = 0;
    for case in cases {
        let ours = model.tokenizer().encode(case["text"].as_str().unwrap());
        let theirs: Vec<u32> = serde_json::from_value(case["ids_no_special"].clone()).unwrap();
        if ours != theirs {
            wrong += 1;
            println!("tokenizer: {:?}: {ours:?} vs. {theirs:?}", case["text"]);
        }
    }
    println!("tokenizer: {} of {} strings equal", cases.len() - wrong, cases.len());
}

fn compare(decoder: &Decoder, pool: &Pool, json: &Value, key: &str) {
    let (mut sum, mut largest, mut count, mut flips) = (0.0f64, 0.0f64, 0, 0);
    for prompt in json["prompts"].as_array().unwrap() {
        let Some(top5) = prompt[key].as_array() else { continue };
        let mut ids: Vec<u32> = serde_json::from_value(prompt["prompt_ids"].clone()).unwrap();
        let from = ids.len() - 1;
        let output: Vec<u32> = serde_json::from_value(prompt["output_ids"].clone()).unwrap();
        ids.extend(&output);
        score::each_row(decoder, pool, &ids[..ids.len() - 1], from, |i, logits| {
            let Some(row) = top5.get(i - from).and_then(Value::as_array) else { return };
            let best = (row[0][0].as_u64().unwrap() as u32, row[0][1].as_f64().unwrap());
            let gap = best.1 - row[1][1].as_f64().unwrap();
            let difference = (f64::from(log_prob_of(logits, best.0)) - best.1).abs();
            sum += difference;
            largest = largest.max(difference);
            count += 1;
            if gap > 0.3 && sampling::greedy(logits) != best.0 {
                flips += 1;
            }
        })
        .unwrap();
    }
    println!(
        "{key}: mean {:.4}, largest {largest:.4} over {count} tokens, {flips} other best tokens",
        sum / f64::from(count)
    );
}
