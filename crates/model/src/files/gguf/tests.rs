//! Files that are right, cut short, made up and flipped at random.

use proptest::prelude::*;

use super::writer::{GgufWriter, number};
use super::*;

fn open(bytes: &[u8]) -> Result<GgufFile> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs_err::write(&path, bytes).unwrap();
    // The mapping outlives the file's name.
    GgufFile::open(&path)
}

fn sample() -> GgufWriter {
    let ramp = |len: usize| (0..len).map(|i| i as u8).collect::<Vec<_>>();
    GgufWriter::default()
        .string("general.architecture", "llama")
        .u32("llama.block_count", 30)
        .f32("llama.rope.freq_base", 1e5)
        .bool("tokenizer.ggml.add_bos_token", true)
        .raw("small", 1, &[0xFF])
        .raw("large", 10, &u64::MAX.to_le_bytes())
        .strings("tokens", &["a", "中文", ""])
        .i32s("types", &[1, -2, 3])
        .f32s("scores", &[0.5])
        .raw("nested", 9, &{
            // Two arrays of u8: [7] and [].
            let mut bytes = 9u32.to_le_bytes().to_vec();
            bytes.extend(2u64.to_le_bytes());
            bytes.extend(0u32.to_le_bytes());
            bytes.extend(1u64.to_le_bytes());
            bytes.push(7);
            bytes.extend(0u32.to_le_bytes());
            bytes.extend(0u64.to_le_bytes());
            bytes
        })
        .tensor("norm", &[5], number(Format::F32), &ramp(20))
        .tensor("matrix", &[3, 64], number(Format::Q8_0), &ramp(3 * 68))
        .tensor("k", &[2, 256], number(Format::Q4K), &ramp(288))
}

#[test]
fn what_was_written_is_read() {
    for version in [2, 3] {
        let file = open(&sample().version(version).finish()).unwrap();
        assert_eq!(file.version(), version);
        assert_eq!(file.meta_str("general.architecture").unwrap(), "llama");
        assert_eq!(file.meta_u32("llama.block_count").unwrap(), 30);
        assert_eq!(file.meta_f32("llama.rope.freq_base").unwrap().to_bits(), 1e5f32.to_bits());
        assert!(file.meta_bool("tokenizer.ggml.add_bos_token").unwrap());
        assert_eq!(file.meta::<i32>("small").unwrap(), -1);
        assert_eq!(file.meta::<u64>("large").unwrap(), u64::MAX);
        assert_eq!(file.meta_strs("tokens").unwrap(), ["a", "中文", ""]);
        assert_eq!(file.meta::<Vec<i32>>("types").unwrap(), [1, -2, 3]);
        assert_eq!(file.find::<u32>("absent").unwrap(), None);
        let Some(Value::Array(nested)) = file.value("nested") else { panic!("nested is an array") };
        let lens: Vec<_> = nested
            .iter()
            .map(|value| match value {
                Value::Array(array) => array.len(),
                _ => panic!("an array of arrays"),
            })
            .collect();
        assert_eq!(lens, [1, 0]);
        assert_eq!(nested.iter().count(), 2);

        let names: Vec<_> = file.tensors().map(|info| info.name.as_str()).collect();
        assert_eq!(names, ["norm", "matrix", "k"]);
        let matrix = file.tensor("matrix").unwrap();
        assert_eq!((matrix.shape.as_slice(), matrix.format), ([3, 64].as_slice(), Format::Q8_0));
        assert_eq!(matrix.bytes, (0..204).map(|i| i as u8).collect::<Vec<_>>());
        assert!(file.tensor("other").is_none());
        assert!(file.require("other").unwrap_err().to_string().contains("no tensor `other`"));
    }
}

#[test]
fn another_alignment_moves_the_data() {
    let writer = sample().alignment(256).u32("general.alignment", 256);
    let file = open(&writer.finish()).unwrap();
    assert!(file.tensors().all(|info| info.offset() % 256 == 0));
    assert_eq!(file.tensor("k").unwrap().bytes[..3], [0, 1, 2]);
}

#[test]
fn a_file_without_tensors_opens() {
    let file = open(&GgufWriter::default().finish()).unwrap();
    assert_eq!((file.tensors().len(), file.keys().count()), (0, 0));
}

#[test]
fn a_file_cut_anywhere_is_an_error_that_names_it() {
    let whole = sample().finish();
    for len in (0..whole.len()).step_by(64).chain([1, 7, 8, whole.len() - 1]) {
        let message = open(&whole[..len]).unwrap_err().to_string();
        assert!(message.contains("model.gguf"), "{len}: {message}");
        assert!(message.contains(&format!("the file has {len}")), "{len}: {message}");
    }
    let message = open(&whole[..whole.len() - 1]).unwrap_err().to_string();
    let expected = format!("tensor `k` needs {} bytes, the file has {}", whole.len(), whole.len() - 1);
    assert!(message.contains(&expected), "{message}");
}

fn check(bytes: &[u8], expected: &str) {
    let message = open(bytes).unwrap_err().to_string();
    assert!(message.contains(expected), "{message}");
}

#[test]
fn made_up_headers() {
    let whole = sample().finish();
    let with = |at: usize, bytes: &[u8]| {
        let mut file = whole.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    check(&with(0, b"GGML"), "begins with \"GGML\"");
    check(&with(4, &1u32.to_le_bytes()), "GGUF version 1;");
    check(&with(4, &3u32.to_be_bytes()), "little-endian");
    check(&with(8, &u64::MAX.to_le_bytes()), "the tensor table (18446744073709551615 entries)");
    check(&with(16, &(1u64 << 40).to_le_bytes()), "the metadata (1099511627776 entries)");
    check(&with(24, &(1u64 << 62).to_le_bytes()), "metadata key 0 needs");
    check(&with(32, &[0xFF]), "metadata key 0 isn't UTF-8 after byte 0");
}

#[test]
fn made_up_values() {
    let empty = GgufWriter::default;
    check(&empty().raw("k", 13, &[0; 8]).finish(), "key `k` has the unknown type 13");
    check(&empty().raw("k", 7, &[2]).finish(), "holds 2 as a bool");
    check(&empty().u32("k", 1).u32("k", 2).finish(), "key `k` stands there twice");
    for alignment in [0, 3, u32::MAX] {
        check(&empty().u32("general.alignment", alignment).finish(), "expected a power of two");
    }
    for kind in [0u32, 8, 9, 12] {
        let mut array = kind.to_le_bytes().to_vec();
        array.extend(u64::MAX.to_le_bytes());
        check(&empty().raw("k", 9, &array).finish(), "the value of metadata key `k`");
    }
    // An array of an array of an array …
    let mut deep = Vec::new();
    for _ in 0..1000 {
        deep.extend(9u32.to_le_bytes());
        deep.extend(1u64.to_le_bytes());
    }
    check(&empty().raw("k", 9, &deep).finish(), "nested deeper than 4");
    let file = open(&empty().string("k", "text").finish()).unwrap();
    let message = file.meta_u32("k").unwrap_err().to_string();
    assert!(message.contains("`k` is the string `text`, expected an integer"), "{message}");
}

#[test]
fn made_up_tensors() {
    let f32 = number(Format::F32);
    let one = |shape: &[usize], kind| GgufWriter::default().tensor("t", shape, kind, &[0; 64]);
    check(&one(&[16], 22).finish(), "tensor `t` is stored as IQ2_S");
    check(&one(&[16], 99).finish(), "tensor `t` is stored as ggml type 99");
    check(&one(&[0], f32).finish(), "a dimension of 0");
    check(&one(&[], f32).finish(), "has 0 dimensions");
    check(&one(&[1, 1, 1, 1, 1], f32).finish(), "has 5 dimensions");
    check(&one(&[2, 16], number(Format::Q8_0)).finish(), "isn't whole blocks of Q8_0");
    check(&one(&[1 << 40, 1 << 40], f32).finish(), "isn't whole blocks");
    check(&one(&[1 << 50], f32).finish(), "tensor `t` needs");
    check(&one(&[16], f32).finish_at(&[33]), "begins at 33, not a multiple of 32");
    check(&one(&[16], f32).finish_at(&[u64::MAX - 31]), "ends beyond 64 bits");
    check(&one(&[16], f32).finish_at(&[1 << 40]), "tensor `t` needs");
    let two = one(&[16], f32).tensor("u", &[16], f32, &[0; 64]);
    check(&two.finish_at(&[0, 32]), "tensor `u` shares bytes with tensor `t`");
    check(&two.finish_at(&[0, 0]), "tensor `u` shares bytes with tensor `t`");
    check(&one(&[16], f32).tensor("t", &[16], f32, &[0; 64]).finish(), "stands in the table twice");
}

/// Touches everything that an open file can hand out.
fn read_all(file: &GgufFile) -> usize {
    let keys: Vec<_> = file.keys().map(str::to_owned).collect();
    let values: usize = keys
        .iter()
        .map(|key| match file.value(key) {
            Some(Value::Array(array)) => array.iter().count(),
            _ => 1,
        })
        .sum();
    let tensors = file.tensors().map(|info| file.tensor(&info.name).unwrap().to_f32().len());
    values + tensors.sum::<usize>()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn flipped_bits_never_panic(flips in prop::collection::vec((0usize..2048, 0u8..8), 1..6)) {
        let mut bytes = sample().finish();
        for (at, bit) in flips {
            let len = bytes.len();
            bytes[at % len] ^= 1 << bit;
        }
        if let Ok(file) = open(&bytes) {
            prop_assert!(read_all(&file) > 0);
        }
    }

    #[test]
    fn flipped_header_words_never_panic(at in 0usize..512, value: u64) {
        let mut bytes = sample().finish();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        if let Ok(file) = open(&bytes) {
            prop_assert!(read_all(&file) > 0);
        }
    }
}
