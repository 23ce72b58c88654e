//! Which documents a search looks at: `kind=pdf,path=guides/*,year!=2023`.

use crate::error::{Error, Result};

/// Conditions that all must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    name: String,
    /// `*` stands for any characters.
    pattern: String,
    /// True for `!=`.
    negated: bool,
}

impl Filter {
    /// Parses `name=pattern` and `name!=pattern` with commas between. `*` in a pattern stands for any characters; names
    /// are `path`, `title`, `kind` and those given when documents were added.
    pub fn parse(text: &str) -> Result<Self> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let condition = |part: &str| {
            let bad = || Error::Filter { filter: text.into(), part: part.into() };
            let (name, pattern) = part.split_once('=').ok_or_else(bad)?;
            let (name, negated) = match name.strip_suffix('!') {
                Some(name) => (name, true),
                None => (name, false),
            };
            let name = name.trim();
            if name.is_empty() {
                return Err(bad());
            }
            Ok(Condition { name: name.into(), pattern: pattern.trim().into(), negated })
        };
        Ok(Self { conditions: parts.map(condition).collect::<Result<_>>()? })
    }

    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    /// `value` tells what a document has under a name; a name it doesn't have equals nothing.
    pub fn matches(&self, value: impl Fn(&str) -> Option<String>) -> bool {
        self.conditions.iter().all(|condition| {
            let equal = value(&condition.name).is_some_and(|value| like(&value, &condition.pattern));
            equal != condition.negated
        })
    }
}

/// Does the value have the pattern's pieces in their order, the first at its start and the last at its end?
fn like(value: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return value == pattern;
    };
    let Some(mut value) = value.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some(at) = value.find(piece) else { return false };
        value = &value[at + piece.len()..];
    }
    value.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(filter: &str, expected: bool) {
        let value = |name: &str| match name {
            "path" => Some("guides/zh/pump.pdf".to_owned()),
            "year" => Some("2024".to_owned()),
            _ => None,
        };
        assert_eq!(Filter::parse(filter).expect("a filter").matches(value), expected, "{filter}");
    }

    #[test]
    fn all_conditions_must_hold() {
        check("", true);
        check("year=2024", true);
        check("year = 2024 , path=guides/*", true);
        check("path=*.pdf", true);
        check("path=g*zh*.pdf", true);
        check("path=*", true);
        check("path=guides", false);
        check("path=*zh", false);
        check("path=guides/zh/pump.pdf*pump.pdf", false);
        check("year!=2024", false);
        check("year!=2023,path=*pump*", true);
        check("colour=red", false);
        check("colour!=red", true);
        assert!(Filter::parse("year").is_err() && Filter::parse("=x").is_err());
    }
}
