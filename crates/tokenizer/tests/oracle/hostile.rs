//! Files that are damaged, hostile or of a kind that isn't read: an error, never a guess or a panic.

use hearth_tokenizer::{Error, Tokenizer};
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
