//! Plain text in any usual encoding: byte order marks, UTF-8, UTF-16, GB18030 (with GBK), Windows-1252.
//!
//! Paragraphs are separated by empty lines; a file without any has one paragraph a line. Broken UTF-8 is read
//! with replacement characters, which are counted in a note.

use encoding_rs::{Encoding, GB18030, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

use super::Extracted;
use crate::document::{Block, BlockKind};
use crate::error::ExtractError;

/// Broken sequences a UTF-8 file may hold, as a share of its characters, before it is taken for another encoding.
const BROKEN_SHARE: f64 = 0.02;

pub(super) fn extract(bytes: &[u8]) -> Result<Extracted, ExtractError> {
    let (text, note) = decode(bytes, None)?;
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let by_line = !text.trim().contains("\n\n");
    let mut blocks = Vec::new();
    let mut paragraph: Vec<&str> = Vec::new();
    for line in text.lines().chain([""]) {
        let line = line.trim();
        if !line.is_empty() && !is_list_item(line) {
            paragraph.push(line);
        }
        if line.is_empty() || by_line || is_list_item(line) {
            if !paragraph.is_empty() {
                blocks.push(Block::new(BlockKind::Paragraph, join_lines(&paragraph)));
                paragraph.clear();
            }
        }
        if is_list_item(line) {
            blocks.push(Block::new(BlockKind::ListItem, line));
        }
    }
    Ok(Extracted { title: None, blocks, notes: note.into_iter().collect() })
}

fn is_list_item(line: &str) -> bool {
    ["- ", "* ", "+ ", "• ", "· "].iter().any(|bullet| line.starts_with(bullet))
}

/// Joins wrapped lines: with a space, but not between two Chinese characters.
pub(super) fn join_lines(lines: &[&str]) -> String {
    let mut text = String::new();
    for line in lines {
        let wide = |c: Option<char>| c.is_some_and(crate::words::is_cjk_or_punctuation);
        let glued = wide(text.chars().next_back()) && wide(line.chars().next());
        if !text.is_empty() && !glued {
            text.push(' ');
        }
        text.push_str(line);
    }
    text
}

/// Bytes to text. `label` is what the file says about itself (HTML's charset) and is tried after a byte order mark
/// and valid UTF-8. Gives a note when characters were lost.
pub(super) fn decode(
    bytes: &[u8],
    label: Option<&'static Encoding>,
) -> Result<(String, Option<String>), ExtractError> {
    if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        return Ok(lossy(encoding, &bytes[mark..]));
    }
    if let Some(encoding) = utf16_without_mark(bytes) {
        return Ok(lossy(encoding, bytes));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        return if is_binary(text) { Err(ExtractError::Binary) } else { Ok((text.to_string(), None)) };
    }
    if let Some(encoding) = label.filter(|encoding| *encoding != UTF_8) {
        return Ok(lossy(encoding, bytes));
    }
    if bytes.contains(&0) {
        return Err(ExtractError::Binary);
    }
    let (text, note) = lossy(UTF_8, bytes);
    let broken = text.chars().filter(|&c| c == '\u{fffd}').count();
    if (broken as f64) < BROKEN_SHARE * text.chars().count() as f64 {
        return Ok((text, note));
    }
    if let Some(chinese) = GB18030.decode_without_bom_handling_and_without_replacement(bytes) {
        if mostly_chinese(&chinese) {
            return Ok((chinese.into_owned(), None));
        }
    }
    let (text, note) = lossy(WINDOWS_1252, bytes);
    if is_binary(&text) {
        return Err(ExtractError::Binary);
    }
    Ok((text, note))
}

fn lossy(encoding: &'static Encoding, bytes: &[u8]) -> (String, Option<String>) {
    let (text, broken) = encoding.decode_without_bom_handling(bytes);
    let count = text.chars().filter(|&c| c == '\u{fffd}').count();
    let note = broken.then(|| format!("{count} broken characters (read as {})", encoding.name()));
    (text.into_owned(), note)
}

/// Control characters other than white space don't occur in text.
fn is_binary(text: &str) -> bool {
    let control = text.chars().filter(|&c| c.is_control() && !c.is_whitespace() && c != '\u{1b}').count();
    control * 100 > text.chars().count()
}

/// Western text in UTF-16 has a zero in every second byte.
fn utf16_without_mark(bytes: &[u8]) -> Option<&'static Encoding> {
    let sample = &bytes[..bytes.len().min(4096)];
    let zeros = |offset: usize| {
        let halves = sample.iter().skip(offset).step_by(2);
        halves.filter(|&&byte| byte == 0).count() * 2
    };
    let (even, odd) = (zeros(0), zeros(1));
    match sample.len() {
        0..4 => None,
        len if odd * 10 > len * 7 && even * 10 < len => Some(UTF_16LE),
        len if even * 10 > len * 7 && odd * 10 < len => Some(UTF_16BE),
        _ => None,
    }
}

/// Western text read as GB18030 gives rare characters outside the common block, or none at all.
fn mostly_chinese(text: &str) -> bool {
    let (mut wide, mut other) = (0usize, 0usize);
    for c in text.chars().filter(|c| !c.is_ascii()) {
        if crate::words::is_cjk_or_punctuation(c) {
            wide += 1;
        } else {
            other += 1;
        }
    }
    wide > other * 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: &str) {
        assert_eq!(decode(bytes, None).unwrap().0, expected);
    }

    #[test]
    fn encodings_are_told_apart() {
        check(b"", "");
        check(b"plain", "plain");
        check(b"\xef\xbb\xbfmarked", "marked");
        check(b"\xff\xfeh\0i\0", "hi");
        check(b"\xfe\xff\0h\0i", "hi");
        check(b"h\0e\0l\0l\0o\0", "hello");
        check(b"\0h\0e\0l\0l\0o", "hello");
        let chinese = "产品手册：额定电压为二百二十伏。";
        check(&GB18030.encode(chinese).0, chinese);
        check(&encoding_rs::GBK.encode(chinese).0, chinese);
        check(b"caf\xe9 cr\xe8me, d\xe9j\xe0 vu, voil\xe0 na\xefve", "café crème, déjà vu, voilà naïve");
    }

    #[test]
    fn broken_utf8_is_read_and_counted() {
        let mut bytes = "很长的一段文字，".repeat(40).into_bytes();
        bytes[100] = 0xff;
        let (text, note) = decode(&bytes, None).unwrap();
        assert!(text.contains("很长的一段文字"));
        assert!(note.unwrap().contains("broken characters (read as UTF-8)"));
    }

    #[test]
    fn binary_data_is_refused() {
        assert_eq!(decode(&[0, 159, 146, 150, 0, 1, 2], None), Err(ExtractError::Binary));
        assert_eq!(decode(&[1, 2, 3, 4, 5], None), Err(ExtractError::Binary));
    }

    #[test]
    fn wrapped_lines_join_with_a_space_only_where_words_have_one() {
        let extracted = extract("one\ntwo\n\n三四\n五六\n\n- item".as_bytes()).unwrap();
        let texts: Vec<_> = extracted.blocks.iter().map(|block| block.text.as_str()).collect();
        assert_eq!(texts, ["one two", "三四五六", "- item"]);
        assert_eq!(extracted.blocks[2].kind, BlockKind::ListItem);
    }
}
