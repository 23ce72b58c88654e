//! From texts to a tokenizer, its comparison, and token shards: through the real binary, on files that the tests make.

#![expect(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "all of this file is tests")]

#[expect(dead_code, reason = "what the other tests use")]
mod program;

use hearth_artifacts::shards::TokenShards;
use hearth_tokenizer::{ChatFormat, Tokenizer, chat_template};
use program::{Scene, run};
use serde_json::{Value, json};

fn json_lines(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// English and Chinese, some of it with what a vocabulary's special tokens are spelled like.
fn texts() -> Vec<String> {
    let text = |index: usize| {
        format!(
            "Kiln {index} fires at {} degrees; the heater of shelf{} turns on below the limit{}. <|im_end|>\n\
             锅炉{index}启动之前，请先检查水压和阀门。{}",
            900 + index * 7 % 400,
            ["ing", "ed", "er", "ly", "ness"][index % 5],
            ["wise", "fold", "ish"][index % 3],
            ["水压不足时不要启动", "请关闭电源", "等待三十秒后再试", "阀门正常"][index % 4],
        )
    };
    (0..400).map(text).collect()
}

fn write_corpus(scene: &Scene) {
    let rows: Vec<String> = texts().iter().map(|text| json!({ "text": text }).to_string()).collect();
    scene.write("corpus.jsonl", rows.join("\n"));
    scene.write("plain.txt", texts().join("\n\n"));
    let chat = json!({"messages": [
        {"role": "user", "content": "Is <|im_end|> text?"}, {"role": "assistant", "content": "It is."},
    ]});
    scene.write("chats.jsonl", format!("{chat}\n").repeat(5));
}

fn train(scene: &Scene, output: &str, threads: &str) -> Value {
    let args = ["tokenizer", "train", &scene.text("corpus.jsonl"), &scene.text("plain.txt")];
    let options = ["--vocab-size", "400", "-o", &scene.text(output), "--json", "--threads", threads];
    let outcome = run(scene.hearth(&[&args[..], &options[..]].concat())).expect(0);
    json_lines(&outcome.stdout).remove(0)
}

#[test]
fn a_trained_tokenizer_serves_texts_conversations_and_packing() {
    let scene = Scene::new("tokenizer-train");
    write_corpus(&scene);
    let report = train(&scene, "tok", "2");
    assert_eq!((&report["vocab_size"], &report["special_tokens"][2]), (&json!(400), &json!("<|im_end|>")));
    train(&scene, "again", "1");
    let read = |name: &str| fs_err::read(scene.path(name)).unwrap();
    assert!(read("tok/tokenizer.json") == read("again/tokenizer.json"), "threads change nothing");

    let compare = ["tokenizer", "compare", "--text", &scene.text("plain.txt"), &scene.text("tok"), "--json"];
    let rows = json_lines(&run(scene.hearth(&compare)).expect(0).stdout);
    assert_eq!((rows.len(), &rows[0]["lossless"]), (1, &json!(true)));
    assert!(rows[0]["bytes_per_token"].as_f64().unwrap() > 3.0, "{rows:?}");

    let pack = ["data", "pack", &scene.text("corpus.jsonl"), &scene.text("plain.txt")];
    let options =
        ["--tokenizer", &scene.text("tok"), "-o", &scene.text("shards"), "--json", "--seq-len", "256"];
    let report =
        json_lines(&run(scene.hearth(&[&pack[..], &options[..]].concat())).expect(0).stdout).remove(0);
    assert_eq!((&report["documents"], &report["end_of_document"]), (&json!(401), &json!(0)));
    assert!(report["fill"].as_f64().unwrap() > 0.95, "{report}");
    let shards = TokenShards::open(&scene.path("shards")).unwrap();
    shards.verify().unwrap();
    let tokenizer = Tokenizer::from_json(&read("tok/tokenizer.json")).unwrap();
    for (index, text) in (0..).zip(texts()) {
        let mut ids = Vec::new();
        shards.document(index).unwrap().ids_into(&mut ids).unwrap();
        assert_eq!(tokenizer.decode(&ids), text);
        assert_eq!(
            ids.iter().filter(|id| **id < 3).collect::<Vec<_>>(),
            [&0],
            "one end, and no special text"
        );
        assert!(shards.origin(index).unwrap().ends_with(&format!("corpus.jsonl:{}", index + 1)));
    }
    assert_eq!(shards.manifest().sources.len(), 2);

    let chats =
        ["data", "pack", &scene.text("chats.jsonl"), "--conversations", "--tokenizer", &scene.text("tok")];
    run(scene.hearth(&[&chats[..], &["-o", &scene.text("chats")]].concat())).expect(0);
    let shards = TokenShards::open(&scene.path("chats")).unwrap();
    let template = chat_template(&read("tok/tokenizer_config.json")).unwrap();
    let format = ChatFormat::new(tokenizer.into(), template.as_deref()).unwrap();
    let row = fs_err::read_to_string(scene.path("chats.jsonl")).unwrap();
    let expected = format.training(&serde_json::from_str(row.lines().next().unwrap()).unwrap()).unwrap();
    let (mut ids, mut mask) = (Vec::new(), Vec::new());
    let document = shards.document(4).unwrap();
    document.ids_into(&mut ids).unwrap();
    document.mask_of(0..document.len(), &mut mask);
    assert_eq!((ids, mask), (expected.ids, expected.mask));
}

#[test]
fn what_is_wrong_is_named_and_nothing_is_left_behind() {
    let scene = Scene::new("tokenizer-bad");
    write_corpus(&scene);
    train(&scene, "tok", "2");
    scene.write("bad.jsonl", "{\"text\":\"a\"}\n{\"text\":\n");
    scene.write("cut.jsonl.zst", b"\x28\xb5\x2f\xfd\x04");
    let (tok, bad, corpus) = (scene.text("tok"), scene.text("bad.jsonl"), scene.text("corpus.jsonl"));
    let (out, cut, plain) = (scene.text("out"), scene.text("cut.jsonl.zst"), scene.text("plain.txt"));
    let cases: [(&[&str], &[&str]); 9] = [
        (
            &["tokenizer", "train", &corpus, "-o", &tok],
            &["tokenizer.json` is there already", "another folder"],
        ),
        (&["tokenizer", "train", &corpus, "-o", &out, "--pattern", "qwen9"], &["`qwen9`", "nanochat"]),
        (&["tokenizer", "train", &corpus, "-o", &out, "--pattern", "("], &["`--pattern`"]),
        (&["tokenizer", "train", &corpus, "-o", &out, "--vocab-size", "20"], &["`20`", "expected 259"]),
        (&["tokenizer", "train", &bad, "-o", &out], &["bad.jsonl", "line 2"]),
        (&["data", "pack", &bad, "--tokenizer", &tok, "-o", &out], &["bad.jsonl:2", "EOF"]),
        (&["data", "pack", &cut, "--tokenizer", &tok, "-o", &out], &["cut.jsonl.zst", "can't be read"]),
        (
            &["data", "pack", &plain, "--tokenizer", &tok, "-o", &out, "--conversations"],
            &["plain.txt:1", "no conversation"],
        ),
        (&["data", "pack", &corpus, "--tokenizer", &tok, "-o", &tok], &["holds files already"]),
    ];
    for (args, expected) in cases {
        let outcome = run(scene.hearth(args)).expect(1);
        for part in expected {
            assert!(outcome.stderr.contains(part), "`{part}` is missing in:\n{}", outcome.stderr);
        }
        assert!(!scene.path("out").exists(), "{args:?}");
    }
    let set_aside = ["data", "pack", &bad, "--tokenizer", &tok, "-o", &out, "--skip-bad", "--json"];
    let outcome = run(scene.hearth(&set_aside)).expect(0);
    let report = json_lines(&outcome.stdout).remove(0);
    assert_eq!((&report["documents"], &report["bad"]), (&json!(1), &json!(1)));
    assert!(outcome.stderr.contains("set aside") && outcome.stderr.contains("bad.jsonl:2"));
    assert_eq!(TokenShards::open(&scene.path("out")).unwrap().manifest().sources[0].num_skipped, 1);
}
