//! Ids against Hugging Face's `tokenizers`, on small vocabularies that it trains here on text of our own.

#![expect(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "all of this file is tests")]

use std::sync::{Arc, LazyLock};

use hearth_tokenizer::{Error, StreamDecoder, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizers::AddedToken;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::unigram::{Unigram, UnigramTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::metaspace::Metaspace;

const LINES: [&str; 14] = [
    "The heater turns on when the room falls below the limit that you have set.",
    "Don't open the valve before the pump has stopped; it'll spill, and they've warned us.",
    "  indented text\n\n\twith tabs and   many spaces  \r\n",
    "锅炉启动之前，请先检查水压和阀门。水压不足时不要启动。",
    "如果显示屏出现代码 E17，请关闭电源，等待三十秒后再试。",
    "fn main() {\n    let total: u32 = (1..=10).sum();\n    println!(\"{total}\");\n}",
    "def area(r):\n    return 3.14159 * r ** 2  # square metres",
    "Serial numbers run from 1000 to 2450, and 1,000,000 hours were tested.",
    "naïve café — “quotes” … Ünïcödé Привет мир",
    "😀👍🏽👨‍👩‍👧‍👦 emoji and 日本語のテキスト 한국어",
    "snake_case camelCase kebab-case http://example.com/a?b=c&d=%20#e",
    "the the the that this then there these those heating heater heated heat",
    "请先检查水压。请先检查阀门。请先检查电源。水压和电源都正常。",
    "ALL CAPS AND I'LL SAY IT'S FINE",
];

const TRICKY: [&str; 23] = [
    "",
    " ",
    "\n",
    "a",
    "Hello, world!",
    " leading and trailing ",
    "two  spaces   three\ttab\n\nnewlines\r\n",
    "1234567890 3.14159 1,000,000 ½ Ⅷ ٣",
    "don't can't I'LL we've 'ſ 're",
    "naïve café — “quotes” …",
    "锅炉的水压不足，请检查阀门！全角　空格",
    "日本語のテキスト 中文 한국어",
    "Привет, мир! Ελληνικά",
    "😀👍🏽👨‍👩‍👧‍👦🏳️‍🌈",
    "fn main() {\n    println!(\"{}\", x);\n}",
    "\0\u{1}\u{7f}\u{85} control \u{2028}\u{feff}",
    "e\u{301}A\u{30a} \u{a0}nbsp\u{200b}zwsp ﬁ Å",
    "العربية עברית हिन्दी ไทย",
    "\u{10ffff}\u{e000}\u{fffd}",
    "heaterheaterheaterheaterheaterheaterheaterheaterheaterheaterheaterheaterheaterheaterheater",
    "▁under▁score ▁ ▁▁",
    "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
    "\r\n\r\n  \n x",
];

const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const OWN: &str = r"[A-Z]?[a-z]+|\d+|[^A-Za-z\d]+|[A-Z]";

/// One tokenizer, loaded by both.
struct Pair {
    ours: Arc<Tokenizer>,
    theirs: tokenizers::Tokenizer,
}

impl Pair {
    fn load(json: &Value) -> Self {
        let bytes = serde_json::to_vec(json).unwrap();
        Self {
            ours: Arc::new(Tokenizer::from_json(&bytes).unwrap()),
            theirs: tokenizers::Tokenizer::from_bytes(&bytes).unwrap(),
        }
    }

    fn check(&self, text: &str) {
        let theirs = self.theirs.encode(text, false).unwrap();
        assert_eq!(self.ours.encode_special(text), theirs.get_ids(), "{text:?}");
        let wrapped = self.theirs.encode(text, true).unwrap();
        assert_eq!(self.ours.wrap(&self.ours.encode_special(text)), wrapped.get_ids(), "{text:?}");
    }

    fn check_tricky(&self) {
        LINES.iter().chain(&TRICKY).for_each(|text| self.check(text));
        self.check(&LINES.concat().repeat(20));
    }
}

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

static BPE_JSON: LazyLock<Value> = LazyLock::new(bpe);

fn with(pre_tokenizer: Value, normalizer: Value) -> Pair {
    let mut json = BPE_JSON.clone();
    json["pre_tokenizer"] = pre_tokenizer;
    json["normalizer"] = normalizer;
    Pair::load(&json)
}

fn byte_level(use_regex: bool, add_prefix_space: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true, "use_regex": use_regex})
}

fn split(pattern: &str) -> Value {
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

/// A Unigram vocabulary of 300 pieces with Metaspace.
fn unigram() -> Value {
    let trainer = UnigramTrainer::builder()
        .vocab_size(300)
        .show_progress(false)
        .unk_token(Some("<unk>".into()))
        .special_tokens(["<s>", "<pad>", "</s>", "<unk>"].map(|token| AddedToken::from(token, true)).to_vec())
        .build()
        .unwrap();
    let mut tokenizer = tokenizers::Tokenizer::new(Unigram::default());
    tokenizer.with_pre_tokenizer(Some(Metaspace::default()));
    tokenizer.train(&mut TrainerWrapper::from(trainer), LINES.iter()).unwrap();
    let mut json: Value = serde_json::from_str(&tokenizer.to_string(false).unwrap()).unwrap();
    let special = |token: &str| json!({"SpecialToken": {"id": token, "type_id": 0}});
    let entry = |token: &str, id: u32| json!({"id": token, "ids": [id], "tokens": [token]});
    json["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [special("<s>"), {"Sequence": {"id": "A", "type_id": 0}}, special("</s>")],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": entry("<s>", 0), "</s>": entry("</s>", 2)},
    });
    json
}

/// A character map in SentencePiece's format: `ａ` → `a`, `…` → `...`, `é` from its parts, U+0001 → nothing.
/// Its trie is written by hand: units of (offset << 10 | has value << 8 | byte), values at the offset.
fn charsmap_of(entries: &[(&str, &str)]) -> Vec<u8> {
    /// Children by byte, and the value.
    type Node = (Vec<(u8, usize)>, Option<u32>);
    let mut replacements = Vec::new();
    // Blocks of 256 units, one a node, so that offsets never clash.
    let mut nodes: Vec<Node> = vec![(Vec::new(), None)];
    for (from, to) in entries {
        let mut node = 0;
        for byte in from.bytes() {
            let known = nodes[node].0.iter().find(|(label, _)| *label == byte).map(|(_, child)| *child);
            node = known.unwrap_or_else(|| {
                nodes.push((Vec::new(), None));
                let child = nodes.len() - 1;
                nodes[node].0.push((byte, child));
                child
            });
        }
        nodes[node].1 = Some(replacements.len() as u32);
        replacements.extend(to.bytes().chain([0]));
    }
    let mut units = vec![0_u32; 256 * (nodes.len() + 1)];
    let block = |node: usize| 256 * (node + 1);
    units[0] = (block(0) as u32) << 10;
    for (node, (children, _)) in nodes.iter().enumerate() {
        for (byte, child) in children {
            let at = block(node) ^ usize::from(*byte);
            let has_value = u32::from(nodes[*child].1.is_some());
            units[at] = ((at ^ block(*child)) as u32) << 10 | has_value << 8 | u32::from(*byte);
        }
    }
    for (node, (_, value)) in nodes.iter().enumerate() {
        if let Some(value) = value {
            units[block(node)] = *value | 1 << 31;
        }
    }
    let mut blob = (4 * units.len() as u32).to_le_bytes().to_vec();
    blob.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
    blob.extend(replacements);
    blob
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | u32::from(*chunk.get(at).unwrap_or(&0)));
        for at in 0..4 {
            let digit = char::from(DIGITS[(bits >> (18 - 6 * at) & 63) as usize]);
            out.push(if at <= chunk.len() { digit } else { '=' });
        }
    }
    out
}

static UNIGRAMS: LazyLock<Vec<Pair>> = LazyLock::new(|| {
    let plain = unigram();
    let mut mapped = plain.clone();
    let map = charsmap_of(&[("ａ", "a"), ("…", "..."), ("e\u{301}", "é"), ("\u{1}", ""), ("　", " ")]);
    mapped["normalizer"] = json!({"type": "Sequence", "normalizers": [
        {"type": "Precompiled", "precompiled_charsmap": base64(&map)},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
    ]});
    let mut split = plain.clone();
    split["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
        {"type": "WhitespaceSplit"}, plain["pre_tokenizer"].clone(),
    ]});
    [plain, mapped, split].iter().map(Pair::load).collect()
});

#[test]
fn unigram_ids_equal_on_hard_text() {
    for pair in UNIGRAMS.iter() {
        pair.check_tricky();
        for text in ["ａｂｃ…  e\u{301}x \u{1}", "<s>a</s> b", "豈 unknown 龘龘 龘"] {
            pair.check(text);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn unigram_ids_equal_on_any_text(text in any::<String>(), which in 0..3_usize) {
        UNIGRAMS[which].check(&text);
    }

    #[test]
    fn unigram_ids_equal_on_text_of_known_words(
        text in "(the|heat|er| |  |水压|请先|龘|ａ|…|e\u{301}|▁|[a-z]{1,3}){0,14}", which in 0..3_usize,
    ) {
        UNIGRAMS[which].check(&text);
    }
}

#[test]
fn unigram_text_comes_back_without_its_control_tokens() {
    let tokenizer = &UNIGRAMS[0].ours;
    let ids = tokenizer.wrap(&tokenizer.encode("The heater 请先检查"));
    assert_eq!((ids[0], *ids.last().unwrap()), (0, 2));
    assert_eq!(tokenizer.decode(&ids), "The heater 请先检查");
    let mut stream = StreamDecoder::new(Arc::clone(tokenizer));
    let text: String = ids.iter().map(|id| stream.push(*id)).collect();
    assert_eq!(text + &stream.finish(), "The heater 请先检查");
    assert!(!tokenizer.encode("<s>").contains(&0), "plain text never becomes a control token");
}

#[test]
fn files_that_would_be_read_wrongly_are_refused() {
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut json = BPE_JSON.clone();
        change(&mut json);
        Tokenizer::from_json(&serde_json::to_vec(&json).unwrap()).unwrap_err()
    };
    let refused: [fn(&mut Value); 6] = [
        |json| json["pre_tokenizer"] = Value::Null,
        |json| json["pre_tokenizer"] = json!({"type": "BertPreTokenizer"}),
        |json| json["normalizer"] = json!({"type": "BertNormalizer"}),
        |json| json["model"]["type"] = "WordPiece".into(),
        |json| json["model"]["continuing_subword_prefix"] = "##".into(),
        |json| json["pre_tokenizer"] = split("").pointer("/pretokenizers/0").unwrap().clone(),
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
