//! Which characters are letters (`\p{L}`), numbers (`\p{N}`) and white space (`\s`), by one table look-up.
//!
//! The ranges come from `regex-syntax`, so hand-written splitters and regular expressions share one Unicode version.

use std::sync::LazyLock;

pub(crate) const LETTER: u8 = 1;
pub(crate) const NUMBER: u8 = 2;
pub(crate) const SPACE: u8 = 4;

/// Classes of [`case`]: letters that may start a word (`\p{Lu}\p{Lt}\p{Lm}\p{Lo}`), that may go on in one
/// (`\p{Ll}\p{Lm}\p{Lo}`), and marks (`\p{M}`), which may do both.
pub(crate) const UPPER: u8 = 1;
pub(crate) const LOWER: u8 = 2;
pub(crate) const MARK: u8 = 4;

const PAGE: usize = 256;

/// Two levels: pages of 256 characters, equal pages stored once.
struct Table {
    page_of: Vec<u16>,
    pages: Vec<[u8; PAGE]>,
}

static CLASSES: LazyLock<Table> =
    LazyLock::new(|| build(&[(r"\p{L}", LETTER), (r"\p{N}", NUMBER), (r"\s", SPACE)]));

/// [`class`] of the first 128 characters, which are most of all text.
static ASCII: [u8; 128] = {
    let mut classes = [0; 128];
    let mut code = 0;
    while code < 128 {
        classes[code] = match code as u8 {
            b'a'..=b'z' | b'A'..=b'Z' => LETTER,
            b'0'..=b'9' => NUMBER,
            // Vertical tab and form feed count as white space for regular expressions.
            b' ' | b'\t'..=b'\r' => SPACE,
            _ => 0,
        };
        code += 1;
    }
    classes
};

static CASES: LazyLock<Table> = LazyLock::new(|| {
    build(&[(r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}]", UPPER), (r"[\p{Ll}\p{Lm}\p{Lo}]", LOWER), (r"\p{M}", MARK)])
});

/// The class of a character: one of the constants above, or 0 for everything else.
#[inline]
pub(crate) fn class(c: char) -> u8 {
    match ASCII.get(c as usize) {
        Some(class) => *class,
        None => CLASSES.find(c),
    }
}

/// Whether a character is a capital, a small letter, both or a mark.
#[inline]
pub(crate) fn case(c: char) -> u8 {
    CASES.find(c)
}

impl Table {
    #[inline]
    fn find(&self, c: char) -> u8 {
        let code = c as usize;
        self.pages[usize::from(self.page_of[code / PAGE])][code % PAGE]
    }
}

fn build(patterns: &[(&str, u8)]) -> Table {
    let mut flat = vec![0_u8; char::MAX as usize + 1];
    for (pattern, flag) in patterns {
        for (first, last) in ranges(pattern) {
            for classes in &mut flat[first as usize..=last as usize] {
                *classes |= *flag;
            }
        }
    }
    let mut table = Table { page_of: Vec::new(), pages: Vec::new() };
    for chunk in flat.chunks(PAGE) {
        let mut page = [0; PAGE];
        page[..chunk.len()].copy_from_slice(chunk);
        let known = table.pages.iter().position(|other| *other == page);
        let index = known.unwrap_or_else(|| {
            table.pages.push(page);
            table.pages.len() - 1
        });
        table.page_of.push(index as u16);
    }
    table
}

fn ranges(pattern: &str) -> Vec<(char, char)> {
    let parsed = regex_syntax::parse(pattern).expect("the patterns above are valid");
    match parsed.kind() {
        regex_syntax::hir::HirKind::Class(regex_syntax::hir::Class::Unicode(class)) => {
            class.iter().map(|range| (range.start(), range.end())).collect()
        }
        other => unreachable!("`{pattern}` is a class of characters, not {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_table_equals_the_long_one() {
        for c in '\0'..='\u{7f}' {
            assert_eq!(class(c), CLASSES.find(c), "{c:?}");
        }
    }

    #[test]
    fn classes_of_known_characters() {
        for (c, expected) in [
            ('a', LETTER),
            ('ſ', LETTER),
            ('中', LETTER),
            ('7', NUMBER),
            ('Ⅷ', NUMBER),
            ('½', NUMBER),
            (' ', SPACE),
            ('\u{3000}', SPACE),
            ('\u{85}', SPACE),
            ('\u{200b}', 0),
            ('_', 0),
            ('\u{301}', 0),
            ('\0', 0),
            (char::MAX, 0),
        ] {
            assert_eq!(class(c), expected, "{c:?}");
        }
    }
}
