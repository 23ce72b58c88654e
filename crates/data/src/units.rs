//! Text as units: words where a script parts them, characters where it doesn't (Chinese, Japanese, Thai …).
//!
//! Every filter, shingle and n-gram of this crate counts in these units, so that the published rules, which are written
//! for words, have a meaning for Chinese too.

/// A word of a script with spaces says about as much as this many Chinese characters.
pub const CHARS_PER_WORD: f64 = 1.6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitKind {
    /// Letters, or letters and digits.
    Word,
    /// A character of a script without spaces.
    Character,
    /// Digits alone.
    Number,
    /// A run of one mark.
    Mark,
}

/// A unit by its hash (of lower-case text) and place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    pub hash: u64,
    pub start: u32,
    pub end: u32,
    pub kind: UnitKind,
}

impl Unit {
    pub fn num_bytes(&self) -> usize {
        (self.end - self.start) as usize
    }
}

const SPACE: u8 = 0;
const LETTER: u8 = 1;
const DIGIT: u8 = 2;
const MARK: u8 = 3;
const WIDE: u8 = 4;

const CLASSES: [u8; 256] = {
    let mut classes = [MARK; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        classes[byte] = if b.is_ascii_alphabetic() {
            LETTER
        } else if b.is_ascii_digit() {
            DIGIT
        } else if b <= b' ' || b == 0x7f {
            SPACE
        } else if b >= 0x80 {
            WIDE
        } else {
            MARK
        };
        byte += 1;
    }
    classes
};

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
/// Odd and random: the constant of `FxHash` for 64 bits.
const FACTOR: u64 = 0x517c_c1b7_2722_0a95;

/// One step of a hash over bytes or hashes.
#[inline]
pub(crate) fn mix(hash: u64, value: u64) -> u64 {
    (hash.rotate_left(5) ^ value).wrapping_mul(FACTOR)
}

/// Spreads a hash over all bits (the end of splitmix64).
#[inline]
pub(crate) fn finish(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// Characters of scripts that don't part their words.
#[inline]
pub fn is_unspaced(c: char) -> bool {
    matches!(c,
        '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{3040}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}' | '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}'
        | '\u{1780}'..='\u{17ff}' | '\u{3105}'..='\u{312f}' | '\u{3005}'..='\u{3007}')
}

pub fn is_han(c: char) -> bool {
    matches!(c, '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{20000}'..='\u{3ffff}')
}

/// Chinese characters of a text, by the first bytes of U+4000 to U+9FFF.
pub fn num_han(text: &str) -> usize {
    text.as_bytes().iter().filter(|byte| (0xe4..=0xe9).contains(*byte)).count()
}

/// Characters of a text: bytes that begin one.
pub fn num_chars(text: &str) -> usize {
    text.as_bytes().iter().filter(|byte| (**byte as i8) >= -0x40).count()
}

/// Fills `units` with the units of a text.
pub fn split(text: &str, units: &mut Vec<Unit>) {
    units.clear();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let class = CLASSES[bytes[at] as usize];
        match class {
            SPACE => at += 1,
            MARK => {
                let (start, mark) = (at, bytes[at]);
                while at < bytes.len() && bytes[at] == mark {
                    at += 1;
                }
                push(units, mix(SEED, u64::from(mark)), start, at, UnitKind::Mark);
            }
            WIDE => {
                // The byte begins a character: whatever came before ended with one.
                let c = text[at..].chars().next().unwrap_or(' ');
                if is_unspaced(c) {
                    let end = at + c.len_utf8();
                    push(units, mix(SEED, u64::from(u32::from(c))), at, end, UnitKind::Character);
                    at = end;
                } else if c.is_alphanumeric() {
                    at = word(text, at, units);
                } else {
                    let end = at + c.len_utf8();
                    if !c.is_whitespace() {
                        push(units, mix(SEED, u64::from(u32::from(c))), at, end, UnitKind::Mark);
                    }
                    at = end;
                }
            }
            _ => at = word(text, at, units),
        }
    }
}

#[inline]
fn push(units: &mut Vec<Unit>, hash: u64, start: usize, end: usize, kind: UnitKind) {
    units.push(Unit { hash, start: start as u32, end: end as u32, kind });
}

/// A run of letters and digits; gives where it ends.
#[inline]
fn word(text: &str, start: usize, units: &mut Vec<Unit>) -> usize {
    let bytes = text.as_bytes();
    let (mut at, mut hash, mut letters) = (start, SEED, false);
    while at < bytes.len() {
        let byte = bytes[at];
        match CLASSES[byte as usize] {
            LETTER => {
                letters = true;
                hash = mix(hash, u64::from(byte | 0x20));
                at += 1;
            }
            DIGIT => {
                hash = mix(hash, u64::from(byte));
                at += 1;
            }
            // don't, it's
            MARK if byte == b'\'' && at > start && bytes.get(at + 1).is_some_and(u8::is_ascii_alphabetic) => {
                hash = mix(hash, u64::from(byte));
                at += 1;
            }
            WIDE => {
                let c = text[at..].chars().next().unwrap_or(' ');
                let joins = c.is_alphanumeric() || matches!(c, '\u{300}'..='\u{36f}' | '\u{900}'..='\u{dff}');
                if is_unspaced(c) || !joins {
                    break;
                }
                letters = true;
                for lower in c.to_lowercase() {
                    hash = mix(hash, u64::from(u32::from(lower)));
                }
                at += c.len_utf8();
            }
            _ => break,
        }
    }
    push(units, hash, start, at, if letters { UnitKind::Word } else { UnitKind::Number });
    at
}

/// Function words of languages that part their words.
const STOP_WORDS: [(&str, &[&str]); 12] = [
    (
        "en",
        &[
            "the", "be", "to", "of", "and", "that", "have", "with", "is", "in", "a", "for", "it", "on",
            "are", "as", "this", "by", "you", "was", "not", "or", "from", "at", "an", "if", "can",
        ],
    ),
    (
        "de",
        &[
            "der", "die", "das", "und", "ist", "in", "zu", "den", "von", "mit", "nicht", "ein", "eine",
            "auf", "für", "sich", "des", "dem", "im", "auch", "es", "als", "werden",
        ],
    ),
    (
        "fr",
        &[
            "le", "la", "les", "de", "des", "et", "un", "une", "est", "que", "en", "du", "pour", "dans",
            "qui", "pas", "par", "sur", "au", "ce", "il", "ne", "plus", "à",
        ],
    ),
    (
        "es",
        &[
            "el", "la", "los", "las", "de", "y", "que", "en", "un", "una", "es", "por", "con", "para", "no",
            "se", "del", "al", "lo", "como", "su",
        ],
    ),
    (
        "pt",
        &[
            "o", "a", "os", "as", "de", "e", "que", "em", "um", "uma", "é", "por", "com", "para", "não",
            "se", "do", "da", "no", "na", "ao",
        ],
    ),
    (
        "it",
        &[
            "il", "la", "le", "di", "e", "che", "in", "un", "una", "è", "per", "con", "non", "si", "del",
            "della", "i", "gli", "da", "al", "sono",
        ],
    ),
    (
        "nl",
        &[
            "de", "het", "een", "en", "van", "is", "in", "dat", "op", "te", "voor", "met", "niet", "zijn",
            "die", "aan", "er", "om", "ook", "als",
        ],
    ),
    (
        "sv",
        &[
            "och", "att", "det", "är", "en", "ett", "som", "på", "av", "för", "med", "den", "till", "inte",
            "i", "om", "de", "kan", "har", "var",
        ],
    ),
    (
        "ru",
        &[
            "и", "в", "не", "на", "что", "с", "по", "как", "это", "из", "к", "для", "от", "но", "а", "он",
            "о", "у", "за", "или", "же", "то",
        ],
    ),
    (
        "tr",
        &[
            "ve", "bir", "bu", "için", "ile", "de", "da", "olarak", "daha", "çok", "gibi", "olan", "ne",
            "en", "ya", "her", "ise", "veya",
        ],
    ),
    (
        "vi",
        &[
            "và", "của", "là", "các", "có", "trong", "được", "cho", "một", "không", "với", "những", "này",
            "để", "khi", "người", "từ", "đã", "thể",
        ],
    ),
    (
        "ko",
        &[
            "및",
            "수",
            "이",
            "그",
            "등",
            "있는",
            "있다",
            "것",
            "할",
            "하는",
            "또는",
            "때",
            "더",
            "위해",
            "대한",
            "합니다",
            "있습니다",
            "그리고",
        ],
    ),
];

/// Characters that hold Chinese sentences together.
const STOP_CHARACTERS: &str =
    "的一是不了在人有我他这为之来以个中上们到说时要就出也对和与及或而等于被把从所可但并其将";
/// And Japanese ones.
const STOP_KANA: &str = "のにはをたがでてとしれさいるもなか";

/// Is the language one whose function words are known?
pub fn has_stop_words(language: &str) -> bool {
    matches!(language, "zh" | "ja") || STOP_WORDS.iter().any(|row| row.0 == language)
}

/// Hashes of the function words of a language, as [`split`] hashes them, sorted.
pub fn stop_hashes(language: &str) -> Vec<u64> {
    let text = match language {
        "zh" => STOP_CHARACTERS.to_owned(),
        "ja" => STOP_KANA.to_owned(),
        _ => STOP_WORDS.iter().find(|row| row.0 == language).map_or_else(String::new, |row| row.1.join(" ")),
    };
    hashes(&text)
}

fn hashes(text: &str) -> Vec<u64> {
    let mut units = Vec::new();
    split(text, &mut units);
    let mut hashes: Vec<u64> = units.iter().map(|unit| unit.hash).collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

/// The share of function words among a text's units, in any of the known languages; Chinese is scaled to words. Negative
/// where the text is mostly in a script without a list.
pub(crate) fn stop_word_density(text: &str) -> f64 {
    static ALL: std::sync::LazyLock<Vec<u64>> = std::sync::LazyLock::new(|| {
        let words = STOP_WORDS.iter().flat_map(|row| row.1).copied().collect::<Vec<_>>().join(" ");
        hashes(&format!("{words} {STOP_CHARACTERS} {STOP_KANA}"))
    });
    let mut units = Vec::new();
    split(text, &mut units);
    units.retain(|unit| unit.kind != UnitKind::Mark);
    let wide = units.iter().filter(|unit| unit.kind == UnitKind::Character).count();
    let stops = units.iter().filter(|unit| ALL.binary_search(&unit.hash).is_ok()).count();
    let share = stops as f64 / units.len().max(1) as f64;
    if wide * 2 > units.len() {
        return share * CHARS_PER_WORD;
    }
    let latin = text.bytes().filter(u8::is_ascii_alphabetic).count();
    let unknown = stops == 0 && latin * 2 < text.len();
    if unknown { -1.0 } else { share }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let mut units = Vec::new();
        split(text, &mut units);
        let found: Vec<&str> =
            units.iter().map(|unit| &text[unit.start as usize..unit.end as usize]).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn words_characters_and_marks_are_units() {
        check("", &[]);
        check("Don't stop, 42x!!", &["Don't", "stop", ",", "42x", "!!"]);
        check("中文ab测试。 é", &["中", "文", "ab", "测", "试", "。", "é"]);
        check("한국어 텍스트", &["한국어", "텍스트"]);
    }

    #[test]
    fn case_changes_no_hash() {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        split("Straße ÉTÉ Abc", &mut one);
        split("straße été aBC", &mut two);
        assert!(one.iter().zip(&two).all(|(one, two)| one.hash == two.hash));
    }
}
