//! Folders written with the format's own library, then cut and tampered with.

use std::collections::HashMap;

use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView as Written, serialize};

use super::*;

fn shard(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> Vec<u8> {
    let views: HashMap<_, _> = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (*name, Written::new(*dtype, shape.to_vec(), bytes).unwrap()))
        .collect();
    serialize(views, None).unwrap()
}

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("config.json"), br#"{"num_layers": 2}"#).unwrap();
    for (name, bytes) in files {
        fs_err::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn sample() -> Vec<u8> {
    shard(&[
        ("w", Dtype::F32, &[2, 3], &[1; 24]),
        ("h", Dtype::BF16, &[4], &[2; 8]),
        ("positions", Dtype::I64, &[2], &[0; 16]),
    ])
}

#[test]
fn a_whole_file_is_read() {
    let folder = folder(&[("model.safetensors", &sample())]);
    let open = SafetensorsFolder::open(folder.path()).unwrap();
    assert_eq!(open.config()["num_layers"], 2);
    assert_eq!(open.names().collect::<Vec<_>>(), ["h", "w"]);
    let w = open.tensor("w").unwrap();
    assert_eq!((w.shape.as_slice(), w.format, w.bytes), ([2, 3].as_slice(), Format::F32, [1; 24].as_slice()));
    assert_eq!(open.unreadable().collect::<Vec<_>>(), [("positions", "I64")]);
    let message = open.require("positions").unwrap_err().to_string();
    assert!(message.contains("`positions` is stored as I64"), "{message}");
    assert!(open.require("x").unwrap_err().to_string().contains("no tensor `x`"));
}

#[test]
fn shards_are_one_model() {
    let first = shard(&[("a", Dtype::F16, &[2], &[0; 4])]);
    let second = shard(&[("b", Dtype::F32, &[1], &[7; 4])]);
    let index = br#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#;
    let files: [(&str, &[u8]); 3] =
        [("1.safetensors", &first), ("2.safetensors", &second), ("model.safetensors.index.json", index)];
    let whole = folder(&files);
    let open = SafetensorsFolder::open(whole.path()).unwrap();
    assert_eq!(open.tensor("b").unwrap().bytes, [7; 4]);
    assert_eq!(open.names().len(), 2);
}

fn check(files: &[(&str, &[u8])], expected: &str) {
    let folder = folder(files);
    let message = SafetensorsFolder::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains(expected), "{message}");
}

/// A header with `json` and `data` behind it.
fn raw(json: &str, data: &[u8]) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes(), json.as_bytes(), data].concat()
}

#[test]
fn bad_folders_and_files() {
    let name = "model.safetensors";
    check(&[], "holds no weights");
    check(&[(name, b"1234")], "the header needs 8 bytes, the file has 4");
    check(&[(name, &u64::MAX.to_le_bytes())], "at most 100000000 are allowed");
    check(&[(name, &99u64.to_le_bytes())], "the header needs 107 bytes");
    check(&[(name, &raw("{", &[]))], "isn't valid JSON");
    let whole = sample();
    check(&[(name, &whole[..whole.len() - 1])], "the file has ");
    check(&[(name, &[&whole[..], b"x"].concat())], "its tensors end at");
    let entry = |shape: &str, begin: u64, end: u64| {
        format!(r#"{{"t":{{"dtype":"F32","shape":{shape},"data_offsets":[{begin},{end}]}}}}"#)
    };
    check(&[(name, &raw(&entry("[1]", 4, 8), &[0; 8]))], "expected it to begin at 0");
    check(&[(name, &raw(&entry("[2]", 0, 4), &[0; 4]))], "tensor `t` has shape [2] and 4 bytes");
    let huge = entry("[4294967296,4294967296,4294967296]", 0, u64::MAX);
    check(&[(name, &raw(&huge, &[0; 4]))], "tensor `t` needs 18446744073709551615");
    let twice = r#"{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    check(&[(name, &raw(twice, &[0; 4]))], "tensor `t` stands in the header twice");
    let deep = format!("{{\"t\":{}", "[".repeat(100_000));
    check(&[(name, &raw(&deep, &[]))], "recursion limit");
    let outside = br#"{"weight_map": {"a": "../1.safetensors"}}"#;
    check(&[("model.safetensors.index.json", outside)], "is not a plain file name");
    let index = br#"{"weight_map": {"z": "1.safetensors"}}"#;
    let files: [(&str, &[u8]); 2] = [("1.safetensors", &whole), ("model.safetensors.index.json", index)];
    check(&files, "has no tensor `z`");
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let whole = sample();
    for len in 0..whole.len() {
        let folder = folder(&[("model.safetensors", &whole[..len])]);
        assert!(SafetensorsFolder::open(folder.path()).is_err(), "{len}");
    }
}

#[test]
fn a_tensor_of_nothing_has_no_values_however_large_its_other_sizes() {
    let json = r#"{"t":{"dtype":"F32","shape":[1099511627776,1099511627776,0],"data_offsets":[0,0]}}"#;
    let folder = folder(&[("model.safetensors", &raw(json, &[]))]);
    let open = SafetensorsFolder::open(folder.path()).unwrap();
    assert!(open.tensor("t").unwrap().to_f32().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn flipped_bits_never_panic(flips in prop::collection::vec((0usize..1024, 0u8..8), 1..6)) {
        let mut bytes = sample();
        for (at, bit) in flips {
            let len = bytes.len();
            bytes[at % len] ^= 1 << bit;
        }
        let folder = folder(&[("model.safetensors", &bytes)]);
        if let Ok(open) = SafetensorsFolder::open(folder.path()) {
            for name in open.names() {
                prop_assert!(open.tensor(name).unwrap().to_f32().len() < 100);
            }
        }
    }
}
