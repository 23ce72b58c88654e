//! A real model, SmolLM2-135M-Instruct in Q4_1, against an f32 forward and an independent tokenizer; and against itself:
//! alone, in a batch, in chunks, on other threads, on the training tape. A real embedder, all-MiniLM-L6-v2, against
//! `transformers`.
//!
//! The models are pulled once into `$HEARTH_HOME`, or into a folder below the build folder that stays. Where no
//! registry can be reached, every test says so and ends.

#![expect(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "all of this file is tests"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock};

use hearth_engine::{sampling, score};
use hearth_kernels::loss::log_prob_of;
use hearth_kernels::pool::Pool;
use hearth_model::encoder::Encoder;
use hearth_model::files::GgufFile;
use hearth_model::{Decoder, Model};
use hearth_tensor::eager::{Eager, Rows, Workspace};
use hearth_tensor::kv::KvCache;
use hearth_tensor::tape::{Keep, Tape};
use hearth_tensor::tensor::Arena;
use serde_json::{Value, json};

const NAME: &str = "smollm2-135m";
const EMBEDDER: &str = "all-minilm-l6-v2";
/// f32 sums in another order, and golden vectors rounded to six digits.
const COSINE: f64 = 0.999_99;
/// Distance of a reference token's log-probability: quantised products round activations, f32 doesn't.
const LOG_PROB_TOLERANCE: f64 = 0.02;
/// Where the best two tokens lie further apart, the best one must be the same.
const CLEAR_GAP: f64 = 0.05;

/// Made by `golden/smollm2_f32.py`.
static GOLDEN: LazyLock<Value> = LazyLock::new(|| {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/smollm2_f32.json");
    serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap()
});

static FILE: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let pulled = pull(NAME)?;
    assert_eq!(pulled["sha256"], GOLDEN["sha256"], "the reference was made with this file");
    Some(pulled["path"].as_str().unwrap().into())
});

/// Pulls by the program's own verb. `None` where no source can be reached.
fn pull(name: &str) -> Option<Value> {
    let home = std::env::var_os("HEARTH_HOME")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("hearth-home"), PathBuf::from);
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearth"));
    let output =
        command.args(["pull", name, "--json"]).env("HEARTH_HOME", home).stdin(Stdio::null()).output();
    let output = output.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let causes = ["can't be reached", "answers with status", "broke off", "network is switched off"];
        assert!(causes.iter().any(|cause| stderr.contains(cause)), "{stderr}");
        println!("skipped: {name} can't be pulled here: {}", stderr.trim());
        return None;
    }
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

struct Prompt {
    name: String,
    text: String,
    ids: Vec<u32>,
    /// For each position, the best tokens with their log-probabilities.
    top: Vec<Vec<(u32, f64)>>,
}

fn prompts() -> Vec<Prompt> {
    let prompts = GOLDEN["prompts"].as_array().unwrap().iter();
    let prompts = prompts.map(|prompt| Prompt {
        name: prompt["name"].as_str().unwrap().into(),
        text: prompt["text"].as_str().unwrap().into(),
        ids: serde_json::from_value(prompt["ids"].clone()).unwrap(),
        top: serde_json::from_value(prompt["top5"].clone()).unwrap(),
    });
    prompts.collect()
}

#[test]
fn log_probabilities_are_those_of_an_f32_forward() {
    let Some(file) = FILE.as_ref() else { return };
    let pool = Pool::new(2);
    let model = Model::open(file, &pool).unwrap();
    let (mut largest, mut sum, mut count) = (0.0f64, 0.0, 0);
    for Prompt { name, text, ids, top } in prompts() {
        assert_eq!(model.tokenizer().encode(&text), ids, "{name}");
        assert_eq!(ids.len(), top.len());
        score::each_row(&model.decoder, &pool, &ids, 0, |at, logits| {
            let best = top[at][0];
            for &(id, expected) in &top[at] {
                let difference = (f64::from(log_prob_of(logits, id)) - expected).abs();
                if id == best.0 {
                    assert!(difference < LOG_PROB_TOLERANCE, "{name} at {at}: {difference} for token {id}");
                }
                (largest, sum, count) = (largest.max(difference), sum + difference, count + 1);
            }
            if best.1 - top[at][1].1 > CLEAR_GAP {
                assert_eq!(sampling::greedy(logits), best.0, "{name} at {at}");
            }
        })
        .unwrap();
    }
    println!("largest difference {largest:.5}, mean {:.5} over {count} values", sum / f64::from(count));
}

/// Logits of every position, as bits.
type Bits = Vec<Vec<u32>>;

fn bits(row: &[f32]) -> Vec<u32> {
    row.iter().map(|value| value.to_bits()).collect()
}

fn alone(decoder: &Decoder, threads: usize, ids: &[u32]) -> Bits {
    let mut rows = Vec::new();
    score::each_row(decoder, &Pool::new(threads), ids, 0, |_, logits| rows.push(bits(logits))).unwrap();
    rows
}

/// All sequences in one pass after another, each pass taking up to `chunk` tokens of every sequence.
fn together(decoder: &Decoder, threads: usize, sequences: &[Vec<u32>], chunk: usize) -> Vec<Bits> {
    let pool = Pool::new(threads);
    let mut workspace = Workspace::default();
    let mut caches: Vec<KvCache> = sequences.iter().map(|_| KvCache::new(decoder.page_layout())).collect();
    let mut out = vec![Bits::new(); sequences.len()];
    let longest = sequences.iter().map(Vec::len).max().unwrap();
    for start in (0..longest).step_by(chunk) {
        let part = |ids: &Vec<u32>| ids[start.min(ids.len())..(start + chunk).min(ids.len())].to_vec();
        let parts: Vec<Vec<u32>> = sequences.iter().map(part).collect();
        let rows = caches.iter_mut().zip(&parts).filter(|(_, part)| !part.is_empty());
        let rows = rows.map(|(cache, part)| Rows { cache, count: part.len() }).collect();
        let ids = parts.concat();
        let wanted: Vec<usize> = (0..ids.len()).collect();
        let mut graph = Eager::new(&pool, &mut workspace, rows);
        let logits = decoder.logits(&mut graph, &ids, &wanted);
        graph.finish();
        let mut row = 0;
        for (out, part) in out.iter_mut().zip(&parts) {
            out.extend((row..row + part.len()).map(|row| bits(logits.row(row))));
            row += part.len();
        }
    }
    out
}

fn on_tape(decoder: &Decoder, threads: usize, sequences: &[Vec<u32>], keep: Keep) -> Vec<Bits> {
    let pool = Pool::new(threads);
    let lens: Vec<usize> = sequences.iter().map(Vec::len).collect();
    let ids = sequences.concat();
    let wanted: Vec<usize> = (0..ids.len()).collect();
    let mut tape = Tape::new(&pool, &Arena::default(), &lens, keep);
    let logits = decoder.logits(&mut tape, &ids, &wanted);
    let mut row = 0;
    let rows_of = lens.iter().map(|&len| {
        row += len;
        (row - len..row).map(|row| bits(logits.value().row(row))).collect()
    });
    rows_of.collect()
}

#[test]
fn logits_are_equal_to_the_bit_however_they_are_computed() {
    let Some(file) = FILE.as_ref() else { return };
    let model = Model::open(file, &Pool::new(2)).unwrap();
    let decoder = &model.decoder;
    let sequences: Vec<Vec<u32>> = prompts().into_iter().map(|prompt| prompt.ids).collect();
    let expected: Vec<Bits> = sequences.iter().map(|ids| alone(decoder, 1, ids)).collect();
    let check = |name: &str, found: &[Bits]| {
        for (sequence, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(found.len(), expected.len(), "{name}");
            for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
                assert!(found == expected, "{name}: sequence {sequence} differs at position {at}");
            }
        }
    };
    let on_two_threads: Vec<Bits> = sequences.iter().map(|ids| alone(decoder, 2, ids)).collect();
    check("alone, 2 threads", &on_two_threads);
    for threads in [1, 2] {
        for chunk in [1, 7, 16, 64] {
            let found = together(decoder, threads, &sequences, chunk);
            check(&format!("batch of 3 in chunks of {chunk}, {threads} threads"), &found);
        }
        for keep in [Keep::Projections, Keep::Little] {
            let found = on_tape(decoder, threads, &sequences, keep);
            check(&format!("tape with {keep:?}, {threads} threads"), &found);
        }
    }
}

const TEXTS: [&str; 16] = [
    "",
    " ",
    "The kiln needs nine hours; don't open it, they'll say, before it's cold.",
    "  two  spaces,\ttabs\r\nand\n\n\nlines   ",
    "1234567890 3.14159 1,000,000 ½ Ⅷ ٣ 0x1F",
    "锅炉启动之前，请先检查水压和阀门。水压不足时不要启动！",
    "全角　空格，“引号”、《书名》；日本語のテキスト 한국어",
    "fn main() {\n    let total: u32 = (1..=10).sum();\n    println!(\"{total}\");\n}\n",
    "def area(r):\n\treturn 3.14159 * r ** 2  # square metres\n",
    "😀👍🏽👨‍👩‍👧‍👦🏳️‍🌈 and 🔥🔥",
    "\0\u{1}\u{7}\u{1b}[0m\u{7f}\u{85}\u{2028}\u{feff}\u{fffd}\u{10ffff}",
    "e\u{301}A\u{30a} \u{a0}nbsp\u{200b}zwsp ﬁ naïve café Ünïcödé",
    "Привет, мир! Ελληνικά العربية עברית हिन्दी ไทย",
    "snake_case camelCase kebab-case http://example.com/a?b=c&d=%20#e",
    "I'LL SAY 'tis WE'VE 'S 's 're",
    "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
];

#[test]
fn ids_are_those_of_an_independent_tokenizer_with_the_same_vocabulary() {
    let Some(file) = FILE.as_ref() else { return };
    let model = Model::open(file, &Pool::new(1)).unwrap();
    let gguf = GgufFile::open(file).unwrap();
    let tokens = gguf.meta_strs("tokenizer.ggml.tokens").unwrap();
    let vocab: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), json!(id))).collect();
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let json = json!({
        "version": "1.0",
        "added_tokens": [],
        // As SmolLM2's own tokenizer.json has it.
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": true}, byte_level],
        },
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": vocab,
            "merges": gguf.meta_strs("tokenizer.ggml.merges").unwrap(),
        },
    });
    let theirs = tokenizers::Tokenizer::from_bytes(serde_json::to_vec(&json).unwrap()).unwrap();
    let golden: Vec<String> = prompts().into_iter().map(|prompt| prompt.text).collect();
    let long = TEXTS.concat().repeat(20);
    for text in TEXTS.into_iter().chain(golden.iter().map(String::as_str)).chain([long.as_str()]) {
        let expected = theirs.encode(text, false).unwrap();
        let ids = model.tokenizer().encode(text);
        assert_eq!(ids, expected.get_ids(), "{text:?}");
        assert_eq!(model.tokenizer().decode(&ids), text);
    }
}

#[test]
fn a_real_embedder_gives_the_vectors_of_transformers() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/minilm.json");
    let golden: Value = serde_json::from_slice(&fs_err::read(golden).unwrap()).unwrap();
    let Some(pulled) = pull(EMBEDDER) else { return };
    let folder = Path::new(pulled["path"].as_str().unwrap());
    let weights = hearth_artifacts::hash::sha256_file(&folder.join("model.safetensors")).unwrap();
    assert_eq!(weights, golden["weights_sha256"], "the reference was made with these weights");
    let encoder = Encoder::open(folder, Arc::new(Pool::new(2))).unwrap().with_name(EMBEDDER);
    assert_eq!((encoder.dim(), encoder.max_tokens()), (384, 256));
    let texts = golden["texts"].as_array().unwrap();
    let bare: Vec<&str> = texts.iter().map(|text| text["text"].as_str().unwrap()).collect();
    let embedded = encoder.embed_passages(&bare).unwrap();
    for (index, expected) in texts.iter().enumerate() {
        let text = bare[index];
        assert_eq!(embedded.token_counts[index], expected["ids"].as_array().unwrap().len(), "`{text}`");
        let expected: Vec<f64> =
            expected["vector"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
        let cosine: f64 = embedded.vectors[index].iter().zip(&expected).map(|(a, b)| f64::from(*a) * b).sum();
        assert!(cosine > COSINE, "`{text}`: cosine {cosine}");
    }
}
