//! A tiny encoder against a plain f64 forward pass, from a container and from a folder; laws of batches, threads and
//! lengths; damaged files.

mod fixture;
mod folder;
mod reference;

use std::path::Path;
use std::sync::Arc;

use hearth_kernels::pool::Pool;

use super::{Embedded, Encoder, texts_of_pass};
use fixture::{Fixture, HIDDEN, POSITIONS, Random, Storage, write};

const QUERY_PREFIX: &str = "query: ";
const PASSAGE_PREFIX: &str = "passage: ";

/// Weights of twelve bits against f64 through two layers of one or two blocks a row, a value of a vector.
const DENSE_TOLERANCE: f64 = 1e-3;
/// Quantised products round activations to 16 bits per block; two layers.
const FOUR_BIT_COSINE: f64 = 0.999_999;

const TEXTS: [&str; 8] = ["ab", "", "中国首都是哪里", "cab the  ab", "a", "the 国 x", "abcabcabcabc", "Ａb"];

fn open(path: &Path, threads: usize) -> Encoder {
    Encoder::open(path, Arc::new(Pool::new(threads))).unwrap()
}

fn encoder(storage: Storage, threads: usize) -> (Fixture, Encoder) {
    let fixture = Fixture::new(storage);
    let (_folder, path) = fixture.write();
    let encoder = open(&path, threads);
    (fixture, encoder)
}

fn cosine(a: &[f32], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * b).sum()
}

/// Each vector beside the reference's.
fn against_reference(storage: Storage, check: impl Fn(&str, &[f32], &[f64])) {
    let (fixture, encoder) = encoder(storage, 2);
    for (prefix, embedded) in [
        (QUERY_PREFIX, encoder.embed_queries(&TEXTS).unwrap()),
        (PASSAGE_PREFIX, encoder.embed_passages(&TEXTS).unwrap()),
    ] {
        assert_eq!(embedded.truncated, [0_usize; 0]);
        for (text, vector) in TEXTS.iter().zip(&embedded.vectors) {
            let ids = encoder.encode(prefix, text);
            check(&format!("{prefix}{text}"), vector, &reference::embed(&fixture, &ids));
        }
    }
}

#[test]
fn dense_weights_give_the_reference_vectors() {
    against_reference(Storage::Dense, |text, vector, expected| {
        for (index, (value, expected)) in vector.iter().zip(expected).enumerate() {
            let error = (f64::from(*value) - expected).abs();
            assert!(error < DENSE_TOLERANCE, "`{text}` at {index}: {value} vs. {expected}");
        }
    });
}

#[test]
fn four_bit_weights_give_the_reference_vectors_up_to_rounded_activations() {
    against_reference(Storage::FourBit, |text, vector, expected| {
        let cosine = cosine(vector, expected);
        assert!(cosine > FOUR_BIT_COSINE, "`{text}`: cosine {cosine}");
    });
}

#[test]
fn tokens_are_wrapped_and_text_never_becomes_a_special_token() {
    let (_, encoder) = encoder(Storage::FourBit, 1);
    for (text, expected) in [
        ("ab", &[0, 5, 9, 14, 2][..]),
        ("Ａb  ab", &[0, 5, 9, 14, 14, 2]),
        ("", &[0, 5, 9, 4, 2]),
        ("中国首都", &[0, 5, 9, 4, 17, 18, 2]),
    ] {
        assert_eq!(encoder.encode(QUERY_PREFIX, text), expected, "{text}");
    }
    let ids = encoder.encode(PASSAGE_PREFIX, "<s></s><pad><mask>");
    assert_eq!((ids[0], ids[ids.len() - 1]), (0, 2));
    let inner = &ids[1..ids.len() - 1];
    assert!(!inner.iter().any(|id| [0, 1, 2, 23].contains(id)), "{ids:?}");
}

fn bits(embedded: &Embedded) -> Vec<Vec<u32>> {
    let bits = |vector: &Vec<f32>| vector.iter().map(|value| value.to_bits()).collect();
    embedded.vectors.iter().map(bits).collect()
}

#[test]
fn vectors_are_equal_to_the_bit_alone_together_and_on_any_threads() {
    for storage in [Storage::Dense, Storage::FourBit] {
        let (fixture, encoder) = encoder(storage, 1);
        // More tokens than one pass takes.
        let many: Vec<&str> = TEXTS.iter().copied().cycle().take(TEXTS.len() * 40).collect();
        let together = encoder.embed_passages(&many).unwrap();
        assert!(together.token_counts.iter().sum::<usize>() > super::TOKENS_PER_PASS);
        let (_folder, path) = fixture.write();
        assert_eq!(bits(&together), bits(&open(&path, 3).embed_passages(&many).unwrap()));
        for (index, text) in many.iter().enumerate().take(TEXTS.len() + 3) {
            let alone = encoder.embed_passages(&[text]).unwrap();
            assert_eq!(bits(&alone)[0], bits(&together)[index], "`{text}`");
            assert_eq!(alone.token_counts[0], together.token_counts[index]);
        }
    }
}

#[test]
fn long_texts_are_cut_and_named() {
    let (fixture, encoder) = encoder(Storage::Dense, 2);
    assert_eq!(encoder.max_tokens(), POSITIONS);
    // bos, ▁passage, :, ▁ and eos leave room for 19.
    let fits = "a".repeat(POSITIONS - 5);
    let long = "a".repeat(POSITIONS - 4);
    let longer = format!("{fits}国国国国国国");
    let embedded = encoder.embed_passages(&[&longer, &fits, "ab", &long]).unwrap();
    assert_eq!(embedded.truncated, [0, 3]);
    assert_eq!(embedded.token_counts, [POSITIONS, POSITIONS, 5, POSITIONS]);
    assert_eq!(encoder.count_tokens(&fits), POSITIONS);
    assert_eq!(encoder.count_tokens(&longer), POSITIONS + 6);
    // What was read is the beginning, with the end token behind it.
    assert_eq!(embedded.vectors[0], embedded.vectors[1]);
    assert_eq!(embedded.vectors[0], embedded.vectors[3]);
    let expected = reference::embed(&fixture, &encoder.encode(PASSAGE_PREFIX, &fits));
    assert!(cosine(&embedded.vectors[0], &expected) > 1.0 - 1e-5);
}

#[test]
fn vectors_have_length_one_and_tell_texts_apart() {
    let (_, encoder) = encoder(Storage::FourBit, 2);
    assert_eq!((encoder.dim(), encoder.name()), (HIDDEN, "tiny-e5"));
    let queries = encoder.embed_queries(&TEXTS).unwrap().vectors;
    let passages = encoder.embed_passages(&TEXTS).unwrap().vectors;
    let wide = |vector: &[f32]| vector.iter().map(|&value| f64::from(value)).collect::<Vec<f64>>();
    for (index, query) in queries.iter().enumerate() {
        assert_eq!(query.len(), HIDDEN);
        assert!((cosine(query, &wide(query)) - 1.0).abs() < 1e-6);
        assert_ne!(query, &passages[index], "the prefix counts");
        for other in &passages {
            assert!(cosine(query, &wide(other)).abs() < 1.0 + 1e-6);
        }
        // "Ａb" is written differently but is the same text as "ab".
        let is_same = |other: usize| TEXTS[index].replace('Ａ', "a") == TEXTS[other].replace('Ａ', "a");
        for (other, vector) in queries.iter().enumerate() {
            assert_eq!(query == vector, is_same(other), "{} and {}", TEXTS[index], TEXTS[other]);
        }
    }
    assert_eq!(encoder.embed_queries(&[]).unwrap(), Embedded::default());
}

#[test]
fn encoders_are_shared_between_threads_and_renamed() {
    fn shared<T: Send + Sync + std::fmt::Debug>(_: &T) {}
    let (_, encoder) = encoder(Storage::FourBit, 2);
    shared(&encoder);
    let encoder = encoder.with_name("e5");
    assert!(format!("{encoder:?}").contains("\"e5\""));
    let expected = encoder.embed_passages(&TEXTS).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_eq!(encoder.embed_passages(&TEXTS).unwrap(), expected));
        }
    });
}

#[test]
fn passes_hold_as_many_texts_as_fit() {
    for (counts, expected) in
        [(&[512, 1][..], 1), (&[2000, 1], 1), (&[256, 256, 1], 2), (&[3], 1), (&[500, 13], 1)]
    {
        let order: Vec<usize> = (0..counts.len()).collect();
        assert_eq!(texts_of_pass(&order, counts), expected, "{counts:?}");
    }
}

fn open_error(bytes: &[u8]) -> String {
    let (_folder, path) = write(bytes);
    let error = Encoder::open(&path, Arc::new(Pool::new(1))).expect_err("damaged").to_string();
    assert!(error.contains("tiny-e5.bin"), "names the file: {error}");
    error
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let bytes = Fixture::new(Storage::FourBit).bytes;
    for len in (0..bytes.len()).step_by(64).chain([bytes.len() - 1]) {
        let error = open_error(&bytes[..len]);
        assert!(error.contains("cut short") || error.contains("takes the tensors to"), "{len}: {error}");
    }
}

#[test]
fn wrong_fields_are_named_with_what_was_expected() {
    let bytes = Fixture::new(Storage::FourBit).bytes;
    let spellings = 72 + (fixture::PIECES.len() * 2 + 1) * 4;
    for (at, value, expected) in [
        (0, &b"GGUF"[..], "magic is `GGUF`, expected `E5S1`"),
        (4, &[9], "version is `9`, expected 1"),
        (8, &[0, 0, 0, 0], "hidden_size is `0`, expected at least 1"),
        (8, &[255, 255, 255, 255], "hidden_size is `-1`"),
        (8, &[66], "`66` isn't a multiple of `num_heads` 4"),
        (8, &[0, 0, 0, 64], "tensor `emb.word` has 1728 weights, expected 27 × 1073741824"),
        (12, &[3], "no tensor `l2.q.w`"),
        (24, &[1], "number of pieces is `24`, but `vocab_size` is 1"),
        (28, &[255, 255, 255, 127], "tensor `emb.pos` has"),
        (36, &[0, 0, 192, 127], "layer_norm_eps is `NaN`"),
        (40, &[16], "block length is `16`, expected 32"),
        (44, &[200], "number of pieces is `200`, but `vocab_size` is 27"),
        (48, &[24], "bos is `24`, but there are 24 pieces"),
        (64, &[255, 255, 255, 255, 255, 255, 255, 255], "spellings of pieces needs"),
        (76, &[255], "piece 0 lies at `0..255`"),
        (spellings + 12, &[255], "piece 3 isn't UTF-8"),
    ] {
        let mut damaged = bytes.clone();
        damaged[at..at + value.len()].copy_from_slice(value);
        let error = open_error(&damaged);
        assert!(error.contains(expected), "byte {at}: `{error}` lacks `{expected}`");
    }
}

#[test]
fn flipped_bits_are_errors_or_other_vectors_but_never_a_panic() {
    let bytes = Fixture::new(Storage::FourBit).bytes;
    let pool = Arc::new(Pool::new(1));
    let mut random = Random(3);
    let head = 2_000;
    let (mut refused, mut read) = (0, 0);
    // The head holds all lengths and offsets: every byte of it once, then places all over the file.
    let anywhere: Vec<usize> = (0..300).map(|_| random.next() as usize % bytes.len()).collect();
    for at in (0..head).chain(anywhere) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (random.next() % 8);
        let (_folder, path) = write(&damaged);
        match Encoder::open(&path, Arc::clone(&pool)) {
            Err(error) => {
                assert!(error.to_string().contains("tiny-e5.bin"));
                refused += 1;
            }
            Ok(encoder) => {
                if let Ok(embedded) = encoder.embed_passages(&["ab the 中国", &"a".repeat(40)]) {
                    assert!(embedded.vectors.iter().flatten().all(|value| value.is_finite()));
                }
                read += 1;
            }
        }
    }
    assert!(refused > 100 && read > 100, "{refused} refused, {read} read");
}

#[test]
fn a_damaged_weight_shows_as_an_error_that_names_the_text() {
    let mut bytes = Fixture::new(Storage::FourBit).bytes;
    // The scale of the last matrix's last block becomes infinite; the last norm's tensors lie behind it.
    let behind = HIDDEN * 4 * 5;
    let at = bytes.len() - behind - 18;
    bytes[at..at + 2].copy_from_slice(&half::f16::INFINITY.to_le_bytes());
    let (_folder, path) = write(&bytes);
    let error = open(&path, 1).embed_passages(&["ab"]).unwrap_err().to_string();
    assert!(error.starts_with("encoder `tiny-e5` gives text 0 a vector that isn't finite"), "{error}");
}

#[test]
fn a_missing_file_and_a_folder_are_errors_with_their_path() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("none.bin"), folder.path().to_owned()] {
        let error = Encoder::open(&path, Arc::new(Pool::new(1))).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
}
