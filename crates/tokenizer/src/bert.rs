//! What BERT's tokenizers do to text before word pieces: cleaning, spaces around Chinese characters, accents and case,
//! and a cut at white space and around each punctuation mark (Devlin et al. 2018, `BasicTokenizer`).
//!
//! Categories come from `unicode_categories`, whose old Unicode tables are those of Hugging Face's tokenizers: with
//! newer ones the ids of text with recent characters would differ.

use std::sync::OnceLock;

use unicode_categories::UnicodeCategories;
use unicode_normalization::UnicodeNormalization;

#[expect(clippy::struct_excessive_bools, reason = "these are the file's own fields")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BertNormalizer {
    /// Control characters go, all white space becomes U+0020.
    pub clean_text: bool,
    /// Each ideograph becomes a word of its own.
    pub handle_chinese_chars: bool,
    /// Letters are decomposed and their accents go.
    pub strip_accents: bool,
    pub lowercase: bool,
}

impl BertNormalizer {
    pub(crate) fn apply(self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() + text.len() / 4);
        // Characters that may decompose or reorder wait here for the end of their run.
        let mut waiting = String::new();
        for c in text.chars() {
            let Some(c) = self.clean(c) else { continue };
            if c.is_ascii() {
                self.flush(&mut waiting, &mut out);
                out.push(if self.lowercase { c.to_ascii_lowercase() } else { c });
            } else if self.handle_chinese_chars && is_ideograph(c) {
                self.flush(&mut waiting, &mut out);
                out.push(' ');
                if is_plain_ideograph(c) {
                    out.push(c);
                } else {
                    waiting.push(c);
                    self.flush(&mut waiting, &mut out);
                }
                out.push(' ');
            } else {
                waiting.push(c);
            }
        }
        self.flush(&mut waiting, &mut out);
        out
    }

    fn clean(self, c: char) -> Option<char> {
        match c {
            _ if !self.clean_text => Some(c),
            '\t' | '\n' | '\r' => Some(' '),
            ' '..='~' => Some(c),
            '\u{fffd}' => None,
            _ if class(c) & CONTROL != 0 => None,
            _ if c.is_whitespace() => Some(' '),
            _ => Some(c),
        }
    }

    fn flush(self, waiting: &mut String, out: &mut String) {
        if waiting.is_empty() {
            return;
        }
        let push = |c: char| {
            if self.lowercase {
                // Letter by letter, without the special form that sigma takes at the end of a word.
                out.extend(c.to_lowercase());
            } else {
                out.push(c);
            }
        };
        if self.strip_accents {
            waiting.nfd().filter(|c| class(*c) & MARK == 0).for_each(push);
        } else {
            waiting.chars().for_each(push);
        }
        waiting.clear();
    }
}

/// The blocks that BERT's first implementation called Chinese.
fn is_ideograph(c: char) -> bool {
    matches!(c,
        '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{20000}'..='\u{2a6df}' | '\u{2a700}'..='\u{2b73f}'
        | '\u{2b740}'..='\u{2b81f}' | '\u{2b920}'..='\u{2ceaf}' | '\u{f900}'..='\u{faff}' | '\u{2f800}'..='\u{2fa1f}')
}

/// Compatibility ideographs decompose; these don't.
fn is_plain_ideograph(c: char) -> bool {
    matches!(c, '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}')
}

/// The text without its nonspacing marks.
pub(crate) fn without_marks(text: &str) -> String {
    text.chars().filter(|c| class(*c) & MARK == 0).collect()
}

/// Gives the words of `text`: white space is dropped, each punctuation mark stands alone.
pub(crate) fn split<'t>(text: &'t str, word: &mut dyn FnMut(&'t str)) {
    let mut start = 0;
    for (at, c) in text.char_indices() {
        let is_mark = is_punctuation(c);
        if !is_mark && !c.is_whitespace() {
            continue;
        }
        if start < at {
            word(&text[start..at]);
        }
        start = at + c.len_utf8();
        if is_mark {
            word(&text[at..start]);
        }
    }
    if start < text.len() {
        word(&text[start..]);
    }
}

fn is_punctuation(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_punctuation() } else { class(c) & PUNCTUATION != 0 }
}

const CONTROL: u8 = 1;
const MARK: u8 = 2;
const PUNCTUATION: u8 = 4;
const PAGE: usize = 256;
const NUM_PAGES: usize = (char::MAX as usize + 1) / PAGE;

/// Classes of a character, from a table whose pages are filled when first asked for.
fn class(c: char) -> u8 {
    static PAGES: [OnceLock<Box<[u8; PAGE]>>; NUM_PAGES] = [const { OnceLock::new() }; NUM_PAGES];
    let code = c as usize;
    let page = PAGES[code / PAGE].get_or_init(|| {
        let first = code / PAGE * PAGE;
        Box::new(std::array::from_fn(|offset| {
            char::from_u32((first + offset) as u32).map_or(0, class_by_search)
        }))
    });
    page[code % PAGE]
}

fn class_by_search(c: char) -> u8 {
    let flag = |is: bool, flag: u8| if is { flag } else { 0 };
    flag(c.is_other(), CONTROL) | flag(c.is_mark_nonspacing(), MARK) | flag(c.is_punctuation(), PUNCTUATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNCASED: BertNormalizer =
        BertNormalizer { clean_text: true, handle_chinese_chars: true, strip_accents: true, lowercase: true };
    const CASED: BertNormalizer = BertNormalizer { strip_accents: false, lowercase: false, ..UNCASED };

    #[test]
    fn text_is_cleaned_spaced_and_folded() {
        for (text, uncased, cased) in [
            ("", "", ""),
            ("Héllo\tWorld\0", "hello world", "Héllo World"),
            ("中文a", " 中  文 a", " 中  文 a"),
            ("ΟΔΟΣ İ", "οδοσ i", "ΟΔΟΣ İ"),
            ("e\u{301}\u{200b}x\u{3000}y\u{fffd}", "ex y", "e\u{301}x y"),
            ("豈", " 豈 ", " 豈 "),
        ] {
            assert_eq!(UNCASED.apply(text), uncased, "{text:?}");
            assert_eq!(CASED.apply(text), cased, "{text:?}");
        }
    }

    #[test]
    fn words_are_cut_at_spaces_and_marks() {
        let mut words = Vec::new();
        split(" don't  (stop) — now。$5", &mut |word| words.push(word));
        assert_eq!(words, ["don", "'", "t", "(", "stop", ")", "—", "now", "。", "$", "5"]);
    }
}
