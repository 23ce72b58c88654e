//! A model in several files: `NAME-00001-of-00003.gguf` and so on, as llama.cpp's `gguf-split` writes them.
//!
//! The first file holds the metadata; each holds a tensor table of its own. Which file is which stands in
//! `split.no` and `split.count`, and is compared with the names.

use std::path::PathBuf;

use super::GgufFile;
use crate::files::{Error, Result};

/// More files than any model has been cut into; a number beyond it is damage.
const MAX_FILES: u32 = 4096;

/// Opens the files after the first and takes their tensors in.
pub(super) fn add_others(first: &mut GgufFile) -> Result<()> {
    let count: u32 = first.find("split.count")?.unwrap_or(1);
    if count <= 1 {
        return Ok(());
    }
    let index: u32 = first.find("split.no")?.unwrap_or(0);
    if index != 0 {
        let problem = format!("is part {} of {count}; open the first part", index + 1);
        return Err(malformed(first, "the file", problem));
    }
    for number in 2..=count {
        let path = path_of(first, number, count)?;
        let other = GgufFile::open_one(&path)?;
        let found = (other.find::<u32>("split.no")?, other.find::<u32>("split.count")?);
        if found != (Some(number - 1), Some(count)) {
            let problem =
                format!("has `split.no` and `split.count` {found:?}, expected {} of {count}", number - 1);
            return Err(malformed(&other, "the file", problem));
        }
        take_in(first, other)?;
    }
    let expected: Option<u32> = first.find("split.tensors.count")?;
    match expected {
        Some(expected) if expected as usize != first.tensors.len() => {
            let problem = format!("is {expected}, but the files hold {} tensors", first.tensors.len());
            Err(malformed(first, "metadata key `split.tensors.count`", problem))
        }
        _ => Ok(()),
    }
}

fn take_in(first: &mut GgufFile, other: GgufFile) -> Result<()> {
    let part = first.maps.len();
    for mut info in other.tensors {
        info.part = part;
        let index = first.tensors.len();
        if first.by_name.insert(info.name.clone(), index).is_some() {
            let what = format!("tensor `{}`", info.name);
            return Err(Error::Malformed { path: other.path, what, problem: "stands in two files".into() });
        }
        first.tensors.push(info);
    }
    first.maps.extend(other.maps);
    Ok(())
}

/// The first file's path with its number changed.
fn path_of(first: &GgufFile, number: u32, count: u32) -> Result<PathBuf> {
    let name = first.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let ending = |number: u32| format!("-{number:05}-of-{count:05}.gguf");
    match name.strip_suffix(&ending(1)) {
        Some(stem) if count <= MAX_FILES => {
            Ok(first.path.with_file_name(format!("{stem}{}", ending(number))))
        }
        _ => {
            let problem = format!("is the first of {count} parts, so its name must end in `{}`", ending(1));
            Err(malformed(first, "the file", problem))
        }
    }
}

fn malformed(file: &GgufFile, what: &str, problem: String) -> Error {
    Error::Malformed { path: file.path.clone(), what: what.into(), problem }
}

#[cfg(test)]
mod tests {
    use super::super::writer::GgufWriter;
    use super::*;

    fn part(index: u32, tensor: &str) -> Vec<u8> {
        let writer = GgufWriter::default().u32("split.no", index).u32("split.count", 2);
        writer.u32("split.tensors.count", 2).tensor(tensor, &[2], 0, &[index as u8; 8]).finish()
    }

    fn open(files: &[(&str, Vec<u8>)]) -> Result<GgufFile> {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs_err::write(folder.path().join(name), bytes).unwrap();
        }
        GgufFile::open(folder.path().join(files[0].0))
    }

    const NAMES: [&str; 2] = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"];

    #[test]
    fn parts_are_one_model() {
        let file = open(&[(NAMES[0], part(0, "a")), (NAMES[1], part(1, "b"))]).unwrap();
        assert_eq!(file.tensor("a").unwrap().bytes, [0; 8]);
        assert_eq!(file.tensor("b").unwrap().bytes, [1; 8]);
        assert_eq!(file.tensors().len(), 2);
    }

    fn check(files: &[(&str, Vec<u8>)], expected: &str) {
        let message = open(files).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn parts_that_do_not_fit_are_named() {
        check(&[("m.gguf", part(0, "a"))], "its name must end in `-00001-of-00002.gguf`");
        check(&[(NAMES[1], part(1, "a"))], "is part 2 of 2; open the first part");
        check(&[(NAMES[0], part(0, "a"))], NAMES[1]);
        check(&[(NAMES[0], part(0, "a")), (NAMES[1], part(0, "b"))], "expected 1 of 2");
        check(&[(NAMES[0], part(0, "a")), (NAMES[1], part(1, "a"))], "tensor `a` stands in two files");
        let huge = GgufWriter::default().u32("split.count", u32::MAX).finish();
        check(&[(NAMES[0], huge)], "the first of 4294967295 parts");
        let more = GgufWriter::default().u32("split.no", 1).u32("split.count", 2).finish();
        check(&[(NAMES[0], part(0, "a")), (NAMES[1], more)], "is 2, but the files hold 1 tensors");
    }
}
