//! Text files and JSON Lines, plain or packed by gzip or zstd, as rows and as pieces to train a tokenizer on.
//!
//! Files are read as streams; a file that isn't what its name says, or ends in the middle, is an error with its name and
//! the line. What a row means is left to who asked for it.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hearth_tokenizer::pack::{Row, RowContent};
use hearth_tokenizer::{Message, cut_between_words};

/// One row may be this long: the text of a few thousand books. More is a file that isn't JSON Lines.
const MAX_ROW_BYTES: u64 = 1 << 30;

/// About how long the pieces are that plain text is cut into for training.
const PIECE_BYTES: usize = 1 << 20;

/// A text without any place to cut within this length is cut where it is.
const MAX_PIECE_BYTES: usize = 64 << 20;

/// The rows of files, one after the other.
pub(crate) struct Rows {
    files: std::vec::IntoIter<PathBuf>,
    open: Option<OpenFile>,
}

struct OpenFile {
    name: Arc<str>,
    is_lines: bool,
    reader: Box<dyn BufRead + Send>,
    line: u64,
}

impl Rows {
    pub(crate) fn new(files: Vec<PathBuf>) -> Self {
        Self { files: files.into_iter(), open: None }
    }

    /// Texts to train on: rows' `text`, contents of their `messages`, and plain text in pieces.
    pub(crate) fn into_texts(self) -> Texts {
        Texts { rows: self, waiting: Vec::new(), carried: String::new(), cut_character: Vec::new() }
    }
}

impl Iterator for Rows {
    type Item = io::Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(open) = &mut self.open else {
                match OpenFile::open(&self.files.next()?) {
                    Ok(file) => self.open = Some(file),
                    Err(error) => return Some(Err(error)),
                }
                continue;
            };
            match open.next_row() {
                Ok(Some(row)) => return Some(Ok(row)),
                Ok(None) => self.open = None,
                Err(error) => {
                    self.open = None;
                    return Some(Err(error));
                }
            }
        }
    }
}

impl OpenFile {
    fn open(path: &Path) -> io::Result<Self> {
        let name = path.to_string_lossy().into_owned();
        let file = fs_err::File::open(path)?;
        let (inner, reader): (&str, Box<dyn Read + Send>) = if let Some(inner) = name.strip_suffix(".zst") {
            (inner, Box::new(zstd::Decoder::new(file)?))
        } else if let Some(inner) = name.strip_suffix(".gz") {
            (inner, Box::new(flate2::read::MultiGzDecoder::new(file)))
        } else {
            (&name, Box::new(file))
        };
        let is_lines = [".jsonl", ".ndjson"].iter().any(|end| inner.ends_with(end));
        let reader = Box::new(BufReader::with_capacity(1 << 18, reader));
        Ok(Self { name: name.into(), is_lines, reader, line: 0 })
    }

    fn next_row(&mut self) -> io::Result<Option<Row>> {
        if !self.is_lines {
            if self.line > 0 {
                return Ok(None);
            }
            self.line = 1;
            let mut bytes = Vec::new();
            self.read(|reader| reader.read_to_end(&mut bytes))?;
            let content = RowContent::Plain(self.text(bytes)?);
            return Ok(Some(Row { file: Arc::clone(&self.name), line: 1, content }));
        }
        loop {
            let mut bytes = Vec::new();
            self.line += 1;
            self.read(|reader| reader.take(MAX_ROW_BYTES).read_until(b'\n', &mut bytes))?;
            if bytes.is_empty() {
                return Ok(None);
            }
            if bytes.len() as u64 == MAX_ROW_BYTES && bytes.last() != Some(&b'\n') {
                return Err(self.error(&format!("is longer than {MAX_ROW_BYTES} bytes; is this JSON Lines?")));
            }
            let end = bytes.trim_ascii_end().len();
            bytes.truncate(end);
            if !bytes.is_empty() {
                let content = RowContent::Json(self.text(bytes)?);
                return Ok(Some(Row { file: Arc::clone(&self.name), line: self.line, content }));
            }
        }
    }

    /// The next stretch of plain text, without what is left of a character at its end.
    fn next_stretch(&mut self, cut_character: &mut Vec<u8>) -> io::Result<Option<String>> {
        let mut bytes = std::mem::take(cut_character);
        let num_carried = bytes.len();
        self.read(|reader| reader.take(PIECE_BYTES as u64).read_to_end(&mut bytes))?;
        let is_end = bytes.len() == num_carried;
        if let Err(error) = std::str::from_utf8(&bytes) {
            if error.error_len().is_none() && !is_end {
                *cut_character = bytes.split_off(error.valid_up_to());
            }
        }
        if bytes.is_empty() && is_end { Ok(None) } else { self.text(bytes).map(Some) }
    }

    /// Reads, with the file's name in what goes wrong: decoders don't know it.
    fn read(&mut self, read: impl FnOnce(&mut dyn BufRead) -> io::Result<usize>) -> io::Result<usize> {
        let result = read(&mut *self.reader);
        result
            .map_err(|error| io::Error::new(error.kind(), format!("`{}` can't be read: {error}", self.name)))
    }

    fn text(&self, bytes: Vec<u8>) -> io::Result<String> {
        String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            self.error(&format!("isn't UTF-8: byte {at} of it is no part of a character"))
        })
    }

    fn error(&self, problem: &str) -> io::Error {
        let place = if self.is_lines { format!("line {} ", self.line) } else { String::new() };
        io::Error::new(io::ErrorKind::InvalidData, format!("`{}`: {place}{problem}", self.name))
    }
}

/// See [`Rows::into_texts`].
pub(crate) struct Texts {
    rows: Rows,
    /// Texts of a row that are still to come, the last first.
    waiting: Vec<String>,
    /// Plain text behind the last cut.
    carried: String,
    /// What there is of a character that the last stretch ends in.
    cut_character: Vec<u8>,
}

impl Iterator for Texts {
    type Item = io::Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(text) = self.waiting.pop() {
                return Some(Ok(text));
            }
            if let Err(error) = self.read_on() {
                self.rows.open = None;
                return Some(Err(error));
            }
            if self.waiting.is_empty() && self.rows.open.is_none() && self.rows.files.as_slice().is_empty() {
                return None;
            }
        }
    }
}

impl Texts {
    /// Opens the next file, or reads a row or a piece of the open one.
    fn read_on(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.rows.open else {
            if let Some(path) = self.rows.files.next() {
                self.rows.open = Some(OpenFile::open(&path)?);
            }
            return Ok(());
        };
        if open.is_lines {
            match open.next_row()? {
                Some(row) => self.waiting = texts_of(&row)?,
                None => self.rows.open = None,
            }
            return Ok(());
        }
        match open.next_stretch(&mut self.cut_character)? {
            None => {
                self.rows.open = None;
                self.waiting.extend(Some(std::mem::take(&mut self.carried)).filter(|text| !text.is_empty()));
            }
            Some(stretch) => {
                self.carried.push_str(&stretch);
                let wanted = self.carried.len().saturating_sub(PIECE_BYTES / 8);
                let too_long = || (self.carried.len() > MAX_PIECE_BYTES).then_some(self.carried.len());
                if let Some(cut) = cut_between_words(&self.carried, wanted).or_else(too_long) {
                    let behind = self.carried.split_off(cut);
                    self.waiting.push(std::mem::replace(&mut self.carried, behind));
                }
            }
        }
        Ok(())
    }
}

#[derive(serde::Deserialize)]
struct TrainingRow {
    text: Option<String>,
    messages: Option<Vec<Message>>,
}

/// What a row holds to train a tokenizer on, the last text first.
fn texts_of(row: &Row) -> io::Result<Vec<String>> {
    let bad = |problem: String| {
        io::Error::new(io::ErrorKind::InvalidData, format!("`{}`: line {} {problem}", row.file, row.line))
    };
    let RowContent::Json(json) = &row.content else { return Ok(Vec::new()) };
    let fields: TrainingRow =
        serde_json::from_str(json).map_err(|error| bad(format!("can't be read: {error}")))?;
    match fields {
        TrainingRow { text: Some(text), .. } => Ok(vec![text]),
        TrainingRow { messages: Some(messages), .. } => {
            Ok(messages.into_iter().rev().map(|message| message.content).collect())
        }
        TrainingRow { text: None, messages: None } => Err(bad("has neither `text` nor `messages`".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chinese and English, so long that it is cut, and where characters straddle stretches.
    fn long_text() -> String {
        let lines: Vec<String> =
            (0..90_000).map(|index| format!("锅炉 the kiln {index}，水压不足。\n")).collect();
        lines.concat()
    }

    #[test]
    fn plain_text_comes_in_pieces_that_join_to_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let text = long_text();
        let paths = ["a.txt", "b.txt.gz", "c.txt.zst"].map(|name| folder.path().join(name));
        fs_err::write(&paths[0], &text).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut gzip, text.as_bytes()).unwrap();
        fs_err::write(&paths[1], gzip.finish().unwrap()).unwrap();
        fs_err::write(&paths[2], zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
        for path in paths {
            let pieces: Vec<String> =
                Rows::new(vec![path.clone()]).into_texts().map(Result::unwrap).collect();
            assert!(pieces.len() > 2 && pieces.iter().all(|piece| piece.len() < 2 * PIECE_BYTES));
            assert!(pieces.concat() == text, "{}", path.display());
            let rows: Vec<Row> = Rows::new(vec![path]).map(Result::unwrap).collect();
            assert!(
                matches!(&rows[..], [Row { content: RowContent::Plain(whole), line: 1, .. }] if *whole == text)
            );
        }
    }

    #[test]
    fn what_is_broken_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let zst = zstd::encode_all(long_text().as_bytes(), 1).unwrap();
        let cases: [(&str, &[u8], &str); 6] = [
            ("a.jsonl", b"{\"text\":\"x\"}\n\n{\"text\":\"\xff\"}\n", "line 3 isn't UTF-8: byte 9"),
            ("b.jsonl", b"{\"text\":\"x\"}\n[", "line 2 can't be read"),
            ("c.jsonl", b"{\"texts\":\"x\"}", "line 1 has neither `text` nor `messages`"),
            ("d.txt.zst", &zst[..zst.len() / 2], "can't be read"),
            ("e.jsonl.gz", b"no gzip", "can't be read"),
            ("f.txt", b"a \xe4\xbd", "isn't UTF-8"),
        ];
        for (name, bytes, expected) in cases {
            let path = folder.path().join(name);
            fs_err::write(&path, bytes).unwrap();
            let error = Rows::new(vec![path]).into_texts().find_map(Result::err).unwrap().to_string();
            assert!(error.contains(name) && error.contains(expected), "{name}: {error}");
        }
    }

    #[test]
    fn rows_of_both_kinds_are_texts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        let rows = r#"{"text":"a"}
{"messages":[{"role":"user","content":"b"},{"role":"assistant","content":"c"}]}"#;
        fs_err::write(&path, rows).unwrap();
        let texts: Vec<String> = Rows::new(vec![path]).into_texts().map(Result::unwrap).collect();
        assert_eq!(texts, ["a", "b", "c"]);
    }
}
