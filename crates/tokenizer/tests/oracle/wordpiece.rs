//! BERT's pieces with its normaliser and pre-tokenizer.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{LINES, Pair};

const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// Specials, then pieces of up to four letters of the test lines, at the start of a word and inside it. Some letters
/// have no continuing piece, so that unknown words occur.
fn vocabulary() -> Vec<String> {
    let mut tokens: Vec<String> = SPECIAL.map(str::to_owned).to_vec();
    let lower = LINES.concat().to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric()).chain(["é", "e", "2", "豈"]);
    for word in words.filter(|word| !word.is_empty()) {
        let chars: Vec<char> = word.chars().collect();
        tokens.push(chars.iter().take(4).collect());
        tokens.push(chars[..1].iter().collect());
        for part in chars[1..].chunks(3) {
            tokens.push(format!("##{}", part.iter().collect::<String>()));
            tokens.extend(part.iter().filter(|c| **c != 'z').map(|c| format!("##{c}")));
        }
    }
    tokens.extend(".,!?'-()\"#[]<>|。，！…“”".chars().map(String::from));
    tokens.extend(["##", "##ing", "UPPER", "É"].map(str::to_owned));
    let mut seen = std::collections::HashSet::new();
    tokens.retain(|token| seen.insert(token.clone()));
    tokens
}

fn wordpiece(normalizer: &Value, max_chars: usize) -> Value {
    let tokens = vocabulary();
    let vocab: serde_json::Map<String, Value> =
        tokens.iter().zip(0..).map(|(token, id)| (token.clone(), Value::from(id))).collect();
    let added = SPECIAL.iter().zip(0..).map(|(content, id)| {
        json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": false})
    });
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": max_chars, "vocab": vocab},
    })
}

fn bert(clean: bool, chinese: bool, strip: Option<bool>, lowercase: bool) -> Value {
    json!({"type": "BertNormalizer", "clean_text": clean, "handle_chinese_chars": chinese,
           "strip_accents": strip, "lowercase": lowercase})
}

static PAIRS: LazyLock<Vec<Pair>> = LazyLock::new(|| {
    vec![
        Pair::load(&wordpiece(&bert(true, true, None, true), 100)),
        Pair::load(&wordpiece(&bert(true, true, Some(false), true), 12)),
        Pair::load(&wordpiece(&bert(false, true, Some(true), false), 100)),
        Pair::load(&wordpiece(&bert(true, false, None, false), 100)),
        Pair::load(&wordpiece(&Value::Null, 100)),
    ]
});

#[test]
fn wordpiece_ids_equal_on_hard_text() {
    for pair in PAIRS.iter() {
        pair.check_tricky();
        for text in ["[CLS] the [SEP]", "a[MASK]b", "##ing", "[UNK]", "ΟΔΟΣ İstanbul ẞ", "豈更車"] {
            pair.check(text);
        }
        for len in [11, 12, 13, 99, 100, 101, 5000] {
            pair.check(&"heated".repeat(len)[..len]);
            pair.check(&"é".repeat(len));
        }
    }
}

#[test]
fn control_characters_marks_and_spaces_equal_one_by_one() {
    // What Unicode has added since version 9 may decompose for one of both and not for the other.
    const NEWER: [std::ops::RangeInclusive<char>; 6] = [
        '\u{105c9}'..='\u{105e4}',
        '\u{11383}'..='\u{11391}',
        '\u{113c5}'..='\u{113c8}',
        '\u{11938}'..='\u{11938}',
        '\u{16121}'..='\u{16128}',
        '\u{16d68}'..='\u{16d6a}',
    ];
    let all = ('\0'..='\u{1ffff}').chain('\u{2f800}'..='\u{2fa1f}').chain('\u{e0000}'..='\u{e01ef}');
    let all: Vec<char> = all.filter(|c| !NEWER.iter().any(|range| range.contains(c))).collect();
    for pair in [&PAIRS[0], &PAIRS[2]] {
        for chars in all.chunks(512) {
            let text: String = chars.iter().flat_map(|c| ['t', *c, 'e', ' ']).collect();
            pair.check(&text);
        }
    }
}

#[test]
fn pieces_come_back_as_words() {
    let tokenizer = &PAIRS[0].ours;
    let ids = tokenizer.encode("The heater is heating");
    assert_eq!(tokenizer.decode(&tokenizer.wrap(&ids)), "the heater is heating");
    assert!(!tokenizer.encode("[CLS] [SEP] [MASK]").iter().any(|id| *id != 1 && *id < 5));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn wordpiece_ids_equal_on_any_text(text in any::<String>(), which in 0..5_usize) {
        PAIRS[which].check(&text);
    }

    #[test]
    fn wordpiece_ids_equal_on_text_of_known_words(
        text in "(the|heat|er|HEATED|É|é|e\u{301}|ing| |  |\n|\u{0}|\u{200b}|水压|请|豈|😀|👨‍👩‍👧|\\[SEP\\]|##|[.,!?-]|[a-z]{1,40}){0,14}",
        which in 0..5_usize,
    ) {
        PAIRS[which].check(&text);
    }
}
