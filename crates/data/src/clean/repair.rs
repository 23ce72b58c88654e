//! Text that was decoded wrongly, put right: UTF-8 read as Windows-1252 or as GBK (ftfy's commonest cases, and China's),
//! composed to NFC; control characters, byte order marks and zero-width characters go, line ends become one.
//!
//! Only what can't be meant is changed: `LIBERTÉ »` holds the bytes of a Chinese character, and stays.

use encoding_rs::{GBK, WINDOWS_1252};
use serde::{Deserialize, Serialize};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Repair {
    pub mojibake: bool,
    pub nfc: bool,
    pub controls: bool,
}

impl Default for Repair {
    fn default() -> Self {
        Self { mojibake: true, nfc: true, controls: true }
    }
}

/// Texts in which something was put right.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Repairs {
    pub mojibake: u64,
    pub nfc: u64,
    pub controls: u64,
}

impl Repairs {
    pub(super) fn merge(&mut self, other: &Self) {
        let Self { mojibake, nfc, controls } = other;
        self.mojibake += mojibake;
        self.nfc += nfc;
        self.controls += controls;
    }
}

/// What a pass over the text found.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each says that one repair is worth its time")]
struct Findings {
    /// Control characters, carriage returns, marks of width zero.
    controls: bool,
    /// Something that may compose.
    composable: bool,
    /// A letter that stands for the first byte of a sequence, before one that stands for its second.
    latin: bool,
    /// A character that commonly comes of UTF-8 read as GBK.
    gbk: bool,
}

/// Puts a text right, in place.
pub fn repair(text: &mut String, config: &Repair, repairs: &mut Repairs) {
    let mut found = look(text);
    if found.latin && config.mojibake {
        let before = repairs.mojibake;
        // What was decoded wrongly twice is put right twice.
        for _ in 0..2 {
            match undo_latin(text) {
                Some(fixed) => *text = fixed,
                None => break,
            }
            repairs.mojibake = before + 1;
        }
        if repairs.mojibake > before {
            found = look(text);
        }
    }
    if found.gbk
        && config.mojibake
        && let Some(fixed) = undo_gbk(text)
    {
        *text = fixed;
        repairs.mojibake += 1;
        found = look(text);
    }
    if found.controls && config.controls {
        let fixed = without_controls(text);
        repairs.controls += u64::from(fixed != *text);
        *text = fixed;
    }
    if found.composable && config.nfc && is_nfc_quick(text.chars()) != IsNormalized::Yes {
        let fixed: String = text.nfc().collect();
        repairs.nfc += u64::from(fixed != *text);
        *text = fixed;
    }
}

fn is_plain_ascii(byte: u8) -> bool {
    (0x20..0x7f).contains(&byte) || byte == b'\n' || byte == b'\t'
}

fn look(text: &str) -> Findings {
    let mut found = Findings::default();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        // Plain text by eights: no branch depends on the byte.
        if let Some(chunk) = bytes.get(at..at + 16)
            && chunk.iter().all(|&byte| is_plain_ascii(byte))
        {
            at += 16;
            continue;
        }
        let byte = bytes[at];
        if byte < 0x80 {
            found.controls |= !is_plain_ascii(byte);
            at += 1;
            continue;
        }
        // Most Chinese: U+4000 to U+9FFF.
        if (0xe4..=0xe9).contains(&byte) {
            let code = &bytes[at..at + 3];
            found.gbk |= matches!(
                code,
                [0xe9, 0x94, 0x9b] | [0xe9, 0x8a, 0x86] | [0xe9, 0x90, 0xa8] | [0xe6, 0xb5, 0xa3]
            );
            at += 3;
            // UTF-8 of Chinese read as Windows-1252 begins with these letters, never with Chinese.
            continue;
        }
        let c = text[at..].chars().next().unwrap_or(' ');
        at += c.len_utf8();
        match u32::from(c) {
            0x80..=0x9f | 0xad | 0x200b | 0x2028 | 0x2029 | 0x2060 | 0xfeff | 0xfff9..=0xfffb | 0xfffe => {
                found.controls = true;
                found.latin |= u32::from(c) < 0xa0;
            }
            0xc2..=0xf4 => {
                found.latin |= text[at..].chars().next().is_some_and(|next| continuation(next).is_some());
            }
            0..=0x2ff | 0x2010..=0x206f | 0x3000..=0x3029 | 0x3030..=0x3098 | 0x309b..=0x33ff => {}
            0xac00..=0xd7a3 | 0xff00..=0xffef | 0x410..=0x44f => {}
            _ => found.composable = true,
        }
    }
    found
}

/// The byte that Windows-1252 (or Latin-1, where that has a hole) shows as this character.
fn byte_of(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ 0..=0x7f => Some(code as u8),
        code @ 0xa0..=0xff => Some(code as u8),
        code @ 0x80..=0x9f => Some(code as u8),
        _ => {
            let mut buffer = [0; 4];
            let (bytes, _, failed) = WINDOWS_1252.encode(c.encode_utf8(&mut buffer));
            (!failed && bytes.len() == 1).then(|| bytes[0])
        }
    }
}

fn continuation(c: char) -> Option<u8> {
    if c.is_ascii() || c.len_utf8() > 3 {
        return None;
    }
    byte_of(c).filter(|byte| (0x80..0xc0).contains(byte))
}

/// UTF-8 that was read as Windows-1252; none where nothing has to change.
fn undo_latin(text: &str) -> Option<String> {
    let mut fixed = String::with_capacity(text.len());
    let mut rest = text;
    let mut changed = false;
    while let Some(c) = rest.chars().next() {
        if !matches!(c, '\u{c2}'..='\u{f4}') {
            // To the next letter that may begin a sequence.
            let end = rest.char_indices().skip(1).find(|(_, c)| matches!(c, '\u{c2}'..='\u{f4}'));
            let end = end.map_or(rest.len(), |(at, _)| at);
            fixed.push_str(&rest[..end]);
            rest = &rest[end..];
            continue;
        }
        let (run, num_bytes, num_sequences) = sequences(rest);
        if num_sequences > 0 && is_meant_as_utf8(c, &run, num_sequences) {
            fixed.push_str(&run);
            changed = true;
            rest = &rest[num_bytes..];
        } else {
            let end = num_bytes.max(c.len_utf8());
            fixed.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    changed.then_some(fixed)
}

/// The sequences of UTF-8 that stand at the start as Windows-1252: what they mean, the bytes of text they take, and how
/// many there are.
fn sequences(text: &str) -> (String, usize, usize) {
    let mut meant = String::new();
    let (mut taken, mut count) = (0, 0);
    let mut chars = text.chars();
    loop {
        let mut probe = chars.clone();
        let Some(lead) = probe.next().filter(|c| matches!(c, '\u{c2}'..='\u{f4}')) else { break };
        let lead_byte = u32::from(lead) as u8;
        let more = match lead_byte {
            0xc2..=0xdf => 1,
            0xe0..=0xef => 2,
            _ => 3,
        };
        let mut bytes = vec![lead_byte];
        let mut length = lead.len_utf8();
        for c in probe.by_ref().take(more) {
            let Some(byte) = continuation(c) else { break };
            bytes.push(byte);
            length += c.len_utf8();
        }
        match std::str::from_utf8(&bytes) {
            Ok(c) if bytes.len() == more + 1 => meant.push_str(c),
            _ => break,
        }
        (taken, count) = (taken + length, count + 1);
        chars = probe;
    }
    (meant, taken, count)
}

/// Words of western languages hardly hold these sequences, except the ones that French and Portuguese typography makes.
fn is_meant_as_utf8(lead: char, meant: &str, num_sequences: usize) -> bool {
    match u32::from(lead) {
        // Â before a sign, Ã before a sign: é, è, ü, NBSP, £ and so on.
        0xc2 | 0xc3 => true,
        // â€™ and its kin, ï¼Œ, ðŸ˜€.
        0xe2 | 0xef | 0xf0 => num_sequences > 1 || meant.chars().all(|c| u32::from(c) >= 0x2000),
        // Greek, Cyrillic, Chinese: a single one may be chance, as in `LIBERTÉ »`.
        _ => num_sequences > 1,
    }
}

/// UTF-8 that was read as GBK (`浣犲ソ` for `你好`), line by line; none where nothing has to change.
fn undo_gbk(text: &str) -> Option<String> {
    let mut changed = false;
    let lines: Vec<std::borrow::Cow<'_, str>> = text
        .split('\n')
        .map(|line| {
            let (bytes, _, failed) = GBK.encode(line);
            if failed || line.is_ascii() {
                return line.into();
            }
            match std::str::from_utf8(&bytes) {
                // Three bytes of UTF-8 for two of GBK: what is meant has fewer characters.
                Ok(meant) if meant.chars().filter(|c| !c.is_ascii()).count() >= 2 => {
                    changed = true;
                    meant.to_owned().into()
                }
                _ => line.into(),
            }
        })
        .collect();
    changed.then(|| lines.join("\n"))
}

fn without_controls(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => clean.push(c),
            '\r' => {
                if chars.peek() != Some(&'\n') {
                    clean.push('\n');
                }
            }
            '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{b}' | '\u{c}' => clean.push('\n'),
            '\u{ad}' | '\u{200b}' | '\u{2060}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' => {}
            c if c.is_control() => {}
            c => clean.push(c),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let mut fixed = text.to_owned();
        repair(&mut fixed, &Repair::default(), &mut Repairs::default());
        assert_eq!(fixed, expected, "{text:?}");
    }

    #[test]
    fn what_was_decoded_wrongly_is_put_right() {
        check("", "");
        check("cafÃ© crÃ¨me", "café crème");
        check("Itâ€™s â€œfineâ€\u{9d} â€” yes", "It’s “fine” — yes");
        check("Â£5 and 10\u{c2}\u{a0}km", "£5 and 10\u{a0}km");
        check("ÐŸÑ€Ð¸Ð²ÐµÑ‚", "Привет");
        check("ä½\u{a0}å¥½ï¼Œä¸–ç•Œ", "你好，世界");
        check("ðŸ˜€", "😀");
        check("cafÃƒÂ©", "café");
        let wrong = GBK.decode("你好，世界。中文的文字".as_bytes()).0.into_owned();
        check(&wrong, "你好，世界。中文的文字");
    }

    #[test]
    fn what_may_be_meant_stays() {
        for text in [
            "LIBERTÉ » et « ÉGALITÉ\u{a0}»",
            "liberté\u{a0}» et égalité",
            "NÃO, São Paulo, MÃE",
            "naïve façade Ångström Øre",
            "价格：￥5，“很好”。",
            "Ñandú, señor; Ärger — Übung…",
            "tel.: +49 (0) 30 – §5",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn controls_go_and_letters_are_composed() {
        check("\u{feff}a\u{0}b\r\nc\rd\u{200b}e\u{ad}", "ab\nc\nde");
        check("e\u{301} か\u{3099}", "é が");
        check("👩\u{200d}👧", "👩\u{200d}👧");
    }
}
