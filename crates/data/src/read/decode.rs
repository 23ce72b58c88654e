//! Bytes in any usual encoding to text: byte order marks, UTF-8, UTF-16, UTF-32, GB18030, and what else `chardetng` tells
//! from the bytes (Big5, `Shift_JIS`, EUC, the Windows code pages). Broken sequences are replaced and counted.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, GB18030, UTF_8, UTF_16BE, UTF_16LE};

/// Broken sequences a UTF-8 text may hold, as a share of its characters, before it is taken for another encoding.
const BROKEN_SHARE: f64 = 0.02;
/// What the detector of encodings looks at.
pub(super) const SAMPLE_BYTES: usize = 1 << 20;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    pub(super) text: String,
    /// The encoding's name, unless it is UTF-8.
    pub(super) encoding: Option<&'static str>,
    /// Characters that were lost.
    pub(super) num_broken: usize,
}

/// Bytes to text, or `None` where they are no text. `label` is what the file says about itself.
pub(super) fn decode(bytes: Vec<u8>, label: Option<&'static Encoding>) -> Option<Decoded> {
    // The plain case without a copy.
    if !bytes.starts_with(&[0xef, 0xbb, 0xbf]) && !bytes.contains(&0) {
        match String::from_utf8(bytes) {
            Ok(text) => return checked(Decoded { text, encoding: None, num_broken: 0 }),
            Err(error) => return decode_other(error.as_bytes(), label),
        }
    }
    decode_other(&bytes, label)
}

fn decode_other(bytes: &[u8], label: Option<&'static Encoding>) -> Option<Decoded> {
    if let Some(text) = utf32(bytes) {
        return checked(text);
    }
    let (encoding, mark) = encoding_of(bytes, label)?;
    checked(lossy(encoding, &bytes[mark..]))
}

/// The encoding of a text by its beginning, and the length of its mark; `None` where it is no text.
pub(super) fn encoding_of(
    bytes: &[u8],
    label: Option<&'static Encoding>,
) -> Option<(&'static Encoding, usize)> {
    if let Some(marked) = Encoding::for_bom(bytes) {
        return Some(marked);
    }
    if let Some(encoding) = utf16_without_mark(bytes) {
        return Some((encoding, 0));
    }
    match std::str::from_utf8(bytes) {
        Ok(_) => return Some((UTF_8, 0)),
        // A sample may end in the middle of a character.
        Err(error) if error.error_len().is_none() && error.valid_up_to() + 4 > bytes.len() => {
            return Some((UTF_8, 0));
        }
        Err(_) => {}
    }
    if let Some(encoding) = label.filter(|encoding| *encoding != UTF_8) {
        return Some((encoding, 0));
    }
    if bytes.contains(&0) {
        return None;
    }
    let read = lossy(UTF_8, bytes);
    if (read.num_broken as f64) < BROKEN_SHARE * read.text.chars().count() as f64 {
        return Some((UTF_8, 0));
    }
    let other = detect(bytes);
    let chinese = GB18030.decode_without_bom_handling(bytes).0;
    // Big5 and Japanese read as GB18030 are mostly Chinese too, but the detector knows common characters.
    let east_asian = [encoding_rs::BIG5, encoding_rs::SHIFT_JIS, encoding_rs::EUC_JP, encoding_rs::EUC_KR];
    if mostly_chinese(&chinese) && !east_asian.contains(&other) {
        return Some((GB18030, 0));
    }
    Some((other, 0))
}

/// UTF-32 with a byte order mark, which `encoding_rs` leaves out.
fn utf32(bytes: &[u8]) -> Option<Decoded> {
    let to_u32 = match bytes {
        [0xff, 0xfe, 0, 0, ..] => u32::from_le_bytes,
        [0, 0, 0xfe, 0xff, ..] => u32::from_be_bytes,
        _ => return None,
    };
    let chars = bytes[4..].chunks(4).map(|unit| unit.try_into().ok().map(to_u32).and_then(char::from_u32));
    let text: String = chars.map(|c| c.unwrap_or('\u{fffd}')).collect();
    let num_broken = text.chars().filter(|&c| c == '\u{fffd}').count();
    Some(Decoded { text, encoding: Some("UTF-32"), num_broken })
}

fn detect(bytes: &[u8]) -> &'static Encoding {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    let sample = &bytes[..bytes.len().min(SAMPLE_BYTES)];
    detector.feed(sample, sample.len() == bytes.len());
    detector.guess(None, Utf8Detection::Deny)
}

fn lossy(encoding: &'static Encoding, bytes: &[u8]) -> Decoded {
    let (text, broken) = encoding.decode_without_bom_handling(bytes);
    let num_broken = if broken { text.chars().filter(|&c| c == '\u{fffd}').count() } else { 0 };
    let encoding = (encoding != UTF_8).then(|| encoding.name());
    Decoded { text: text.into_owned(), encoding, num_broken }
}

/// Control characters other than white space hardly occur in text.
fn checked(decoded: Decoded) -> Option<Decoded> {
    let control = |byte: &u8| {
        *byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | 0x1b) || *byte == 0x7f
    };
    let num_control = decoded.text.as_bytes().iter().filter(|byte| control(byte)).count();
    (num_control * 50 <= decoded.text.len()).then_some(decoded)
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
        let is_wide =
            matches!(c, '\u{3000}'..='\u{303f}' | '\u{4e00}'..='\u{9fff}' | '\u{ff00}'..='\u{ffef}');
        *(if is_wide { &mut wide } else { &mut other }) += 1;
    }
    wide > other * 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: &str) {
        assert_eq!(decode(bytes.to_vec(), None).unwrap().text, expected);
    }

    #[test]
    fn encodings_are_told_apart() {
        check(b"", "");
        check(b"plain", "plain");
        check(b"\xef\xbb\xbfmarked", "marked");
        check(b"\xff\xfeh\0i\0", "hi");
        check(b"h\0e\0l\0l\0o\0", "hello");
        check(b"\xff\xfe\0\0h\0\0\0i\0\0\0", "hi");
        let samples = [
            (GB18030, "产品手册：额定电压为二百二十伏。"),
            (encoding_rs::BIG5, "請先閱讀本說明書，並妥善保管以備日後查閱。打開外殼之前請拔下電源線。"),
            (
                encoding_rs::SHIFT_JIS,
                "ご使用の前に、この取扱説明書をよくお読みください。カバーを開ける前に。",
            ),
            (encoding_rs::EUC_KR, "사용하기 전에 설명서를 읽어 주십시오. 덮개를 열기 전에 전원을 끄십시오."),
            (
                encoding_rs::WINDOWS_1251,
                "Перед использованием прочитайте это руководство. Отключите питание.",
            ),
            (encoding_rs::WINDOWS_1252, "café crème, déjà vu, voilà naïve"),
        ];
        for (encoding, text) in samples {
            check(&encoding.encode(text).0, text);
        }
    }

    #[test]
    fn binary_data_is_no_text_and_broken_text_is_counted() {
        assert_eq!(decode(vec![0, 159, 146, 150, 0, 1, 2], None), None);
        let mut bytes = "很长的一段文字，".repeat(40).into_bytes();
        bytes[100] = 0xff;
        assert!(decode(bytes, None).unwrap().num_broken > 0);
    }
}
