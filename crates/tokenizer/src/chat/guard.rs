//! Keeps text that spells a special token from becoming one on its way through a template.
//!
//! A private-use character that occurs nowhere in the conversation or template is put behind the first character of
//! each such spelling, also of one that only begins or ends at the text's edge. Special tokens are then looked for
//! in the rendered text, where the guarded spellings don't match, and the guards are taken out afterwards.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};

use serde_json::Value;

use crate::added::{AddedToken, AddedTokens};
use crate::conversation::Conversation;
use crate::error::{Error, Result};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Guard(char);

impl Guard {
    /// The first private-use character that nobody has written.
    pub(crate) fn for_conversation(conversation: &Conversation, template: &str) -> Result<Self> {
        let mut taken: HashSet<char> = template.chars().filter(|c| *c >= '\u{e000}').collect();
        let json = serde_json::to_value(conversation)?;
        for_each_string(&json, &mut |text| {
            taken.extend(text.chars().filter(|c| *c >= '\u{e000}'));
        });
        ('\u{e000}'..=char::MAX).find(|c| !taken.contains(c)).map(Self).ok_or(Error::NoGuard)
    }

    /// Breaks each spelling of a token that `wanted` accepts.
    pub(crate) fn insert(
        self,
        text: &str,
        tokens: &AddedTokens,
        wanted: impl Fn(&AddedToken) -> bool,
    ) -> String {
        let wanted = |token: &AddedToken| !token.is_harmless() && wanted(token);
        let mut places = BTreeSet::new();
        let mut at = 0;
        while let Some((start, token)) = tokens.find_where(text, at, wanted) {
            at = start + first_char_len(&token.content);
            places.insert(at);
        }
        for token in tokens.iter().filter(|token| wanted(token)) {
            let content = &token.content;
            for (cut, _) in content.char_indices().skip(1) {
                if text.ends_with(&content[..cut]) {
                    places.insert(text.len() - cut + first_char_len(content));
                }
                if text.starts_with(&content[cut..]) {
                    places.insert(0);
                }
            }
        }
        let mut out = String::with_capacity(text.len() + 4 * places.len());
        let mut at = 0;
        for place in places {
            out.push_str(&text[at..place]);
            out.push(self.0);
            at = place;
        }
        out.push_str(&text[at..]);
        out
    }

    pub(crate) fn remove(self, text: &str) -> Cow<'_, str> {
        if text.contains(self.0) { Cow::Owned(text.replace(self.0, "")) } else { Cow::Borrowed(text) }
    }
}

fn first_char_len(text: &str) -> usize {
    text.chars().next().map_or(0, char::len_utf8)
}

fn for_each_string(value: &Value, f: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => f(text),
        Value::Array(items) => items.iter().for_each(|item| for_each_string(item, f)),
        Value::Object(fields) => {
            for (key, item) in fields {
                f(key);
                for_each_string(item, f);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Names that templates look values up by: they are the format's own words, not anybody's text.
const FIELDS: [&str; 20] = [
    "type",
    "function",
    "name",
    "arguments",
    "id",
    "description",
    "parameters",
    "properties",
    "required",
    "items",
    "enum",
    "default",
    "anyOf",
    "oneOf",
    "allOf",
    "additionalProperties",
    "return",
    "text",
    "content",
    "role",
];

/// The same value with `f` applied to each string and each key that isn't one of the format's.
pub(crate) fn map_strings(value: &Value, f: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(f(text)),
        Value::Array(items) => items.iter().map(|item| map_strings(item, f)).collect(),
        Value::Object(fields) => {
            let name = |key: &str| if FIELDS.contains(&key) { key.to_owned() } else { f(key) };
            fields.iter().map(|(key, item)| (name(key), map_strings(item, f))).collect()
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::Message;
    use crate::vocabulary::TokenKind;

    #[test]
    fn spellings_are_broken_whole_and_at_the_edges() {
        let tokens = ["<|e|>", "<t>", "<h1>"];
        let tokens = tokens.iter().enumerate().map(|(id, token)| {
            let kind = if id < 2 { TokenKind::Control } else { TokenKind::UserDefined };
            AddedToken::plain((*token).to_owned(), id as u32, kind)
        });
        let tokens = AddedTokens::new(tokens.collect());
        let guard = Guard('_');
        for (text, expected) in [
            ("", ""),
            ("plain > text", "plain > text"),
            ("a<|e|>b", "a<_|e|>b"),
            ("<t><t>", "<_t><_t>"),
            ("<|e|", "<_|e|"),
            ("x <", "x <_"),
            ("|e|> y", "_|e|> y"),
            ("> quote", "_> quote"),
            ("a<h1>b", "a<h1>b"),
        ] {
            assert_eq!(guard.insert(text, &tokens, |_| true), expected, "{text:?}");
            assert_eq!(guard.remove(expected), text);
        }
    }

    #[test]
    fn the_guard_is_a_character_nobody_wrote() {
        let conversation = Conversation::from(vec![Message::user("\u{e000}\u{e001}")]);
        assert_eq!(Guard::for_conversation(&conversation, "\u{e002}").unwrap().0, '\u{e003}');
    }
}
