//! Scores of one answer against the accepted ones, for English, Chinese and a mix of both.
//!
//! English follows `SQuAD` (Rajpurkar 2016): lower case, no punctuation, no articles. Chinese is
//! compared character by character after full-width forms become half-width. Other than `SQuAD`,
//! signs that change a value stay: the minus of `-20`, the point of `4.5`, `%`; and a number is one
//! token with its unit apart, so `30min` equals `30 min` and `5` isn't found in `15` or `4.5`.
//! Citation marks like `[2]` are no part of an answer and are taken out first.

/// A piece of an answer that is compared as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    text: String,
    /// Digits written onto letters, as the 5 of `E5`: no number of their own.
    glued: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Digit,
    Letter,
    /// Characters of scripts without spaces: a token each.
    Ideograph,
    /// `%` and `‰`: they change what a number says.
    Sign,
    Gap,
}

/// 1 when the answer is an accepted one and nothing more.
pub fn exact_match(answer: &str, accepted: &[String]) -> f64 {
    let answer = tokenize(answer);
    let answer = texts(&answer);
    let hit = accepted.iter().any(|accepted| texts(&tokenize(accepted)) == answer);
    f64::from(u8::from(hit && !answer.is_empty()))
}

/// Harmonic mean of token precision and recall, the best over the accepted answers.
pub fn token_f1(answer: &str, accepted: &[String]) -> f64 {
    let answer = tokenize(answer);
    let answer = texts(&answer);
    accepted.iter().map(|accepted| f1(&answer, &texts(&tokenize(accepted)))).fold(0.0, f64::max)
}

/// 1 when an accepted answer occurs in the answer as whole words and whole numbers.
pub fn contains(answer: &str, accepted: &[String]) -> f64 {
    let answer = tokenize(answer);
    let hit = accepted.iter().any(|accepted| occurs(&answer, &tokenize(accepted)));
    f64::from(u8::from(hit))
}

/// 1 when one of the cited documents is the one that holds the answer.
///
/// A question file may name documents from a folder above or below the one that was read, so one
/// path may be the tail of the other.
pub fn citation_hit<'a>(cited: impl IntoIterator<Item = &'a str>, source: &str) -> f64 {
    let hit = cited.into_iter().any(|cited| same_document(cited, source));
    f64::from(u8::from(hit))
}

/// Whether `text` holds an accepted answer by the rule of [`contains`], for checking questions
/// against their source before they are asked.
pub fn occurs_in(text: &str, accepted: &str) -> bool {
    occurs(&tokenize(text), &tokenize(accepted))
}

/// Removes citation marks: `[1]`, `[1, 2]`, `【3】`, but not `[text]`.
pub fn strip_citation_marks(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(['[', '【']) {
        kept.push_str(&rest[..start]);
        let mark = &rest[start..];
        let length = citation_mark_bytes(mark);
        if length > 0 {
            rest = &mark[length..];
        } else {
            let bracket = mark.chars().next().map_or(1, char::len_utf8);
            kept.push_str(&mark[..bracket]);
            rest = &mark[bracket..];
        }
    }
    kept.push_str(rest);
    kept
}

/// The length of the citation mark `text` begins with, zero when it begins with none.
fn citation_mark_bytes(text: &str) -> usize {
    let Some(end) = text.find([']', '】']) else {
        return 0;
    };
    let open = text.chars().next().map_or(0, char::len_utf8);
    let inside = &text[open..end];
    let is_list = inside.contains(|c: char| c.is_ascii_digit())
        && inside.chars().all(|c| c.is_ascii_digit() || matches!(c, ',' | ' ' | '，' | '、'));
    if !is_list {
        return 0;
    }
    end + text[end..].chars().next().map_or(0, char::len_utf8)
}

fn same_document(cited: &str, source: &str) -> bool {
    let (cited, source) = (document_path(cited), document_path(source));
    let is_tail = |long: &str, short: &str| {
        long.strip_suffix(short).is_some_and(|head| head.is_empty() || head.ends_with('/'))
    };
    !cited.is_empty() && !source.is_empty() && (is_tail(&cited, &source) || is_tail(&source, &cited))
}

fn document_path(path: &str) -> String {
    let path = path.trim().replace('\\', "/");
    path.trim_start_matches("./").to_owned()
}

fn f1(answer: &[&str], accepted: &[&str]) -> f64 {
    if answer.is_empty() || accepted.is_empty() {
        return 0.0;
    }
    let mut left: Vec<&str> = accepted.to_vec();
    let mut shared = 0_usize;
    for token in answer {
        if let Some(index) = left.iter().position(|other| other == token) {
            left.swap_remove(index);
            shared += 1;
        }
    }
    if shared == 0 {
        return 0.0;
    }
    let precision = shared as f64 / answer.len() as f64;
    let recall = shared as f64 / accepted.len() as f64;
    2.0 * precision * recall / (precision + recall)
}

fn occurs(text: &[Token], wanted: &[Token]) -> bool {
    if wanted.is_empty() {
        return false;
    }
    (0..=text.len().saturating_sub(wanted.len())).filter(|start| text.len() >= start + wanted.len()).any(
        |start| {
            let end = start + wanted.len();
            let equal = text[start..end].iter().zip(wanted).all(|(found, wanted)| found.text == wanted.text);
            equal && !cuts_a_number(text, start, end)
        },
    )
}

/// Whether the tokens `start..end` begin or end inside a number, as `五` does in `十五`, `3` in
/// `3万` and `5` in `E5`.
fn cuts_a_number(text: &[Token], start: usize, end: usize) -> bool {
    let first = &text[start];
    let glued = is_number(first) && first.glued;
    let numeral_before = start > 0 && is_numeral(first) && is_number(&text[start - 1]);
    let numeral_after = end < text.len() && is_number(&text[end - 1]) && is_numeral(&text[end]);
    glued || numeral_before || numeral_after
}

fn is_number(token: &Token) -> bool {
    token.text.ends_with(|c: char| c.is_ascii_digit()) || is_numeral(token)
}

fn is_numeral(token: &Token) -> bool {
    let mut chars = token.text.chars();
    chars.next().is_some_and(|c| "〇零一二两三四五六七八九十百千万亿".contains(c)) && chars.next().is_none()
}

fn texts(tokens: &[Token]) -> Vec<&str> {
    tokens.iter().map(|token| token.text.as_str()).collect()
}

/// Tokens without articles, unless there is nothing else (`A` may be the answer).
fn tokenize(text: &str) -> Vec<Token> {
    let chars: Vec<char> = strip_citation_marks(text).chars().flat_map(fold).collect();
    let tokens = split(&chars);
    let is_article = |token: &Token| matches!(token.text.as_str(), "a" | "an" | "the");
    if tokens.iter().all(is_article) {
        return tokens;
    }
    tokens.into_iter().filter(|token| !is_article(token)).collect()
}

fn split(chars: &[char]) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut previous = Kind::Gap;
    for (index, &c) in chars.iter().enumerate() {
        let kind = kind_of(c);
        // The digits of a decimal, a version or an address stay together; a thousands comma goes.
        if previous == Kind::Digit && c == '.' && next_is_digit(chars, index) {
            if let Some(token) = tokens.last_mut() {
                token.text.push('.');
            }
            continue;
        }
        if previous == Kind::Digit && c == ',' && groups_thousands(chars, index) {
            continue;
        }
        match kind {
            Kind::Gap => {
                // An apostrophe joins (`don't`), as in SQuAD; everything else parts.
                if matches!(c, '\'' | '’') && previous == Kind::Letter {
                    continue;
                }
            }
            Kind::Digit | Kind::Letter if kind == previous => {
                if let Some(token) = tokens.last_mut() {
                    token.text.push(c);
                }
            }
            Kind::Digit => {
                let minus = if is_minus(chars, index) { "-" } else { "" };
                let glued = previous == Kind::Letter || joins_code(chars, index);
                let text = format!("{minus}{c}");
                tokens.push(Token { text, glued });
            }
            Kind::Letter | Kind::Ideograph | Kind::Sign => {
                let text = c.to_string();
                tokens.push(Token { text, glued: false });
            }
        }
        previous = kind;
    }
    tokens
}

fn next_is_digit(chars: &[char], index: usize) -> bool {
    chars.get(index + 1).is_some_and(char::is_ascii_digit)
}

/// Whether the comma at `index` stands before a group of exactly three digits.
fn groups_thousands(chars: &[char], index: usize) -> bool {
    let group = chars[index + 1..].iter().take_while(|c| c.is_ascii_digit()).count();
    group == 3
}

/// Whether the digit at `index` follows a minus that is a sign and no hyphen or range.
fn is_minus(chars: &[char], index: usize) -> bool {
    let before = index.checked_sub(2).map(|before| kind_of(chars[before]));
    index > 0 && chars[index - 1] == '-' && !matches!(before, Some(Kind::Digit | Kind::Letter | Kind::Sign))
}

/// Whether the digit at `index` belongs to a code such as `E-17`.
fn joins_code(chars: &[char], index: usize) -> bool {
    index > 1 && chars[index - 1] == '-' && kind_of(chars[index - 2]) == Kind::Letter
}

fn kind_of(c: char) -> Kind {
    match c {
        '0'..='9' => Kind::Digit,
        '%' | '‰' => Kind::Sign,
        // CJK ideographs with extensions, kana and the iteration mark.
        '\u{3005}'
        | '\u{3007}'
        | '\u{3040}'..='\u{30ff}'
        | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}' => Kind::Ideograph,
        c if c.is_alphanumeric() => Kind::Letter,
        _ => Kind::Gap,
    }
}

/// Lower case, half width, one form for each sign.
fn fold(c: char) -> impl Iterator<Item = char> {
    let c = match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
        '\u{3000}' | '\u{a0}' | '\u{2009}' | '\u{202f}' => ' ',
        '\u{2212}' | '\u{2010}' | '\u{2011}' => '-',
        '℃' => 'c',
        '℉' => 'f',
        'µ' => 'μ',
        c => c,
    };
    c.to_lowercase()
}

#[cfg(test)]
#[path = "metrics/tests.rs"]
mod tests;
