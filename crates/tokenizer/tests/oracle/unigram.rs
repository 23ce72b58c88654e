//! Unigram vocabularies with Metaspace and character maps.

use std::sync::{Arc, LazyLock};

use hearth_tokenizer::StreamDecoder;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizers::AddedToken;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::unigram::{Unigram, UnigramTrainer};
use tokenizers::pre_tokenizers::metaspace::Metaspace;

use crate::{LINES, Pair};

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

pub(crate) fn base64(bytes: &[u8]) -> String {
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
