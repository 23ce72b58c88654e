//! Shards: what is written is read, and what is damaged is named.

use proptest::prelude::*;

use super::*;

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("hearth-shards-{name}-{}", std::process::id()));
    let _ = fs_err::remove_dir_all(&folder);
    folder
}

fn info(vocab_size: u32, has_mask: bool) -> ShardsInfo {
    ShardsInfo { tokenizer_sha256: "ab".into(), vocab_size, end_of_document: Some(0), has_mask }
}

#[derive(Clone, Debug)]
struct Text {
    ids: Vec<u32>,
    mask: Vec<bool>,
    origin: String,
}

fn texts(vocab_size: u32) -> impl Strategy<Value = Vec<Text>> {
    let tokens = proptest::collection::vec((0..vocab_size, any::<bool>()), 0..60);
    let text = (tokens, "[a-z字]{0,9}:[0-9]{1,3}").prop_map(|(tokens, origin)| {
        let (ids, mask) = tokens.into_iter().unzip();
        Text { ids, mask, origin }
    });
    proptest::collection::vec(text, 0..40)
}

fn write(folder: &Path, info: &ShardsInfo, texts: &[Text], max_shard_bytes: u64) -> Manifest {
    let mut writer = ShardWriter::create(folder, info.clone(), max_shard_bytes).unwrap();
    for text in texts {
        let mask = info.has_mask.then_some(text.mask.as_slice());
        writer.push(&text.ids, mask, &text.origin).unwrap();
    }
    let num_documents = texts.len() as u64;
    writer.add_source(Source { name: "a.jsonl".into(), sha256: "cd".into(), num_documents, num_skipped: 0 });
    writer.finish().unwrap()
}

fn read(shards: &TokenShards) -> Vec<(Vec<u32>, Vec<bool>, String)> {
    let read = |index| {
        let document = shards.document(index).unwrap();
        let (mut ids, mut mask) = (Vec::new(), Vec::new());
        document.ids_into(&mut ids).unwrap();
        document.mask_of(0..document.len(), &mut mask);
        (ids, mask, document.origin().unwrap().to_owned())
    };
    (0..shards.num_documents()).map(read).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn what_is_written_is_read(
        (vocab_size, texts) in prop_oneof![Just(300_u32), Just(1 << 16), Just((1 << 16) + 1)]
            .prop_flat_map(|vocab_size| (Just(vocab_size), texts(vocab_size))),
        has_mask: bool,
        max_shard_bytes in 1_u64..3000,
    ) {
        let folder = folder("read");
        let manifest = write(&folder, &info(vocab_size, has_mask), &texts, max_shard_bytes);
        let shards = TokenShards::open(&folder).unwrap();
        shards.verify().unwrap();
        prop_assert_eq!(shards.manifest(), &manifest);
        let expected = texts.iter().map(|text| {
            let mask = if has_mask { text.mask.clone() } else { vec![true; text.ids.len()] };
            (text.ids.clone(), mask, text.origin.clone())
        });
        let expected: Vec<_> = expected.collect();
        let learned = expected.iter().flat_map(|text| &text.1).filter(|learned| **learned).count();
        prop_assert_eq!(manifest.num_learned, learned as u64);
        prop_assert_eq!(read(&shards), expected);
        let lengths: Vec<u32> = texts.iter().map(|text| text.ids.len() as u32).collect();
        prop_assert_eq!(shards.lengths().unwrap(), lengths);
        if let Some(last) = texts.iter().rposition(|text| !text.ids.is_empty()) {
            prop_assert!(shards.find(&texts[last].ids, usize::MAX).unwrap().contains(&(last as u64)));
        }
        fs_err::remove_dir_all(folder).unwrap();
    }
}

fn some_texts() -> Vec<Text> {
    let text = |index: u32| Text {
        ids: (0..50).map(|at| index * 7 + at).collect(),
        mask: (0..50).map(|at| at % 3 == 0).collect(),
        origin: format!("books.jsonl:{index}"),
    };
    (0..8).map(text).collect()
}

/// All of a shard matters: flipped or cut off, it is an error that names the file, and never a panic.
#[test]
fn a_flipped_or_truncated_shard_is_an_error_that_names_it() {
    let folder = folder("damage");
    write(&folder, &info(300, true), &some_texts(), 1 << 20);
    let path = folder.join("00000.tok");
    let whole = fs_err::read(&path).unwrap();
    let check = |bytes: &[u8], what: &str| {
        fs_err::write(&path, bytes).unwrap();
        let shards = TokenShards::open(&folder);
        let error = shards.and_then(|shards| {
            // Without `verify` a damaged number may pass, but nothing is read beyond the file.
            for index in 0..shards.num_documents() {
                if let Ok(document) = shards.document(index) {
                    let _ = document.ids_into(&mut Vec::new());
                    document.mask_of(0..document.len(), &mut Vec::new());
                    let _ = document.origin();
                }
            }
            shards.verify()
        });
        let message = error.expect_err(what).to_string();
        assert!(message.contains("00000.tok"), "{what}: {message}");
    };
    // A step that is prime to the sections' alignment: every place within a number comes up.
    for at in (0..whole.len()).step_by(3) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        check(&bytes, &format!("byte {at} flipped"));
        bytes[at] = 0xff;
        check(&bytes, &format!("byte {at} set"));
    }
    for len in (0..whole.len()).step_by(7) {
        check(&whole[..len], &format!("cut to {len}"));
    }
    fs_err::write(&path, &whole).unwrap();
    TokenShards::open(&folder).unwrap().verify().unwrap();
    fs_err::remove_file(&path).unwrap();
    assert!(TokenShards::open(&folder).unwrap_err().to_string().contains("00000.tok"));
    fs_err::remove_dir_all(folder).unwrap();
}

#[test]
fn what_is_given_up_leaves_no_folder() {
    let folder = folder("given-up");
    let mut writer = ShardWriter::create(&folder, info(300, false), 64).unwrap();
    writer.push(&[1; 100], None, "a:1").unwrap();
    writer.push(&[1; 10], None, "a:2").unwrap();
    assert!(!folder.exists());
    drop(writer);
    assert!(!folder.exists());
    write(&folder, &info(300, false), &some_texts(), 64);
    let error = ShardWriter::create(&folder, info(300, false), 64).unwrap_err();
    assert!(error.to_string().contains("holds files already"), "{error}");
    fs_err::remove_dir_all(folder).unwrap();
}

#[test]
fn documents_that_do_not_fit_are_named() {
    let folder = folder("refused");
    let mut plain = ShardWriter::create(&folder, info(300, false), 64).unwrap();
    let mut masked = ShardWriter::create(&folder.join("masked"), info(300, true), 64).unwrap();
    for (error, expected) in [
        (plain.push(&[1, 300], None, "a:1"), "document `a:1` holds token id `300`"),
        (plain.push(&[1], Some(&[true]), "a:2"), "document `a:2` has a loss mask"),
        (masked.push(&[1], None, "a:3"), "document `a:3` has no loss mask"),
        (masked.push(&[1, 2], Some(&[true]), "a:4"), "document `a:4` has `2` tokens, but a loss mask of `1`"),
    ] {
        let message = error.unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message}");
    }
    assert_eq!((plain.num_documents(), masked.num_documents()), (0, 0));
}

#[test]
fn unknown_formats_are_refused() {
    let folder = folder("format");
    write(&folder, &info(300, false), &some_texts(), 1 << 20);
    let path = folder.join(MANIFEST);
    let text = fs_err::read_to_string(&path).unwrap().replacen("\"format\": 1", "\"format\": 2", 1);
    fs_err::write(&path, text).unwrap();
    let message = TokenShards::open(&folder).unwrap_err().to_string();
    assert!(message.contains("has format `2`, but hearth reads `1`"), "{message}");
    fs_err::remove_dir_all(folder).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// A hash that fits what was changed vouches for nothing: what can't be read is an error, and never a panic.
    #[test]
    fn hostile_shards_with_the_right_hash_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        // Most numbers that matter stand in the tables and at the end.
        at_end in any::<bool>(),
        cut in proptest::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let folder = folder("hostile");
        let mut manifest = write(&folder, &info(300, true), &some_texts(), 1 << 20);
        let path = folder.join("00000.tok");
        let mut bytes = fs_err::read(&path).unwrap();
        let from = if at_end { bytes.len() - 400 } else { 0 };
        for (index, byte) in changes {
            let range = &mut bytes[from..];
            let at = index.index(range.len());
            range[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs_err::write(&path, &bytes).unwrap();
        manifest.shards[0].num_bytes = bytes.len() as u64;
        manifest.shards[0].sha256 = hash::sha256(&bytes);
        atomic::write_json(&folder.join(MANIFEST), &manifest).unwrap();
        if let Ok(shards) = TokenShards::open(&folder) {
            let is_whole = shards.verify().is_ok();
            let readable = (0..shards.num_documents()).all(|index| {
                shards.document(index).is_ok_and(|document| {
                    document.mask_of(0..document.len(), &mut Vec::new());
                    document.ids_into(&mut Vec::new()).is_ok() && document.origin().is_ok()
                })
            });
            prop_assert!(readable || !is_whole, "what is verified can be read");
        }
        fs_err::remove_dir_all(folder).unwrap();
    }
}
