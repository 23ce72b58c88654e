//! Plain text in any usual encoding: byte order marks, UTF-8, UTF-16, UTF-32, GB18030, and what else `chardetng`
//! tells from the bytes (Big5, `Shift_JIS`, EUC, the Windows code pages).
//!
//! Paragraphs are separated by empty lines; a file without any has one paragraph a line. Lines that are underlined
//! (reStructuredText), starred (Org) or in `\\section{}` (LaTeX) are headings. Broken UTF-8 is read with replacement
//! characters, which are counted in a note.

mod heading;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, GB18030, UTF_8, UTF_16BE, UTF_16LE};

use super::Extracted;
use crate::document::{Block, BlockKind};
use crate::error::ExtractError;

/// Broken sequences a UTF-8 file may hold, as a share of its characters, before it is taken for another encoding.
const BROKEN_SHARE: f64 = 0.02;

/// What the detector of encodings looks at.
const SAMPLE_BYTES: usize = 1 << 20;

pub(super) fn extract(bytes: &[u8]) -> Result<Extracted, ExtractError> {
    let (text, note) = decode(bytes, None)?;
    Ok(Extracted { blocks: blocks(&text), notes: note.into_iter().collect(), ..Extracted::default() })
}

/// The paragraphs, list items and headings of a text.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let text = text.replace("\r\n", "\n").replace(['\r', '\u{c}'], "\n");
    let by_line = !text.trim().contains("\n\n");
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let mut headings = heading::Headings::default();
    let mut blocks = Vec::new();
    let mut paragraph: Vec<&str> = Vec::new();
    let mut at = 0;
    while at <= lines.len() {
        let line = lines.get(at).copied().unwrap_or_default();
        let heading = if paragraph.is_empty() || by_line { headings.at(&lines, at) } else { None };
        let trimmed = line.trim();
        let item = is_list_item(trimmed);
        if (trimmed.is_empty() || by_line || item || heading.is_some()) && !paragraph.is_empty() {
            blocks.push(Block::new(BlockKind::Paragraph, join_lines(&paragraph)));
            paragraph.clear();
        }
        if let Some((level, text, num_lines)) = heading {
            blocks.push(Block::new(BlockKind::Heading(level), text));
            at += num_lines;
            continue;
        }
        if item {
            blocks.push(Block::new(BlockKind::ListItem, trimmed));
        } else if !trimmed.is_empty() {
            paragraph.push(trimmed);
        }
        at += 1;
    }
    if !paragraph.is_empty() {
        blocks.push(Block::new(BlockKind::Paragraph, join_lines(&paragraph)));
    }
    blocks
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
    if let Some(text) = utf32(bytes) {
        return text;
    }
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
        // Big5 and Japanese read as GB18030 are mostly Chinese too, but the detector knows common characters.
        let other = detect(bytes);
        let east_asian =
            [encoding_rs::BIG5, encoding_rs::SHIFT_JIS, encoding_rs::EUC_JP, encoding_rs::EUC_KR];
        if mostly_chinese(&chinese) && !east_asian.contains(&other) {
            return Ok((chinese.into_owned(), None));
        }
    }
    let (text, note) = lossy(detect(bytes), bytes);
    if is_binary(&text) {
        return Err(ExtractError::Binary);
    }
    Ok((text, note))
}

/// UTF-32 with a byte order mark, which `encoding_rs` leaves out.
fn utf32(bytes: &[u8]) -> Option<Result<(String, Option<String>), ExtractError>> {
    let to_u32 = match bytes {
        [0xff, 0xfe, 0, 0, ..] => u32::from_le_bytes,
        [0, 0, 0xfe, 0xff, ..] => u32::from_be_bytes,
        _ => return None,
    };
    // UTF-16 whose first character is a zero begins with the same bytes.
    let chars = bytes[4..].chunks(4).map(|unit| unit.try_into().ok().map(to_u32).and_then(char::from_u32));
    let text: String = chars.map(|c| c.unwrap_or('\u{fffd}')).collect();
    let broken = text.chars().filter(|&c| c == '\u{fffd}').count();
    let note = (broken > 0).then(|| format!("{broken} broken characters (read as UTF-32)"));
    Some(if is_binary(&text) { Err(ExtractError::Binary) } else { Ok((text, note)) })
}

fn detect(bytes: &[u8]) -> &'static Encoding {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    let sample = &bytes[..bytes.len().min(SAMPLE_BYTES)];
    detector.feed(sample, sample.len() == bytes.len());
    detector.guess(None, Utf8Detection::Deny)
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
        check(b"\xff\xfe\0\0h\0\0\0i\0\0\0", "hi");
        check(b"\0\0\xfe\xff\0\0\0h\0\0\0i", "hi");
        check(b"caf\xe9 cr\xe8me, d\xe9j\xe0 vu, voil\xe0 na\xefve", "café crème, déjà vu, voilà naïve");
    }

    #[test]
    fn other_code_pages_are_told_apart_by_their_letters() {
        let samples = [
            (encoding_rs::BIG5, "請先閱讀本說明書，並妥善保管以備日後查閱。打開外殼之前請拔下電源線。"),
            (
                encoding_rs::SHIFT_JIS,
                "ご使用の前に、この取扱説明書をよくお読みください。カバーを開ける前に電源を切ってください。",
            ),
            (encoding_rs::EUC_KR, "사용하기 전에 설명서를 읽어 주십시오. 덮개를 열기 전에 전원을 끄십시오."),
            (
                encoding_rs::WINDOWS_1251,
                "Перед использованием прочитайте это руководство. Отключите питание.",
            ),
            (encoding_rs::WINDOWS_1253, "Διαβάστε το εγχειρίδιο πριν από τη χρήση της συσκευής."),
            (
                encoding_rs::WINDOWS_1250,
                "Přečtěte si tuto příručku, než zařízení použijete. Odpojte napájení.",
            ),
        ];
        for (encoding, text) in samples {
            check(&encoding.encode(text).0, text);
        }
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
