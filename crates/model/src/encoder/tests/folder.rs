//! The tiny encoder as a folder of safetensors, in the forms that the hub has.

use std::path::Path;
use std::sync::Arc;

use hearth_kernels::pool::Pool;
use serde_json::{Value, json};

use super::fixture::{EPS, Fixture, HEADS, HIDDEN, INNER, LAYERS, PIECES, POSITIONS, Storage, VOCAB};
use super::{DENSE_TOLERANCE, TEXTS, reference};
use crate::encoder::Encoder;

/// A folder whose files a test may change before it is opened.
struct Folder {
    fixture: Fixture,
    place: tempfile::TempDir,
    config: Value,
    /// Rows of zeros before the position table, as `RoBERTa` has.
    first_position: usize,
}

impl Folder {
    fn new() -> Self {
        let config = json!({
            "model_type": "bert", "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS, "intermediate_size": INNER, "vocab_size": VOCAB,
            "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "layer_norm_eps": EPS,
            "hidden_act": "gelu", "pad_token_id": 1,
        });
        let place = tempfile::tempdir().unwrap();
        let folder = Self { fixture: Fixture::new(Storage::Dense), place, config, first_position: 0 };
        folder.put("tokenizer.json", &tokenizer_json());
        folder
    }

    fn path(&self) -> &Path {
        self.place.path()
    }

    fn put(&self, name: &str, json: &Value) {
        let path = self.path().join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, json.to_string()).unwrap();
    }

    fn write_weights(&self, prefix: &str) {
        let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = self
            .fixture
            .tensors
            .iter()
            .map(|(name, values)| {
                let mut values = values.clone();
                if name == "emb.pos" {
                    values.splice(0..0, vec![0.0; self.first_position * HIDDEN]);
                }
                let is_vector =
                    name.strip_suffix('b').is_some_and(|rest| rest.ends_with('.')) || name.ends_with("ln.w");
                let cols = if name.ends_with("fo.w") { INNER } else { HIDDEN };
                let shape = if is_vector { vec![values.len()] } else { vec![values.len() / cols, cols] };
                let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                (format!("{prefix}{}", hub_name(name)), shape, bytes)
            })
            .collect();
        let views = tensors.iter().map(|(name, shape, bytes)| {
            let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
            (name.clone(), view.unwrap())
        });
        safetensors::serialize_to_file(views, None, &self.path().join("model.safetensors")).unwrap();
    }

    fn try_open(&self) -> crate::encoder::Result<Encoder> {
        self.put("config.json", &self.config);
        if !self.path().join("model.safetensors").exists() {
            self.write_weights("");
        }
        Encoder::open(self.path(), Arc::new(Pool::new(2)))
    }

    fn open(&self) -> Encoder {
        self.try_open().unwrap()
    }

    fn error(&self) -> String {
        self.try_open().expect_err("can't be right").to_string()
    }
}

/// The names of `transformers`, written out once more.
fn hub_name(short: &str) -> String {
    let (path, kind) = match short.rsplit_once('.') {
        Some((path, "w")) => (path, "weight"),
        Some((path, "b")) => (path, "bias"),
        _ => (short, "weight"),
    };
    let module = match path.split_once('.').unwrap() {
        ("emb", "word") => "embeddings.word_embeddings".to_owned(),
        ("emb", "pos") => "embeddings.position_embeddings".to_owned(),
        ("emb", "type") => "embeddings.token_type_embeddings".to_owned(),
        ("emb", "ln") => "embeddings.LayerNorm".to_owned(),
        (layer, part) => {
            let part = match part {
                "q" => "attention.self.query",
                "k" => "attention.self.key",
                "v" => "attention.self.value",
                "ao" => "attention.output.dense",
                "aln" => "attention.output.LayerNorm",
                "fi" => "intermediate.dense",
                "fo" => "output.dense",
                "oln" => "output.LayerNorm",
                other => panic!("{other}"),
            };
            format!("encoder.layer.{}.{part}", &layer[1..])
        }
    };
    format!("{module}.{kind}")
}

fn tokenizer_json() -> Value {
    let vocab: Vec<Value> = PIECES
        .iter()
        .enumerate()
        .map(|(id, piece)| {
            let score = if id < 4 { 0.0 } else { -8.0 + 0.5 * piece.chars().count() as f64 };
            json!([piece, score])
        })
        .collect();
    let added: Vec<Value> = [(0, "<s>"), (1, "<pad>"), (2, "</s>"), (3, "<unk>"), (23, "<mask>")]
        .map(|(id, content)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false, "special": true})
        })
        .to_vec();
    let token = |id: usize, text: &str| json!({"id": text, "ids": [id], "tokens": [text]});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [],
            "special_tokens": {"<s>": token(0, "<s>"), "</s>": token(2, "</s>")},
        },
        "decoder": null,
        "model": {"type": "Unigram", "unk_id": 3, "vocab": vocab, "byte_fallback": false},
    })
}

fn check(encoder: &Encoder, prompt: &str, vectors: &[Vec<f32>], expected: impl Fn(&[u32]) -> Vec<f64>) {
    for (text, vector) in TEXTS.iter().zip(vectors) {
        let ids = encoder.encode(prompt, text);
        for (value, expected) in vector.iter().zip(expected(&ids)) {
            assert!((f64::from(*value) - expected).abs() < DENSE_TOLERANCE, "`{text}`");
        }
    }
}

#[test]
fn a_bert_folder_gives_the_reference_vectors() {
    for prefix in ["", "bert."] {
        let folder = Folder::new();
        folder.write_weights(prefix);
        let encoder = folder.open();
        let vectors = encoder.embed_passages(&TEXTS).unwrap().vectors;
        check(&encoder, "", &vectors, |ids| reference::embed(&folder.fixture, ids));
    }
}

#[test]
fn positions_of_roberta_begin_behind_the_padding() {
    let plain = Folder::new();
    let expected = plain.open().embed_queries(&TEXTS).unwrap();
    let mut folder = Folder::new();
    folder.first_position = 2;
    folder.config["model_type"] = "xlm-roberta".into();
    folder.config["max_position_embeddings"] = (POSITIONS + 2).into();
    let encoder = folder.open();
    assert_eq!(encoder.max_tokens(), POSITIONS);
    assert_eq!(encoder.embed_queries(&TEXTS).unwrap(), expected);
}

#[test]
fn pooling_is_the_folder_s() {
    let folder = Folder::new();
    folder.put(
        "1_Pooling/config.json",
        &json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}),
    );
    let encoder = folder.open();
    let vectors = encoder.embed_queries(&TEXTS).unwrap().vectors;
    check(&encoder, "", &vectors, |ids| reference::embed_first(&folder.fixture, ids));
}

#[test]
fn words_before_texts_are_the_folder_s_else_follow_the_name() {
    let bits = |encoder: &Encoder, text: &str| encoder.embed_queries(&[text]).unwrap().vectors;
    let bare = Folder::new().open();
    let named = Folder::new().open().with_name("tiny-e5");
    assert_eq!(bits(&named, "ab"), bits(&bare, "query: ab"));
    let folder = Folder::new();
    folder.put("config_sentence_transformers.json", &json!({"prompts": {"query": "the ", "document": ""}}));
    let told = folder.open().with_name("tiny-e5");
    assert_eq!(bits(&told, "ab"), bits(&bare, "the ab"));
    assert_eq!(told.embed_passages(&["ab"]).unwrap(), bare.embed_passages(&["ab"]).unwrap());
}

#[test]
fn fewer_tokens_are_read_where_the_folder_says_so() {
    let folder = Folder::new();
    folder.put("sentence_bert_config.json", &json!({"max_seq_length": 8, "do_lower_case": false}));
    let encoder = folder.open();
    assert_eq!(encoder.max_tokens(), 8);
    assert_eq!(encoder.embed_queries(&["aaaaaaaaaaaaaaa"]).unwrap().truncated, [0]);
}

#[test]
fn settings_that_are_not_known_are_named() {
    for (key, value, expected) in [
        ("model_type", json!("t5"), "`t5`, known are bert"),
        ("hidden_act", json!("relu"), "`relu`, known are gelu"),
        ("position_embedding_type", json!("relative_key"), "relative_key"),
        ("num_attention_heads", json!(3), "multiple of 3 heads"),
        ("num_hidden_layers", json!(0), "num_hidden_layers"),
        ("num_hidden_layers", json!(LAYERS + 1), "encoder.layer.2"),
        ("hidden_size", json!(HIDDEN * 2), "has shape"),
        ("vocab_size", json!(3), "the tokenizer has 24 tokens"),
        ("layer_norm_eps", json!(0.0), "layer_norm_eps"),
        ("max_position_embeddings", json!("many"), "config.json"),
    ] {
        let mut folder = Folder::new();
        folder.config[key] = value;
        let error = folder.error();
        assert!(error.contains(expected), "{key}: {error}");
    }
    let folder = Folder::new();
    let dense = json!([{"type": "sentence_transformers.models.Transformer"},
                       {"type": "sentence_transformers.models.Dense"}]);
    folder.put("modules.json", &dense);
    assert!(folder.error().contains("models.Dense"));
    let folder = Folder::new();
    folder.put("1_Pooling/config.json", &json!({"pooling_mode_max_tokens": true}));
    assert!(folder.error().contains("pooling_mode_max_tokens"));
    let folder = Folder::new();
    folder.put("tokenizer.json", &json!({"model": 3}));
    assert!(folder.error().contains("tokenizer.json"));
}
