//! Files that are damaged, hostile or of a kind that isn't read: an error, never a guess or a panic.

use hearth_tokenizer::{Error, Kind, TokenKind, Tokenizer, Vocabulary};
use serde_json::{Value, json};

use crate::byte_bpe::{BPE_JSON, split};

#[test]
fn files_that_would_be_read_wrongly_are_refused() {
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut json = BPE_JSON.clone();
        change(&mut json);
        Tokenizer::from_json(&serde_json::to_vec(&json).unwrap()).unwrap_err()
    };
    let refused: [fn(&mut Value); 6] = [
        |json| json["pre_tokenizer"] = json!({"type": "UnicodeScripts"}),
        |json| json["normalizer"] = json!({"type": "Nmt"}),
        |json| json["model"]["type"] = "WordLevel".into(),
        |json| json["model"]["dropout"] = 0.1.into(),
        |json| json["model"]["continuing_subword_prefix"] = "##".into(),
        |json| json["pre_tokenizer"]["type"] = "Metaspace".into(),
    ];
    for change in refused {
        let error = changed(&change);
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    }
    let error = changed(&|json| json["model"]["merges"][0] = json!(["q", "Ġzz"]));
    assert!(matches!(error, Error::Merge { merge_index: 0, .. }), "{error}");
    let error = changed(&|json| json["pre_tokenizer"] = split("(unclosed"));
    assert!(matches!(error, Error::Pattern { .. }), "{error}");
    assert!(matches!(Tokenizer::from_json(b"{\"model\":"), Err(Error::Json(_))));
}

/// A small `tokenizer.json` of each kind, changed.
fn load(change: impl Fn(&mut Value)) -> Result<Tokenizer, Error> {
    let mut json = json!({
        "added_tokens": [], "normalizer": null, "pre_tokenizer": null, "post_processor": null,
        "model": {"type": "BPE", "unk_token": "u", "byte_fallback": true, "fuse_unk": true,
                  "vocab": {"u": 0, "a": 1, "b": 2, "ab": 3, "aba": 4}, "merges": [["a", "b"], ["ab", "a"]]},
    });
    change(&mut json);
    Tokenizer::from_json(&serde_json::to_vec(&json).unwrap())
}

#[test]
fn absurd_sizes_are_errors_and_cost_no_memory() {
    let check = |change: fn(&mut Value), expected: &str| {
        let message = load(change).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    };
    check(|json| json["model"]["vocab"]["z"] = 4_294_967_295_u64.into(), "`model.vocab` has 6 entries");
    check(|json| json["model"]["vocab"]["z"] = 99_999_999_999_u64.into(), "isn't the JSON it should be");
    check(|json| json["model"]["vocab"]["z"] = (-1).into(), "isn't the JSON it should be");
    let added = |id: u64, content: &str| json!([{"id": id, "content": content, "special": true}]);
    assert!(load(|json| json["added_tokens"] = added(4_000_000_000, "<x>")).is_err());
    let long = "a".repeat(100_000);
    let error = load(|json| json["added_tokens"] = added(5, &long)).unwrap_err().to_string();
    assert!(error.contains("token 5 has `100000` bytes"), "{error}");
    let error = load(|json| json["model"]["vocab"][&long] = 5.into()).unwrap_err().to_string();
    assert!(error.contains("`100000` bytes"), "{error}");
    let post = json!({"type": "TemplateProcessing", "special_tokens": {},
                      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]});
    let error = load(|json| json["post_processor"] = post.clone()).unwrap_err().to_string();
    assert!(error.contains("`post_processor` names the token `<s>`"), "{error}");
    let post = json!({"type": "BertProcessing", "sep": ["[SEP]", 77], "cls": ["[CLS]", 1]});
    let error = load(|json| json["post_processor"] = post.clone()).unwrap_err();
    assert!(matches!(error, Error::IdOutOfRange { id: 77, .. }), "{error}");
}

#[test]
fn merges_that_lead_nowhere_are_errors() {
    let check = |merge: Value, expected: &str| {
        let message = load(|json| json["model"]["merges"] = json!([merge])).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    };
    check(json!(["a", "z"]), "lacks the right part");
    check(json!(["z", "a"]), "lacks the left part");
    check(json!(["b", "a"]), "lacks the result");
    check(json!("ab"), "isn't two parts with a space between");
    check(json!(["a"]), "isn't the JSON it should be");
}

#[test]
fn merges_in_a_circle_end() {
    // The later merges take apart nothing and join what is joined already.
    let circle = load(|json| {
        json["model"]["vocab"] = json!({"a": 0, "aa": 1, "": 2, "aaaa": 3, "u": 4});
        json["model"]["merges"] = json!([["aa", "aa"], ["a", "a"], ["", "a"], ["a", ""], ["aa", "aa"]]);
    });
    let circle = circle.unwrap();
    for len in [0, 1, 5, 127, 128, 129, 1000] {
        let text = "a".repeat(len);
        assert_eq!(circle.decode(&circle.encode(&text)), text, "{len}");
    }
}

#[test]
fn deep_nesting_and_wild_steps_are_errors() {
    let deep = r#"{"type": "Sequence", "normalizers": ["#.repeat(5000) + &"]}".repeat(5000);
    let text = format!(r#"{{"normalizer": {deep}, "model": {{"type": "BPE", "vocab": {{}}}}}}"#);
    assert!(matches!(Tokenizer::from_json(text.as_bytes()), Err(Error::Json(_))));
    let unread: [fn(&mut Value); 7] = [
        |json| json["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "!!!"}),
        |json| json["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "/////w=="}),
        |json| {
            json["normalizer"] =
                json!({"type": "Replace", "pattern": {"Regex": "(a{1000}){1000}"}, "content": ""});
        },
        |json| json["normalizer"] = json!({"type": "Replace", "pattern": {"Regex": "("}, "content": ""}),
        |json| json["pre_tokenizer"] = json!({"type": "Metaspace", "replacement": "_"}),
        |json| json["pre_tokenizer"] = json!("ByteLevel"),
        |json| json["model"]["vocab"] = json!([["a", "b"]]),
    ];
    for (index, change) in unread.iter().enumerate() {
        assert!(load(change).is_err(), "change {index} is refused");
    }
    assert!(
        Tokenizer::from_json(b"{\"model\": {\"vocab\": {\"\xff\": 0}}}").is_err(),
        "bytes that aren't UTF-8"
    );
    assert!(Tokenizer::from_json(br#"{"model": {"vocab": {"\ud800": 0}}}"#).is_err(), "half a character");
    assert!(Tokenizer::from_json(b"").is_err());
}

#[test]
fn steps_that_multiply_text_are_refused_before_there_is_any() {
    let step = |content: &str| json!({"type": "Replace", "pattern": {"String": "a"}, "content": content});
    let with = |steps: Vec<Value>| {
        load(|json| json["normalizer"] = json!({"type": "Sequence", "normalizers": steps}))
    };
    let message = with(vec![step("aaaaaaaaa"); 12]).unwrap_err().to_string();
    assert!(message.contains("may make `1000000000000` bytes of one"), "{message}");
    let long = with(vec![json!({"type": "Prepend", "prepend": "x".repeat(10_000_000)})]);
    assert!(matches!(long, Err(Error::Growth { growth: 10_000_001, .. })));
    assert_eq!(with(vec![step("b"), step("bb")]).unwrap().encode("aa"), [2, 2]);
}

#[test]
fn scores_that_are_no_numbers_are_errors_and_extreme_ones_are_not() {
    for kind in [Kind::Unigram, Kind::CharBpe] {
        let with_score = |score: f32| {
            let tokens = ["<unk>", "a", "b", "ab"].map(str::to_owned).to_vec();
            let mut vocabulary = Vocabulary::new(kind, tokens);
            vocabulary.scores = vec![0.0, -1.0, score, -2.0];
            vocabulary.unk = Some(0);
            vocabulary.token_kinds = vec![TokenKind::Normal; 4];
            vocabulary.token_kinds[0] = TokenKind::Unknown;
            Tokenizer::from_parts(vocabulary)
        };
        let message = with_score(f32::NAN).unwrap_err().to_string();
        assert!(message.contains("`scores` is `NaN`"), "{message}");
        for score in [f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, -0.0] {
            let tokenizer = with_score(score).unwrap();
            assert!(!tokenizer.encode("abbab zzz").is_empty(), "{score}");
        }
        let mut short = Vocabulary::new(kind, vec!["a".to_owned()]);
        short.unk = Some(0);
        assert!(matches!(Tokenizer::from_parts(short), Err(Error::Count { field: "scores", .. })));
    }
}

#[test]
fn a_vocabulary_of_nothing_encodes_to_nothing() {
    let empty = load(|json| {
        json["model"] = json!({"type": "BPE", "vocab": {}, "merges": []});
    });
    let empty = empty.unwrap();
    assert_eq!((empty.encode("abc 中"), empty.num_lost_bytes("abc 中")), (vec![], 7));
    let unknown =
        load(|json| json["model"] = json!({"type": "WordPiece", "vocab": {}, "unk_token": "[UNK]"}));
    assert!(matches!(unknown, Err(Error::NoUnknownToken)));
}

#[test]
fn a_line_of_megabytes_without_spaces_is_no_quadratic_work() {
    // By scanning or by trying all pieces at all places, any of these would take hours.
    let pieces =
        json!({"type": "WordPiece", "unk_token": "u", "vocab": {"u": 0, "a": 1, "##a": 2, "##ab": 3}});
    let unigram = json!({"type": "Unigram", "unk_id": 0, "vocab": [["u", 0.0], ["a", -1.0], ["ab", -1.5]]});
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true});
    let line = "ab".repeat(1 << 20);
    let kinds: [&dyn Fn(&mut Value); 5] = [
        &|_| {},
        &|json| {
            json["pre_tokenizer"] = bytes.clone();
            json["model"]["byte_fallback"] = false.into();
        },
        &|json| json["model"] = pieces.clone(),
        &|json| json["model"] = unigram.clone(),
        &|json| json["added_tokens"] = json!([{"id": 5, "content": "ab".repeat(500), "special": true}]),
    ];
    for change in kinds {
        let tokenizer = load(change).unwrap();
        let num_ids = tokenizer.encode_special(&line).len();
        assert!((1..=line.len()).contains(&num_ids), "{:?}: {num_ids} ids", tokenizer.kind());
    }
}
