//! Files good and bad, read with the format of a tiny model.

use hearth_artifacts::progress::Silent;
use hearth_kernels::pool::Pool;
use hearth_model::Model;
use hearth_testkit::{Scratch, tiny_model};

use super::*;

struct Bench {
    folder: Scratch,
    model: Model,
}

impl Bench {
    fn new() -> Self {
        let folder = Scratch::new("conversations").unwrap();
        tiny_model(&folder.join("model")).unwrap();
        let model = Model::open(&folder.join("model"), &Pool::new(1)).unwrap();
        Self { folder, model }
    }

    fn read(&self, name: &str, content: impl AsRef<[u8]>, max_tokens: usize) -> Result<Examples> {
        let path = self.folder.join(name);
        fs_err::write(&path, content).unwrap();
        read(&[path], &self.model.chat, max_tokens, &Silent)
    }
}

const ROW: &str = r#"{"prompt": "hot", "completion": "the kiln"}"#;

#[test]
fn rows_have_the_ids_and_mask_of_the_conversation_format() {
    let bench = Bench::new();
    let found = bench.read("a.jsonl", format!("\u{feff}{ROW}\n\n{ROW}"), 100).unwrap();
    assert_eq!((found.examples.len(), found.skipped.len()), (2, 0));
    let conversation = conversation(&serde_json::from_str(ROW).unwrap()).unwrap();
    assert_eq!(found.examples[1], bench.model.chat.training(&conversation).unwrap());
    let places: Vec<String> = found.places.iter().map(ToString::to_string).collect();
    assert!(places[0].ends_with("a.jsonl:1") && places[1].ends_with("a.jsonl:3"), "{places:?}");
    let array = bench.read("a.json", format!(" [{ROW}, {ROW}]"), 100).unwrap();
    assert_eq!(array.examples, found.examples);
    assert!(array.places[1].to_string().ends_with("a.json[2]"));
}

#[test]
fn rows_that_can_not_be_used_are_counted_with_place_and_reason() {
    let bench = Bench::new();
    let long = format!(r#"{{"prompt": "{}", "completion": "a"}}"#, "x ".repeat(200));
    let rows = [ROW, "{", "[]", &long, r#"{"messages": [{"role": "user", "content": "a"}]}"#];
    let mut bytes = rows.join("\n").into_bytes();
    bytes.extend(b"\n{\"prompt\": \"\xff\", \"completion\": \"a\"}\n");
    let found = bench.read("b.jsonl", bytes, 100).unwrap();
    assert_eq!(found.examples.len(), 1);
    let expected =
        ["isn't JSON", "a list", "more than the 100 allowed", "`user` turn", "byte 13 isn't UTF-8"];
    assert_eq!(found.skipped.len(), expected.len());
    for ((skipped, expected), line) in found.skipped.iter().zip(expected).zip(2..) {
        let shown = skipped.to_string();
        assert!(shown.contains(&format!("b.jsonl:{line}: ")) && shown.contains(expected), "{shown}");
    }
    let broken = bench.read("b.json", format!("[{ROW}, "), 100).unwrap_err().to_string();
    assert!(broken.contains("b.json") && broken.contains("EOF"), "{broken}");
}

#[test]
fn equal_examples_stay_on_one_side_of_the_split() {
    let bench = Bench::new();
    let rows: Vec<String> =
        (0..40).map(|i| format!(r#"{{"prompt": "{}", "completion": "the kiln"}}"#, i % 10)).collect();
    let found = bench.read("c.jsonl", rows.join("\n"), 100).unwrap();
    let [train, validation] = found.clone().split(0.2, 1);
    assert_eq!((train.0.len(), validation.0.len()), (32, 8));
    assert!(validation.0.iter().all(|example| !train.0.contains(example)));
    assert_eq!(found.clone().split(0.2, 1)[1].1, validation.1);
    assert_ne!(found.clone().split(0.2, 2)[1].1, validation.1);
    assert_eq!(found.split(1.0, 1)[0].0.len(), 4, "something is left to train on");
}
