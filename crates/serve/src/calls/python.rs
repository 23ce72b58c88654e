//! Calls as Python: `name(key="value", n=3)`, several in lines or in a list, in `print` or behind `default_api.`.
//!
//! Literals are all that is understood; whatever else stands there is no call.

use serde_json::{Map, Number, Value};

/// Lists and dictionaries inside each other; deeper ones are no call.
const MAX_DEPTH: usize = 32;

/// Every call of a text that holds nothing else: names and arguments.
pub(super) fn calls(text: &str) -> Option<Vec<(String, Value)>> {
    let mut reader = Reader { rest: text };
    let mut calls = Vec::new();
    loop {
        reader.skip(&[',', ';', '[', ']']);
        if reader.rest.is_empty() {
            return (!calls.is_empty()).then_some(calls);
        }
        calls.push(reader.call()?);
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn skip(&mut self, more: &[char]) {
        self.rest = self.rest.trim_start_matches(|c: char| c.is_whitespace() || more.contains(&c));
    }

    fn take(&mut self, text: &str) -> Option<()> {
        self.skip(&[]);
        self.rest = self.rest.strip_prefix(text)?;
        Some(())
    }

    fn name(&mut self) -> Option<String> {
        self.skip(&[]);
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        let end = self.rest.find(|c| !is_name(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!name.is_empty()).then(|| name.into())
    }

    fn call(&mut self) -> Option<(String, Value)> {
        let name = self.name()?;
        self.take("(")?;
        if name == "print" {
            let call = self.call()?;
            self.take(")")?;
            return Some(call);
        }
        let name = name.strip_prefix("default_api.").unwrap_or(&name).to_owned();
        let mut arguments = Map::new();
        while self.take(")").is_none() {
            let key = self.name()?;
            self.take("=")?;
            arguments.insert(key, self.value(0)?);
            if self.take(",").is_none() {
                self.take(")")?;
                break;
            }
        }
        Some((name, Value::Object(arguments)))
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        self.skip(&[]);
        match self.rest.chars().next()? {
            _ if depth > MAX_DEPTH => None,
            quote @ ('"' | '\'') => self.text(quote).map(Value::from),
            '[' | '(' => self.list(depth),
            '{' => self.dictionary(depth),
            _ => self.word(),
        }
    }

    fn list(&mut self, depth: usize) -> Option<Value> {
        let close = if self.take("[").is_some() { "]" } else { self.take("(").map(|()| ")")? };
        let mut items = Vec::new();
        while self.take(close).is_none() {
            items.push(self.value(depth + 1)?);
            if self.take(",").is_none() {
                self.take(close)?;
                break;
            }
        }
        Some(items.into())
    }

    fn dictionary(&mut self, depth: usize) -> Option<Value> {
        self.take("{")?;
        let mut items = Map::new();
        while self.take("}").is_none() {
            let Value::String(key) = self.value(depth + 1)? else { return None };
            self.take(":")?;
            items.insert(key, self.value(depth + 1)?);
            if self.take(",").is_none() {
                self.take("}")?;
                break;
            }
        }
        Some(Value::Object(items))
    }

    fn text(&mut self, quote: char) -> Option<String> {
        let mut text = String::new();
        let mut letters = self.rest.char_indices().skip(1);
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\\' => match letters.next()?.1 {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    other => text.push(other),
                },
                _ if letter == quote => {
                    self.rest = &self.rest[at + quote.len_utf8()..];
                    return Some(text);
                }
                _ => text.push(letter),
            }
        }
        None
    }

    fn word(&mut self) -> Option<Value> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || "+-._".contains(c);
        let end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match word {
            "True" | "true" => Some(true.into()),
            "False" | "false" => Some(false.into()),
            "None" | "null" => Some(Value::Null),
            _ => word
                .parse::<i64>()
                .map(Value::from)
                .ok()
                .or_else(|| Number::from_f64(word.parse().ok()?).map(Value::Number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let found = calls(text).unwrap_or_default();
        let found: Vec<(String, String)> =
            found.into_iter().map(|(name, arguments)| (name, arguments.to_string())).collect();
        let expected: Vec<(String, String)> =
            expected.iter().map(|(name, arguments)| ((*name).into(), (*arguments).into())).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn calls_of_literals_are_read_and_nothing_else() {
        check("time()", &[("time", "{}")]);
        check(
            "\nprint(default_api.weather(city='Bo\\'nn', days=3,))\n",
            &[("weather", r#"{"city":"Bo'nn","days":3}"#)],
        );
        check(
            "[time(zone=None), weather(at=[1.5, {\"a\": True}], b=())]",
            &[("time", r#"{"zone":null}"#), ("weather", r#"{"at":[1.5,{"a":true}],"b":[]}"#)],
        );
        check("time()\nweather(city=\"Köln\")", &[("time", "{}"), ("weather", r#"{"city":"Köln"}"#)]);
        for text in
            ["", "x = time()", "time(", "time(zone)", "time(zone=now())", "for x in y: time()", "time(a=\"b"]
        {
            check(text, &[]);
        }
        check(&format!("time(a={}1", "[".repeat(10_000)), &[]);
    }
}
