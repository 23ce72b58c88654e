//! Training against `BpeTrainer` on the same texts and settings: the same vocabulary and the same merges, in order.

use hearth_artifacts::progress::Silent;
use hearth_tokenizer::train::{PATTERN_NAMES, SplitPattern, TrainConfig, Trained, train};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper};

use crate::{LINES, Pair, TRICKY};

fn config(pattern: &str, vocab_size: usize) -> TrainConfig {
    TrainConfig {
        vocab_size,
        pattern: SplitPattern::named(pattern).unwrap(),
        min_frequency: 0,
        max_token_length: None,
        nfc: pattern == "qwen2",
        special_tokens: vec!["<|endoftext|>".into(), "<|im_start|>".into(), "<|im_end|>".into()],
        threads: 2,
    }
}

fn ours(texts: &[String], config: &TrainConfig) -> Trained {
    train(texts.iter().cloned().map(Ok), config, &Silent).unwrap()
}

/// What `tokenizers` trains with the steps of our own file.
fn theirs(texts: &[String], config: &TrainConfig, file: &Value) -> Value {
    let special = config.special_tokens.iter().map(|token| AddedToken::from(token.clone(), true));
    let trainer = BpeTrainer::builder()
        .vocab_size(config.vocab_size)
        .min_frequency(config.min_frequency)
        .max_token_length(config.max_token_length)
        .special_tokens(special.collect())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .show_progress(false)
        .build();
    let mut tokenizer = tokenizers::Tokenizer::new(BPE::default());
    let steps: PreTokenizerWrapper = serde_json::from_value(file["pre_tokenizer"].clone()).unwrap();
    tokenizer.with_pre_tokenizer(Some(steps));
    let normalizer: Option<NormalizerWrapper> = serde_json::from_value(file["normalizer"].clone()).unwrap();
    tokenizer.with_normalizer(normalizer).unwrap();
    tokenizer.train(&mut TrainerWrapper::from(trainer), texts.iter()).unwrap();
    serde_json::from_str(&tokenizer.to_string(false).unwrap()).unwrap()
}

fn check(texts: &[String], config: &TrainConfig) -> Trained {
    let trained = ours(texts, config);
    let file = trained.to_json();
    let expected = theirs(texts, config, &file);
    assert_eq!(file["model"]["merges"], expected["model"]["merges"], "{config:?}");
    assert_eq!(file["model"]["vocab"], expected["model"]["vocab"], "{config:?}");
    assert_eq!(file["added_tokens"], expected["added_tokens"]);
    trained
}

fn lines() -> Vec<String> {
    LINES.iter().chain(&TRICKY).map(|line| (*line).to_owned()).collect()
}

#[test]
fn every_family_learns_what_the_reference_learns() {
    for name in PATTERN_NAMES {
        let trained = check(&lines(), &config(name, 700));
        assert!(trained.vocab_size() > 500, "{name}: {}", trained.vocab_size());
        let pair = Pair::load(&trained.to_json());
        pair.check_tricky();
        pair.check("a<|im_end|>b <|endoftext|");
    }
    let own = SplitPattern::own(r"[A-Z]?[a-z]+|\d+|[^A-Za-z\d]+|[A-Z]").unwrap();
    check(&lines(), &TrainConfig { pattern: own, ..config("gpt2", 600) });
}

#[test]
fn settings_mean_what_they_mean_there() {
    for (min_frequency, max_token_length) in [(3, None), (0, Some(5)), (2, Some(2)), (1, Some(1))] {
        check(&lines(), &TrainConfig { min_frequency, max_token_length, ..config("llama3", 900) });
    }
    // More tokens than there is text for, and no text at all.
    check(&lines(), &config("qwen2", 100_000));
    check(&[], &config("gpt2", 300));
    // Special tokens that text would spell.
    let special_tokens = vec!["the".into(), "a".into(), "Ġheat".into()];
    check(&lines(), &TrainConfig { special_tokens, ..config("gpt2", 600) });
}

/// Enough different words that large steps are shared out among threads.
#[test]
fn threads_change_no_merge() {
    let mut state = 7_u64;
    let mut text = String::new();
    for _ in 0..25_000 {
        for _ in 0..4 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(["the", "re", "in", "on", "a", "st", "中文", "s"][(state >> 61) as usize]);
            text.push(char::from(b'a' + (state >> 40) as u8 % 26));
        }
        text.push(' ');
    }
    let texts: Vec<String> =
        text.as_bytes().chunks(1000).map(|part| String::from_utf8_lossy(part).into()).collect();
    let one = ours(&texts, &TrainConfig { threads: 1, ..config("gpt2", 2000) });
    assert!(one.stats.num_unique_words > 20_000, "{:?}", one.stats);
    for threads in [2, 3, 5] {
        let many = ours(&texts, &TrainConfig { threads, ..config("gpt2", 2000) });
        assert_eq!(many.merges(), one.merges(), "{threads}");
        assert_eq!(many.stats, one.stats);
    }
    check(&texts, &config("gpt2", 2000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    /// Few different bytes, so that counts are often equal and pairs overlap.
    #[test]
    fn merges_equal_on_dense_text(
        texts in proptest::collection::vec("[ab]{0,12}|(ab|ba|aa|中| a|\n){0,10}|[abc ]{0,30}", 0..20),
        which in 0..PATTERN_NAMES.len(),
        max_token_length in proptest::option::of(2_usize..8),
        extra in 0_usize..80,
    ) {
        check(&texts, &TrainConfig { max_token_length, ..config(PATTERN_NAMES[which], 259 + extra) });
    }

    /// Scripts that all versions of Unicode agree on: those of the reference's expressions are older than ours.
    #[test]
    fn merges_equal_on_any_text(
        texts in proptest::collection::vec(
            "[\u{0}-\u{24f}\u{300}-\u{36f}\u{391}-\u{3a1}\u{400}-\u{44f}\u{2000}-\u{206f}\u{3000}-\u{309f}\u{4e00}-\u{4eff}\u{ac00}-\u{acff}\u{1f600}-\u{1f64f}]{0,40}",
            0..20,
        ),
        which in 0..PATTERN_NAMES.len(),
    ) {
        check(&texts, &config(PATTERN_NAMES[which], 400));
    }
}

#[test]
fn settings_that_make_no_sense_are_errors() {
    let message = |config: &TrainConfig| {
        let texts = [Ok("a".to_owned())].into_iter();
        train(texts, config, &Silent).unwrap_err().to_string()
    };
    let plain = config("gpt2", 258);
    assert!(message(&plain).contains("`vocab_size` is `258`, expected 259"), "{}", message(&plain));
    let twice = TrainConfig { special_tokens: vec!["<s>".into(), "<s>".into()], ..config("gpt2", 500) };
    assert!(message(&twice).contains("`<s>` is named twice"));
    let empty = TrainConfig { special_tokens: vec![String::new()], ..config("gpt2", 500) };
    assert!(message(&empty).contains("is empty"));
    assert!(SplitPattern::own("(").is_err() && SplitPattern::own("").is_err());
    assert!(SplitPattern::named("gpt-9").is_none());
    let broken = [Ok("a".to_owned()), Err(std::io::Error::other("a.txt: line 3"))].into_iter();
    let error = train(broken, &config("gpt2", 500), &Silent).unwrap_err();
    assert_eq!(error.to_string(), "a.txt: line 3");
}

#[test]
fn the_configuration_names_what_conversations_need() {
    let trained = ours(&lines(), &config("qwen2", 400));
    let config_json = trained.config_json();
    assert_eq!(config_json["eos_token"], "<|im_end|>");
    assert_eq!(config_json["pad_token"], "<|endoftext|>");
    assert_eq!(config_json["added_tokens_decoder"]["1"]["content"], "<|im_start|>");
    let plain = ours(&[], &TrainConfig { special_tokens: vec!["</s>".into()], ..config("gpt2", 300) });
    assert_eq!(
        (&plain.config_json()["eos_token"], &plain.config_json()["chat_template"]),
        (&json!("</s>"), &Value::Null)
    );
}
