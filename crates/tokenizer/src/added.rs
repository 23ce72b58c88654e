//! Special tokens in text: where the next one stands.
//!
//! The leftmost match wins, and of those the longest, as in Hugging Face's tokenizers.

use crate::classes::{LETTER, NUMBER, class};
use crate::vocabulary::{TokenId, TokenKind};

#[derive(Clone, Debug)]
pub(crate) struct AddedToken {
    pub(crate) content: String,
    pub(crate) id: TokenId,
    pub(crate) kind: TokenKind,
    /// White space on this side belongs to the token.
    pub(crate) lstrip: bool,
    pub(crate) rstrip: bool,
    /// Matches only where no word character is beside it.
    pub(crate) single_word: bool,
}

impl AddedToken {
    pub(crate) fn plain(content: String, id: TokenId, kind: TokenKind) -> Self {
        Self { content, id, kind, lstrip: false, rstrip: false, single_word: false }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) id: TokenId,
}

#[derive(Clone, Debug)]
pub(crate) struct AddedTokens {
    /// Longest first for each first byte.
    tokens: Vec<AddedToken>,
    by_first_byte: Vec<Vec<u32>>,
}

impl AddedTokens {
    pub(crate) fn new(mut tokens: Vec<AddedToken>) -> Self {
        tokens.retain(|token| !token.content.is_empty());
        tokens.sort_by(|a, b| b.content.len().cmp(&a.content.len()).then(a.id.cmp(&b.id)));
        let mut by_first_byte = vec![Vec::new(); 256];
        for (index, token) in tokens.iter().enumerate() {
            by_first_byte[usize::from(token.content.as_bytes()[0])].push(index as u32);
        }
        Self { tokens, by_first_byte }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &AddedToken> {
        self.tokens.iter()
    }

    /// The next token at or after `from`; white space that a token strips is part of its range.
    pub(crate) fn find(&self, text: &str, from: usize) -> Option<Found> {
        let (start, token) = self.find_where(text, from, |_| true)?;
        let end = start + token.content.len();
        let left = &text[from..start];
        let start = if token.lstrip { from + left.trim_end().len() } else { start };
        let right = &text[end..];
        let end = if token.rstrip { text.len() - right.trim_start().len() } else { end };
        Some(Found { start, end, id: token.id })
    }

    /// Start of the next token at or after `from` that `wanted` accepts, and the token.
    pub(crate) fn find_where(
        &self,
        text: &str,
        from: usize,
        wanted: impl Fn(&AddedToken) -> bool,
    ) -> Option<(usize, &AddedToken)> {
        let bytes = text.as_bytes();
        for (at, byte) in bytes.iter().enumerate().skip(from) {
            for &index in &self.by_first_byte[usize::from(*byte)] {
                let token = &self.tokens[index as usize];
                if bytes[at..].starts_with(token.content.as_bytes())
                    && (!token.single_word || stands_alone(text, at, at + token.content.len()))
                    && wanted(token)
                {
                    return Some((at, token));
                }
            }
        }
        None
    }
}

fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let is_word = |c: char| class(c) & (LETTER | NUMBER) != 0 || c == '_';
    let before = text[..start].chars().next_back();
    let after = text[end..].chars().next();
    !before.is_some_and(is_word) && !after.is_some_and(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> AddedTokens {
        let mut mask = AddedToken::plain("<mask>".into(), 2, TokenKind::Control);
        mask.lstrip = true;
        let mut word = AddedToken::plain("foo".into(), 3, TokenKind::UserDefined);
        word.single_word = true;
        AddedTokens::new(vec![
            AddedToken::plain("<a>".into(), 0, TokenKind::Control),
            AddedToken::plain("<a><b>".into(), 1, TokenKind::Control),
            mask,
            word,
            AddedToken::plain(String::new(), 4, TokenKind::Control),
        ])
    }

    #[test]
    fn leftmost_then_longest() {
        for (text, expected) in [
            ("", None),
            ("<a", None),
            ("x<a>y", Some((1, 4, 0))),
            ("x<a><b>", Some((1, 7, 1))),
            ("x  <mask> y", Some((1, 9, 2))),
            ("food foo", Some((5, 8, 3))),
            ("中<a>", Some((3, 6, 0))),
        ] {
            let expected = expected.map(|(start, end, id)| Found { start, end, id });
            assert_eq!(tokens().find(text, 0), expected, "{text:?}");
        }
        assert_eq!(tokens().find("<a><a>", 1).unwrap().start, 3);
    }
}
