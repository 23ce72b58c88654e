//! What happens to text before it is split: Unicode normal forms and SentencePiece's character maps.
//!
//! A precompiled map is SentencePiece's `precompiled_charsmap`: a `u32` size, a Darts-clone double-array trie of so
//! many bytes, then NUL-terminated replacement strings that the trie's values point into. The simpler map of some
//! encoder containers holds one code point and its replacement per entry.

use std::borrow::Cow;
use std::collections::HashMap;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick, is_nfkc_quick};
use unicode_segmentation::UnicodeSegmentation;

use crate::bert::{self, BertNormalizer};
use crate::error::{Error, Result};

#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Normalizer {
    Nfc,
    Nfkc,
    Nfd,
    Nfkd,
    Lowercase,
    /// Nonspacing marks go.
    StripAccents,
    Bert(BertNormalizer),
    /// SentencePiece's own map.
    Charsmap(Charsmap),
    /// One replacement per code point, with composition of combining marks before it.
    CharacterMap(CharacterMap),
    /// Runs of U+0020 become one.
    CollapseSpaces,
    Replace {
        pattern: Box<fancy_regex::Regex>,
        replacement: String,
    },
    /// White space at the ends goes.
    Strip {
        left: bool,
        right: bool,
    },
    Prepend(String),
}

/// Steps of published vocabularies put three bytes in the place of one, once.
const MAX_GROWTH: usize = 256;

/// Refuses steps that would make gigabytes of a line: how many bytes a byte of text may become at most, counted as if
/// every place of a text matched every pattern.
pub(crate) fn check_growth(normalizers: &[Normalizer]) -> Result<()> {
    let mut growth = 1_usize;
    for normalizer in normalizers {
        growth = match normalizer {
            // A pattern of nothing matches between bytes, which stay.
            Normalizer::Replace { replacement, .. } => growth.saturating_mul(replacement.len() + 1),
            Normalizer::Prepend(prefix) => growth.saturating_add(prefix.len()),
            _ => growth,
        };
    }
    if growth > MAX_GROWTH { Err(Error::Growth { growth, limit: MAX_GROWTH }) } else { Ok(()) }
}

impl Normalizer {
    pub(crate) fn apply<'t>(&self, text: Cow<'t, str>) -> Cow<'t, str> {
        match self {
            Self::Nfc => composed(text),
            Self::Nfkc => {
                if text.is_ascii() || is_nfkc_quick(text.chars()) == IsNormalized::Yes {
                    text
                } else {
                    Cow::Owned(text.nfkc().collect())
                }
            }
            Self::Nfd if !text.is_ascii() => Cow::Owned(text.nfd().collect()),
            Self::Nfkd if !text.is_ascii() => Cow::Owned(text.nfkd().collect()),
            Self::StripAccents if !text.is_ascii() => Cow::Owned(bert::without_marks(&text)),
            Self::Nfd | Self::Nfkd | Self::StripAccents => text,
            // Letter by letter, without the special form that sigma takes at the end of a word.
            Self::Lowercase => Cow::Owned(text.chars().flat_map(char::to_lowercase).collect()),
            Self::Bert(bert) => Cow::Owned(bert.apply(&text)),
            Self::Charsmap(map) => Cow::Owned(map.apply(&text)),
            Self::CharacterMap(map) => Cow::Owned(map.apply(&text)),
            Self::CollapseSpaces => {
                if text.contains("  ") {
                    Cow::Owned(collapse_spaces(&text))
                } else {
                    text
                }
            }
            Self::Replace { pattern, replacement } => {
                let replaced = pattern.replace_all(&text, fancy_regex::NoExpand(replacement));
                Cow::Owned(replaced.into_owned())
            }
            Self::Strip { left, right } => {
                let kept = if *left { text.trim_start() } else { &text };
                let kept = if *right { kept.trim_end() } else { kept };
                Cow::Owned(kept.to_owned())
            }
            Self::Prepend(prefix) => {
                if text.is_empty() {
                    text
                } else {
                    Cow::Owned(format!("{prefix}{text}"))
                }
            }
        }
    }
}

/// NFC. Text in which nothing can compose, which is most of it, is only looked through; the rest is composed stretch by
/// stretch, each from the character that marks would join to the next one that no mark stands on.
fn composed(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.is_ascii() {
        return text;
    }
    let mut out = String::new();
    let mut done = 0;
    // Where the last character began that never joins what stands before it.
    let mut base = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if composes_never(c) {
            base = at;
            continue;
        }
        while chars.next_if(|(_, c)| !composes_never(*c)).is_some() {}
        let end = chars.peek().map_or(text.len(), |(at, _)| *at);
        let stretch = &text[base..end];
        if is_nfc_quick(stretch.chars()) != IsNormalized::Yes {
            out.push_str(&text[done..base]);
            out.extend(stretch.nfc());
            done = end;
        }
    }
    if done == 0 {
        return text;
    }
    out.push_str(&text[done..]);
    Cow::Owned(out)
}

/// Ranges without combining marks or characters that aren't composed, so that plain text skips the tables:
/// up to U+02FF everything is in NFC; CJK ideographs and full-width forms are, too.
fn composes_never(c: char) -> bool {
    matches!(c, '\0'..='\u{2ff}' | '\u{4e00}'..='\u{9fff}' | '\u{3000}'..='\u{3029}' | '\u{ff01}'..='\u{ff60}')
}

fn collapse_spaces(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c != ' ' || !out.ends_with(' ') {
            out.push(c);
        }
    }
    out
}

/// A SentencePiece `precompiled_charsmap`.
#[derive(Clone, Debug)]
pub struct Charsmap {
    trie: Vec<u32>,
    replacements: String,
}

impl Charsmap {
    pub fn parse(blob: &[u8]) -> Result<Self> {
        let damaged = |offset, reason| Error::CharacterMap { offset, reason };
        let (head, rest) = blob.split_first_chunk::<4>().ok_or_else(|| damaged(0, "it has no size field"))?;
        let trie_bytes = u32::from_le_bytes(*head) as usize;
        if trie_bytes == 0 || !trie_bytes.is_multiple_of(4) || trie_bytes > rest.len() {
            return Err(damaged(0, "the trie's size doesn't fit the file"));
        }
        let (trie, replacements) = rest.split_at(trie_bytes);
        let (units, _) = trie.as_chunks::<4>();
        let trie = units.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        let replacements = std::str::from_utf8(replacements)
            .map_err(|error| damaged(4 + trie_bytes + error.valid_up_to(), "replacements aren't UTF-8"))?
            .to_owned();
        Ok(Self { trie, replacements })
    }

    /// Graphemes of up to five bytes are looked up whole, longer ones character by character: this is what the
    /// models were trained with.
    fn apply(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for grapheme in text.graphemes(true) {
            if grapheme.len() < 6 {
                if let Some(replacement) = self.shortest_prefix(grapheme) {
                    out.push_str(replacement);
                    continue;
                }
            }
            let mut buffer = [0; 4];
            for c in grapheme.chars() {
                let c = &*c.encode_utf8(&mut buffer);
                out.push_str(self.shortest_prefix(c).unwrap_or(c));
            }
        }
        out
    }

    /// Replacement of the shortest key that starts `key`, by a walk through the double array.
    fn shortest_prefix(&self, key: &str) -> Option<&str> {
        let mut node = 0_usize;
        node ^= unit_offset(*self.trie.first()?);
        for byte in key.bytes() {
            if byte == 0 {
                return None;
            }
            node ^= usize::from(byte);
            let unit = *self.trie.get(node)?;
            // Bit 31 marks a value unit, which no byte leads to.
            if unit & 0x8000_00FF != u32::from(byte) {
                return None;
            }
            node ^= unit_offset(unit);
            let has_value = unit >> 8 & 1 == 1;
            if has_value {
                let start = (*self.trie.get(node)? & 0x7FFF_FFFF) as usize;
                let rest = self.replacements.get(start..)?;
                return rest.split('\0').next();
            }
        }
        None
    }
}

/// Darts-clone's packed offset: 21 bits, shifted by another 8 if bit 9 is set.
fn unit_offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & 0x200) >> 6)) as usize
}

/// Code points and what replaces them; code points that aren't named stay.
#[derive(Clone, Debug, Default)]
pub struct CharacterMap {
    replacement_of: HashMap<char, String>,
}

impl CharacterMap {
    pub fn new(entries: impl IntoIterator<Item = (char, String)>) -> Self {
        Self { replacement_of: entries.into_iter().collect() }
    }

    /// Reads `num_entries` entries of the `E5S1` container: `u32` code point, `u8` count, so many `u32` code points.
    pub fn parse(num_entries: usize, bytes: &[u8]) -> Result<Self> {
        let mut rest = bytes;
        let mut replacement_of = HashMap::new();
        for _ in 0..num_entries {
            let from = take_char(bytes, &mut rest)?;
            let (count, after) = rest.split_first().ok_or_else(|| truncated(bytes, rest))?;
            rest = after;
            let mut replacement = String::new();
            for _ in 0..*count {
                replacement.push(take_char(bytes, &mut rest)?);
            }
            replacement_of.insert(from, replacement);
        }
        if !rest.is_empty() {
            let offset = bytes.len() - rest.len();
            return Err(Error::CharacterMap { offset, reason: "bytes follow the last entry" });
        }
        Ok(Self { replacement_of })
    }

    /// Graphemes of up to five bytes are composed first, because the map was flattened from one that knows
    /// letters with their combining marks.
    fn apply(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        if text.is_ascii() {
            text.chars().for_each(|c| self.push(c, &mut out));
            return out;
        }
        for grapheme in text.graphemes(true) {
            if grapheme.len() < 6 {
                grapheme.nfc().for_each(|c| self.push(c, &mut out));
            } else {
                grapheme.chars().for_each(|c| self.push(c, &mut out));
            }
        }
        out
    }

    fn push(&self, c: char, out: &mut String) {
        match self.replacement_of.get(&c) {
            Some(replacement) => out.push_str(replacement),
            None => out.push(c),
        }
    }
}

fn truncated(all: &[u8], rest: &[u8]) -> Error {
    Error::CharacterMap { offset: all.len() - rest.len(), reason: "it ends inside an entry" }
}

fn take_char(all: &[u8], rest: &mut &[u8]) -> Result<char> {
    let (head, after) = rest.split_first_chunk::<4>().ok_or_else(|| truncated(all, rest))?;
    let offset = all.len() - rest.len();
    *rest = after;
    char::from_u32(u32::from_le_bytes(*head))
        .ok_or(Error::CharacterMap { offset, reason: "it holds a number that is no code point" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(from: char, to: &str) -> Vec<u8> {
        let mut out = (from as u32).to_le_bytes().to_vec();
        out.push(to.chars().count() as u8);
        to.chars().for_each(|c| out.extend((c as u32).to_le_bytes()));
        out
    }

    #[test]
    fn character_map_replaces_composes_and_drops() {
        let bytes = [entry('Ａ', "A"), entry('…', "..."), entry('\u{1}', "")].concat();
        let map = CharacterMap::parse(3, &bytes).unwrap();
        assert_eq!(map.apply("Ａ…\u{1}b中e\u{301}"), "A...b中é");
        assert_eq!(map.apply(""), "");
    }

    #[test]
    fn damaged_character_maps_are_errors() {
        let bytes = entry('a', "bc");
        for (num_entries, bytes) in [
            (1, &bytes[..bytes.len() - 1]),
            (1, &bytes[..4]),
            (2, &bytes[..]),
            (0, &bytes[..]),
            (1, &[0, 0xD8, 0, 0, 0][..]),
        ] {
            assert!(CharacterMap::parse(num_entries, bytes).is_err(), "{num_entries} {bytes:?}");
        }
    }

    #[test]
    fn damaged_charsmaps_are_errors_and_wild_offsets_are_no_panic() {
        for blob in [&[][..], &[4, 0, 0][..], &[8, 0, 0, 0, 1, 2, 3, 4][..], &[0, 0, 0, 0][..]] {
            assert!(Charsmap::parse(blob).is_err(), "{blob:?}");
        }
        let wild = Charsmap::parse(&[4, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0x7F]).unwrap();
        assert_eq!(wild.apply("abc é"), "abc é");
    }

    proptest::proptest! {
        #[test]
        fn text_composed_by_stretches_is_text_composed_at_once(text in "[a-e\u{300}-\u{304}\u{0}-\u{10ffff}\u{4e2d}\u{ac00}-\u{ac01}\u{1100}-\u{1103}\u{1161}-\u{1165}\u{11a8}-\u{11aa}]{0,12}") {
            let whole: String = text.nfc().collect();
            proptest::prop_assert_eq!(composed(Cow::Borrowed(text.as_str())), whole);
        }
    }

    #[test]
    fn plain_ranges_are_in_nfc() {
        for c in ('\0'..=char::MAX).filter(|c| composes_never(*c)) {
            assert_eq!(is_nfc_quick(std::iter::once(c)), IsNormalized::Yes, "{c:?}");
            assert_eq!(unicode_normalization::char::canonical_combining_class(c), 0, "{c:?}");
        }
    }

    #[test]
    fn spaces_collapse() {
        for (text, expected) in [("", ""), (" ", " "), ("a  b   c ", "a b c "), ("\t\t", "\t\t")] {
            assert_eq!(Normalizer::CollapseSpaces.apply(text.into()), expected);
        }
    }
}
