//! BPE on bytes, with the splitters of several families.

use std::sync::{Arc, LazyLock};

use hearth_tokenizer::StreamDecoder;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizers::AddedToken;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use crate::{LINES, Pair};

const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const OWN: &str = r"[A-Z]?[a-z]+|\d+|[^A-Za-z\d]+|[A-Z]";

/// A byte-level BPE vocabulary of 600 tokens, with two tokens added.
fn bpe() -> Value {
    let trainer = BpeTrainer::builder()
        .vocab_size(600)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut tokenizer = tokenizers::Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.train(&mut TrainerWrapper::from(trainer), LINES.iter()).unwrap();
    tokenizer.add_special_tokens(vec![AddedToken::from("<|end|>", true)]).unwrap();
    tokenizer.add_tokens(vec![AddedToken::from("<tool>", false).normalized(false)]).unwrap();
    serde_json::from_str(&tokenizer.to_string(false).unwrap()).unwrap()
}

pub(crate) static BPE_JSON: LazyLock<Value> = LazyLock::new(bpe);

fn with(pre_tokenizer: Value, normalizer: Value) -> Pair {
    let mut json = BPE_JSON.clone();
    json["pre_tokenizer"] = pre_tokenizer;
    json["normalizer"] = normalizer;
    Pair::load(&json)
}

fn byte_level(use_regex: bool, add_prefix_space: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true, "use_regex": use_regex})
}

pub(crate) fn split(pattern: &str) -> Value {
    let split =
        json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    json!({"type": "Sequence", "pretokenizers": [split, byte_level(false, false)]})
}

fn smollm() -> Value {
    let digits = json!({"type": "Digits", "individual_digits": true});
    json!({"type": "Sequence", "pretokenizers": [digits, byte_level(true, false)]})
}

static PAIRS: LazyLock<Vec<Pair>> = LazyLock::new(|| {
    vec![
        with(byte_level(true, false), Value::Null),
        with(byte_level(true, true), Value::Null),
        with(split(QWEN2), json!({"type": "NFC"})),
        with(split(LLAMA3), Value::Null),
        with(split(OWN), Value::Null),
        with(smollm(), Value::Null),
    ]
});

#[test]
fn bpe_ids_equal_on_hard_text() {
    for pair in PAIRS.iter() {
        pair.check_tricky();
        for text in ["<|end|>", "a<|end|> <tool>b", "<|end|", "<tool><|end|><tool>"] {
            pair.check(text);
        }
    }
}

#[test]
fn words_that_are_tokens_skip_the_merges_where_the_file_says_so() {
    let mut json = BPE_JSON.clone();
    json["pre_tokenizer"] = split(LLAMA3);
    json["model"]["ignore_merges"] = true.into();
    // Without its last merges the vocabulary holds tokens that merging never reaches.
    let merges = json["model"]["merges"].as_array_mut().unwrap();
    merges.truncate(merges.len() - 60);
    let ignoring = Pair::load(&json);
    ignoring.check_tricky();
    json["model"]["ignore_merges"] = false.into();
    let merging = Pair::load(&json);
    merging.check_tricky();
    let differs = |text: &str| ignoring.ours.encode(text) != merging.ours.encode(text);
    assert!(
        LINES.iter().any(|text| differs(text)),
        "the setting must matter for this test to mean something"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn bpe_ids_equal_on_any_text(text in any::<String>(), which in 0..6_usize) {
        PAIRS[which].check(&text);
    }

    #[test]
    fn bpe_ids_equal_on_text_of_known_words(
        text in "(the|heat| er|'ll| \n|\t|水压|请先|<|end|>|<tool>|é|[0-9]{1,4}|[ ]{1,3}|\\.){0,12}",
        which in 0..6_usize,
    ) {
        PAIRS[which].check(&text);
    }

    #[test]
    fn decoding_gives_the_text_back(text in any::<String>(), which in 3..6_usize) {
        let tokenizer = &PAIRS[which].ours;
        prop_assert_eq!(tokenizer.decode(&tokenizer.encode(&text)), text.as_str());
        let spelled = tokenizer.decode_special(&tokenizer.encode_special(&text));
        prop_assert_eq!(spelled, text);
    }

    #[test]
    fn a_stream_of_any_ids_equals_decoding_them_at_once(
        ids in proptest::collection::vec(0..640_u32, 0..30), which in 0..6_usize,
    ) {
        let tokenizer = &PAIRS[which].ours;
        let mut stream = StreamDecoder::new(Arc::clone(tokenizer));
        let mut text: String = ids.iter().map(|id| stream.push(*id)).collect();
        text.push_str(&stream.finish());
        prop_assert_eq!(text, tokenizer.decode(&ids));
    }
}

#[test]
fn plain_encoding_never_gives_a_special_token() {
    for pair in PAIRS.iter() {
        for text in ["<|end|>", "x<|end|><tool>y", "<|end|> <|end|>"] {
            let ids = pair.ours.encode(text);
            let special = ["<|end|>", "<tool>"].map(|token| pair.ours.token_to_id(token).unwrap());
            assert!(ids.iter().all(|id| !special.contains(id)), "{text}: {ids:?}");
            assert_eq!(pair.ours.decode(&ids).trim_start(), text);
        }
    }
}

#[test]
fn tokens_are_found_by_their_text() {
    let tokenizer = &PAIRS[0].ours;
    for id in 0..tokenizer.vocab_size() as u32 {
        let bytes = tokenizer.token_bytes(id);
        if let Ok(text) = std::str::from_utf8(bytes) {
            assert_eq!(tokenizer.token_to_id(text), Some(id), "{text:?}");
        }
    }
    assert_eq!(tokenizer.token_bytes(u32::MAX), b"");
    assert!(tokenizer.is_special(tokenizer.token_to_id("<|end|>").unwrap()));
    assert!(!tokenizer.is_special(0) && !tokenizer.is_special(u32::MAX));
}

#[test]
fn a_word_of_a_megabyte_is_no_quadratic_work() {
    let text = "heat".repeat(1 << 18);
    let tokenizer = &PAIRS[3].ours;
    let ids = tokenizer.encode(&text);
    assert_eq!(tokenizer.decode(&ids), text);
    // By scanning, this would take minutes.
    assert!(ids.len() < text.len());
}

#[test]
fn bytes_without_a_token_are_left_out_and_counted() {
    let mut json = BPE_JSON.clone();
    json["pre_tokenizer"] = byte_level(true, false);
    let vocab = json["model"]["vocab"].as_object_mut().unwrap();
    let id = vocab.remove("Ć").expect("the stand-in of byte 6");
    vocab.insert("unreachable".into(), id);
    let pair = Pair::load(&json);
    pair.check("a\u{6}b \u{6}");
    assert_eq!(pair.ours.num_lost_bytes("a\u{6}b \u{6}"), 2);
    assert_eq!(pair.ours.decode(&pair.ours.encode("a\u{6}b")), "ab");
}
