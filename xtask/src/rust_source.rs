//! Rust text taken apart: what is code, what is comment, what is literal; where functions and tests stand.
//!
//! A scanner and no parser: it knows the tokens that can hide braces and quotes from each other (The Rust
//! Reference, chapter "Tokens"), and counts brackets. Macros that unbalance brackets aren't understood.

use std::ops::Range;

/// What a byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Code,
    Comment,
    Literal,
}

/// A function with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// From `fn` to the closing brace.
    pub(crate) range: Range<usize>,
}

/// The text with all but one part blanked; lines stay where they are.
pub(crate) fn only(source: &str, keep: Part) -> String {
    let mut parts = vec![Part::Code; source.len()];
    let mut at = 0;
    while at < source.len() {
        match special(&source.as_bytes()[at..]) {
            Some((part, len)) => {
                let end = (at + len).min(source.len());
                parts[at..end].fill(part);
                at = end;
            }
            None => at += 1,
        }
    }
    let kept = source.char_indices().map(|(index, c)| match c {
        '\n' => "\n".to_owned(),
        _ if parts[index] == keep => c.to_string(),
        _ => " ".repeat(c.len_utf8()),
    });
    kept.collect()
}

/// A comment or literal that begins here, with its length.
fn special(rest: &[u8]) -> Option<(Part, usize)> {
    match rest {
        [b'/', b'/', ..] => {
            let end = rest.iter().position(|&byte| byte == b'\n');
            Some((Part::Comment, end.unwrap_or(rest.len())))
        }
        [b'/', b'*', ..] => Some((Part::Comment, block_comment(rest))),
        [b'"', ..] => Some((Part::Literal, quoted(rest, b'"'))),
        [b'r', b'"' | b'#', ..] => raw_string(rest).map(|len| (Part::Literal, len)),
        [b'\'', b'\\', ..] => Some((Part::Literal, quoted(rest, b'\''))),
        [b'\'', first, ..] => {
            // A character, not a lifetime, if a quote follows it at once.
            let len = 1 + char_len(*first);
            (rest.get(len) == Some(&b'\'')).then_some((Part::Literal, len + 1))
        }
        _ => None,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (2, 1);
    while at < rest.len() && depth > 0 {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

fn raw_string(rest: &[u8]) -> Option<usize> {
    let num_hashes = rest[1..].iter().take_while(|&&byte| byte == b'#').count();
    let start = 1 + num_hashes;
    if rest.get(start) != Some(&b'"') {
        return None;
    }
    let end = [b"\"".as_slice(), &vec![b'#'; num_hashes]].concat();
    let found = rest[start + 1..].windows(end.len()).position(|window| window == end);
    Some(found.map_or(rest.len(), |found| start + 1 + found + end.len()))
}

fn char_len(first: u8) -> usize {
    match first {
        0xF0.. => 4,
        0xE0.. => 3,
        0xC0.. => 2,
        _ => 1,
    }
}

/// Byte ranges of items under `#[cfg(test)]`, from the attribute to the item's end.
pub(crate) fn test_items(code: &str) -> Vec<Range<usize>> {
    const ATTRIBUTE: &str = "#[cfg(test)]";
    let mut items: Vec<Range<usize>> = Vec::new();
    for (start, _) in code.match_indices(ATTRIBUTE) {
        if items.last().is_some_and(|item| item.contains(&start)) {
            continue;
        }
        let end = item_end(code, start + ATTRIBUTE.len()).map_or(code.len(), |(_, end)| end);
        items.push(start..end);
    }
    items
}

/// Functions with a body, in the order of the text.
pub(crate) fn functions(code: &str) -> Vec<Function> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut functions = Vec::new();
    for (start, _) in code.match_indices("fn ") {
        if code[..start].ends_with(word) {
            continue;
        }
        let rest = code[start + 3..].trim_start();
        let name: String = rest.chars().take_while(|&c| word(c)).collect();
        if name.is_empty() {
            continue;
        }
        if let Some((true, end)) = item_end(code, start) {
            let range = start..end;
            functions.push(Function { name, range });
        }
    }
    functions
}

/// Where an item ends, and whether with a body in braces rather than a semicolon.
fn item_end(code: &str, start: usize) -> Option<(bool, usize)> {
    let mut depth = 0_usize;
    let mut in_body = false;
    for (offset, byte) in code.as_bytes()[start..].iter().enumerate() {
        match byte {
            b'{' if depth == 0 => (in_body, depth) = (true, 1),
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if in_body && depth == 0 {
                    return Some((true, start + offset + 1));
                }
            }
            b';' if depth == 0 => return Some((false, start + offset + 1)),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, code: &str) {
        let only_code = only(source, Part::Code);
        assert_eq!(only_code.len(), source.len());
        let words: Vec<&str> = only_code.split_whitespace().collect();
        assert_eq!(words.join(" "), code);
    }

    #[test]
    fn literals_and_comments_do_not_hide_each_other() {
        check("", "");
        check("a // \"b", "a");
        check("\"//\" c", "c");
        check("a /* /* \" */ */ b", "a b");
        check(r#""\"" d"#, "d");
        check("r#\"\"{\"# e", "e");
        check("b'\"' f", "b f");
        check("'\\'' g", "g");
        check("&'a str '{' h", "&'a str h");
        check("'界' i", "i");
        check("r#type j", "r#type j");
        check("\"never closed {", "");
    }

    #[test]
    fn comments_alone() {
        assert_eq!(only("let x = \"// no\"; // yes", Part::Comment).trim(), "// yes");
    }

    #[test]
    fn functions_reach_from_their_signature_to_their_brace() {
        let source = "fn a() {}\ntrait T { fn b(); }\nfn c(\n    x: [f32; 2],\n) -> [f32; 2]\n{\n    x\n}\nlet f: fn(u8);\n";
        let code = only(source, Part::Code);
        let found = functions(&code);
        let found: Vec<(&str, &str)> =
            found.iter().map(|function| (function.name.as_str(), &source[function.range.clone()])).collect();
        let c = "fn c(\n    x: [f32; 2],\n) -> [f32; 2]\n{\n    x\n}";
        assert_eq!(found, [("a", "fn a() {}"), ("c", c)]);
    }

    #[test]
    fn test_items_end_with_their_brace_or_semicolon() {
        let code = "a\n#[cfg(test)]\nmod tests { fn x() { [1; 2] } }\nb\n#[cfg(test)]\nmod other;\nc";
        let items: Vec<&str> = test_items(code).into_iter().map(|item| &code[item]).collect();
        assert_eq!(items, ["#[cfg(test)]\nmod tests { fn x() { [1; 2] } }", "#[cfg(test)]\nmod other;"]);
    }
}
