//! Cuts text into the words that merges never cross.
//!
//! The patterns of most families ([`families`]) are scanned by hand, in one pass and without backtracking; any other
//! pattern goes through `fancy-regex`. Each scanner equals its pattern, which tests check.

use crate::bert;
use crate::classes::{LETTER, NUMBER, SPACE, class};
use crate::error::{Error, Result};

mod cased;
mod families;

pub(crate) use families::{CL100K, CL100K_PORTABLE, NANOCHAT, O200K};
pub use families::{GPT2, SPLIT_NAMES, ignores_merges, split_patterns};

/// One step of a pre-tokenizer; each splits what the one before has left whole.
#[derive(Clone, Debug)]
pub(crate) enum Splitter {
    Gpt2,
    /// The family's pattern, with at most so many digits in a word.
    Tiktoken {
        max_digits: usize,
        /// White space at the end of the text stays together.
        keeps_tail: bool,
    },
    /// Words also end before a capital letter ([`cased`]).
    Cased {
        max_digits: usize,
        contractions: bool,
    },
    /// Each number character on its own.
    Digits,
    /// Any other pattern.
    Pattern {
        regex: Box<fancy_regex::Regex>,
        gaps: Gaps,
    },
    /// At white space, which is dropped.
    WhiteSpace,
    /// At white space and around punctuation ([`bert`]).
    Bert,
}

/// What becomes of the text between the matches of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gaps {
    /// Words of their own.
    Kept,
    Dropped,
    /// They are the words, and the matches are dropped.
    Only,
    /// A match ends the gap before it.
    TakeNext,
    /// A match starts the gap behind it.
    TakePrevious,
}

pub(crate) fn compile(pattern: &str) -> Result<fancy_regex::Regex> {
    fancy_regex::Regex::new(pattern)
        .map_err(|source| Error::Pattern { pattern: pattern.to_owned(), source: Box::new(source) })
}

/// How many words a text has by Unicode's rules (UAX 29); each Chinese character is one.
pub fn count_words(text: &str) -> usize {
    unicode_segmentation::UnicodeSegmentation::unicode_words(text).count()
}

/// Gives the words of `text` to `word`, in order.
pub(crate) fn split<'t, F: FnMut(&'t str)>(splitters: &[Splitter], text: &'t str, word: &mut F) {
    let Some((first, rest)) = splitters.split_first() else {
        if !text.is_empty() {
            word(text);
        }
        return;
    };
    match first {
        Splitter::Gpt2 => {
            scan(text, |text, at| plain_word_end(text, at).unwrap_or_else(|| gpt2_end(text, at)), rest, word);
        }
        Splitter::Tiktoken { max_digits, keeps_tail } => {
            let (max_digits, keeps_tail) = (*max_digits, *keeps_tail);
            let other = |text: &str, at| tiktoken_end(text, at, max_digits, keeps_tail);
            scan(text, |text, at| plain_word_end(text, at).unwrap_or_else(|| other(text, at)), rest, word);
        }
        Splitter::Cased { max_digits, contractions } => {
            let (max_digits, contractions) = (*max_digits, *contractions);
            scan(text, |text, at| cased::word_end(text, at, max_digits, contractions), rest, word);
        }
        Splitter::Digits => scan(text, digits_end, rest, word),
        Splitter::Pattern { regex, gaps } => {
            split_by_pattern(regex, *gaps, text, &mut |piece| split(rest, piece, word));
        }
        Splitter::WhiteSpace => {
            for piece in text.split_whitespace() {
                split(rest, piece, word);
            }
        }
        Splitter::Bert => bert::split(text, &mut |piece| split(rest, piece, word)),
    }
}

#[inline]
fn scan<'t, F: FnMut(&'t str)>(
    text: &'t str,
    end_of_word: impl Fn(&str, usize) -> usize,
    rest: &[Splitter],
    word: &mut F,
) {
    let mut at = 0;
    while at < text.len() {
        let end = end_of_word(text, at);
        debug_assert!(end > at, "a word at byte {at} must have a length");
        if rest.is_empty() {
            word(&text[at..end]);
        } else {
            split(rest, &text[at..end], word);
        }
        at = end;
    }
}

/// A pattern that gives up (its backtracking limit) leaves the rest of the text as one word: no text is lost.
fn split_by_pattern<'t>(
    regex: &fancy_regex::Regex,
    gaps: Gaps,
    text: &'t str,
    word: &mut dyn FnMut(&'t str),
) {
    let mut some = |piece: &'t str| {
        if !piece.is_empty() {
            word(piece);
        }
    };
    let mut at = 0;
    for found in regex.find_iter(text) {
        let Ok(found) = found else { break };
        let gap = at..found.start();
        at = match gaps {
            Gaps::TakeNext => {
                some(&text[gap.start..found.end()]);
                found.end()
            }
            Gaps::TakePrevious => {
                some(&text[gap]);
                found.start()
            }
            Gaps::Kept | Gaps::Dropped | Gaps::Only => {
                if gaps != Gaps::Dropped {
                    some(&text[gap]);
                }
                if gaps != Gaps::Only {
                    some(found.as_str());
                }
                found.end()
            }
        };
    }
    if gaps != Gaps::Dropped {
        some(&text[at..]);
    }
}

#[inline]
fn char_at(text: &str, at: usize) -> Option<char> {
    let byte = *text.as_bytes().get(at)?;
    if byte < 0x80 { Some(char::from(byte)) } else { text[at..].chars().next() }
}

/// End of the run of characters whose class is exactly `wanted`.
#[inline]
fn run_end(text: &str, mut at: usize, wanted: u8) -> usize {
    while let Some(c) = char_at(text, at) {
        if class(c) != wanted {
            break;
        }
        at += c.len_utf8();
    }
    at
}

/// Each byte of a word of eight.
const EACH: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x80 * EACH;

/// The high bit of each byte of `word` that lies in `first..=last`, both ASCII; other bytes' high bits are clear.
#[inline]
fn bytes_within(word: u64, first: u8, last: u8) -> u64 {
    let low = word & !HIGH_BITS;
    let at_least = low + u64::from(0x80 - first) * EACH;
    let above = low + u64::from(0x7f - last) * EACH;
    at_least & !above & !word & HIGH_BITS
}

/// End of the run of ASCII letters at `at`.
#[inline]
fn ascii_letters_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        // Capitals become small letters, and nothing else becomes one; bytes that aren't ASCII stay so.
        let small = u64::from_le_bytes(*chunk) | (0x20 * EACH);
        let others = !bytes_within(small, b'a', b'z') & HIGH_BITS;
        if others != 0 {
            return at + others.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = &bytes[at..];
    at + rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count()
}

/// End of what most words are, in any of the patterns: ASCII letters, with a space before them or none.
#[inline]
fn plain_word_end(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let start = at + usize::from(bytes[at] == b' ');
    let end = ascii_letters_end(bytes, start);
    (end > start && bytes.get(end).is_none_or(u8::is_ascii)).then_some(end)
}

/// Skips ASCII that holds no digit.
#[inline]
fn without_digits(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        if (bytes_within(word, b'0', b'9') | word & HIGH_BITS) != 0 {
            break;
        }
        at += 8;
    }
    at
}

fn digits_end(text: &str, at: usize) -> usize {
    let mut end = without_digits(text.as_bytes(), at);
    while let Some(c) = char_at(text, end) {
        if class(c) == NUMBER {
            return if end == at { at + c.len_utf8() } else { end };
        }
        end += c.len_utf8();
    }
    end
}

/// End of the word at `at` by [`families::GPT2`].
fn gpt2_end(text: &str, at: usize) -> usize {
    let first = char_at(text, at).unwrap_or_default();
    if first == '\'' {
        let bytes = &text.as_bytes()[at + 1..];
        match bytes {
            [b's' | b't' | b'm' | b'd', ..] => return at + 2,
            [b'r' | b'v', b'e', ..] | [b'l', b'l', ..] => return at + 3,
            _ => {}
        }
    }
    if first == ' ' {
        match char_at(text, at + 1).map(class) {
            None | Some(SPACE) => {}
            Some(next) => return run_end(text, at + 1, next),
        }
    }
    match class(first) {
        SPACE => space_end(text, at),
        other => run_end(text, at, other),
    }
}

/// End of the word at `at` by [`families::QWEN2`] (`max_digits` 1), [`families::LLAMA3`] (3) or
/// [`families::CL100K`] (`keeps_tail`).
fn tiktoken_end(text: &str, at: usize, max_digits: usize, keeps_tail: bool) -> usize {
    let first = char_at(text, at).unwrap_or_default();
    if first == '\'' {
        if let Some(end) = contraction_end(text, at + 1) {
            return end;
        }
    }
    let after = at + first.len_utf8();
    let first_class = class(first);
    match first_class {
        LETTER => return run_end(text, after, LETTER),
        NUMBER => return number_end(text, at, max_digits),
        _ => {}
    }
    let next_class = char_at(text, after).map(class);
    if next_class == Some(LETTER) && first != '\r' && first != '\n' {
        return run_end(text, after, LETTER);
    }
    if first_class == 0 || (first == ' ' && next_class == Some(0)) {
        let end = run_end(text, after, 0);
        let rest = &text.as_bytes()[end..];
        let num_breaks = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        return end + num_breaks;
    }
    if keeps_tail && run_end(text, at, SPACE) == text.len() {
        return text.len();
    }
    spaces_end(text, at)
}

/// `\s*[\r\n]+|\s+(?!\S)|\s+`: up to the last line break, or like [`space_end`].
fn spaces_end(text: &str, at: usize) -> usize {
    let spaces = &text[at..run_end(text, at, SPACE)];
    match spaces.rfind(['\r', '\n']) {
        Some(last_break) => at + last_break + 1,
        None => space_end(text, at),
    }
}

/// `\p{N}{1,max}`
fn number_end(text: &str, at: usize, max_digits: usize) -> usize {
    let digits = text[at..].chars().take(max_digits).take_while(|c| class(*c) == NUMBER);
    at + digits.map(char::len_utf8).sum::<usize>()
}

/// `s`, `t`, `re`, … in any case after an apostrophe; `ſ` folds to `s` in the published patterns.
fn contraction_end(text: &str, at: usize) -> Option<usize> {
    match text.as_bytes()[at..] {
        [b's' | b'S' | b't' | b'T' | b'm' | b'M' | b'd' | b'D', ..] => Some(at + 1),
        [b'r' | b'R' | b'v' | b'V', b'e' | b'E', ..] | [b'l' | b'L', b'l' | b'L', ..] => Some(at + 2),
        [0xC5, 0xBF, ..] => Some(at + 2),
        _ => None,
    }
}

/// `\s+(?!\S)|\s+`: all white space, but the last one stays for the word that follows.
fn space_end(text: &str, at: usize) -> usize {
    let end = run_end(text, at, SPACE);
    if end == text.len() {
        return end;
    }
    let last = text[at..end].chars().next_back().map_or(0, char::len_utf8);
    if end - last > at { end - last } else { end }
}

#[cfg(test)]
mod tests;
