//! Special tokens in text: where the next one stands.
//!
//! The leftmost match wins, and of those the longest, as in Hugging Face's tokenizers. Some vocabularies add tokens
//! that mean nothing but themselves (runs of white space, tags of HTML): those plain text may become, too.

use crate::classes::{LETTER, NUMBER, class};
use crate::trie::Trie;
use crate::vocabulary::{TokenId, TokenKind};

/// Names of HTML elements that vocabularies hold as tokens of their own (Gemma).
const HTML: [&str; 45] = [
    "a",
    "b",
    "blockquote",
    "body",
    "br",
    "caption",
    "code",
    "dd",
    "div",
    "dl",
    "dt",
    "em",
    "footer",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "head",
    "header",
    "hr",
    "html",
    "i",
    "iframe",
    "img",
    "li",
    "nav",
    "ol",
    "p",
    "pre",
    "s",
    "span",
    "strong",
    "sub",
    "sup",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "tr",
    "u",
    "ul",
];

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

    /// Whether the token plays no part in any template, so that text of anybody may become it.
    pub(crate) fn is_harmless(&self) -> bool {
        self.kind == TokenKind::UserDefined && (is_space(&self.content) || is_html(&self.content))
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
    tokens: Vec<AddedToken>,
    /// From contents to places in `tokens`.
    trie: Trie,
    starts: Box<[bool; 256]>,
}

impl AddedTokens {
    /// Of tokens with the same content the one with the lowest id stays.
    pub(crate) fn new(mut tokens: Vec<AddedToken>) -> Self {
        tokens.retain(|token| !token.content.is_empty());
        tokens.sort_by(|a, b| a.content.cmp(&b.content).then(a.id.cmp(&b.id)));
        tokens.dedup_by(|later, first| later.content == first.content);
        let mut starts = Box::new([false; 256]);
        for token in &tokens {
            starts[usize::from(token.content.as_bytes()[0])] = true;
        }
        let trie = Trie::new(
            tokens.iter().zip(0..).map(|(token, index)| (token.content.as_bytes(), index)).collect(),
        );
        Self { tokens, trie, starts }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &AddedToken> {
        self.tokens.iter()
    }

    /// Those that plain text may become.
    pub(crate) fn harmless(&self) -> Self {
        Self::new(self.tokens.iter().filter(|token| token.is_harmless()).cloned().collect())
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
        if self.tokens.is_empty() {
            return None;
        }
        for (at, byte) in bytes.iter().enumerate().skip(from) {
            if !self.starts[usize::from(*byte)] {
                continue;
            }
            let mut longest = None;
            self.trie.prefixes(&bytes[at..], |len, index| {
                let token = &self.tokens[index as usize];
                if (!token.single_word || stands_alone(text, at, at + len)) && wanted(token) {
                    longest = Some((at, token));
                }
            });
            if longest.is_some() {
                return longest;
            }
        }
        None
    }
}

fn is_space(content: &str) -> bool {
    content.chars().all(|c| c.is_whitespace() || c == '▁')
}

fn is_html(content: &str) -> bool {
    let tag = content.strip_prefix('<').and_then(|tag| tag.strip_suffix('>'));
    tag.is_some_and(|tag| HTML.contains(&tag.strip_prefix('/').unwrap_or(tag)))
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
    fn only_white_space_and_html_is_harmless() {
        let harmless = |content: &str, kind| AddedToken::plain(content.into(), 0, kind).is_harmless();
        for (content, expected) in [
            ("  ", true),
            ("▁▁", true),
            ("\n", true),
            ("<h1>", true),
            ("</td>", true),
            ("<think>", false),
            ("[x]", false),
        ] {
            assert_eq!(harmless(content, TokenKind::UserDefined), expected, "{content:?}");
            assert!(!harmless(content, TokenKind::Control));
        }
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
