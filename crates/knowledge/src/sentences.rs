//! Text → sentences, English and Chinese, as ranges that cover the whole text.

use std::ops::Range;

/// Short forms whose point ends no sentence.
const SHORT_FORMS: [&str; 21] = [
    "e.g", "i.e", "etc", "dr", "mr", "mrs", "ms", "prof", "no", "fig", "vs", "approx", "st", "inc", "ltd",
    "cf", "sec", "ch", "co", "corp", "tel",
];

/// The sentences of `text`, one after the other without gaps; white space belongs to the sentence before it.
pub fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|&(_, next)| next);
        let ends = match c {
            '\n' | '。' | '！' | '？' | '；' | '…' => true,
            '!' | '?' => next.is_none_or(|next| next.is_whitespace() || closes(next)),
            '.' => {
                next.is_none_or(|next| next.is_whitespace() || closes(next))
                    && !is_short_form(&text[start..at])
            }
            _ => false,
        };
        if !ends {
            continue;
        }
        // Closing quotes, brackets, repeated marks and white space go with the sentence they end.
        let tail = |c: char| {
            closes(c) || c.is_whitespace() || matches!(c, '。' | '！' | '？' | '…' | '!' | '?' | '.')
        };
        let mut end = at + c.len_utf8();
        while let Some(&(at, c)) = chars.peek().filter(|&&(_, c)| tail(c)) {
            end = at + c.len_utf8();
            chars.next();
        }
        ranges.push(start..end);
        start = end;
    }
    if start < text.len() {
        ranges.push(start..text.len());
    }
    ranges
}

fn closes(c: char) -> bool {
    matches!(c, '"' | '\'' | ')' | ']' | '”' | '’' | '）' | '】' | '」' | '』' | '》')
}

fn is_short_form(before: &str) -> bool {
    let last = before.rsplit(|c: char| c.is_whitespace() || c == '(').next().unwrap_or_default();
    let lower = last.to_lowercase();
    let initial = last.chars().count() == 1 && last.chars().all(char::is_uppercase);
    // `1.` at the start is the number of a list item.
    let item = before.trim_start().len() == last.len()
        && !last.is_empty()
        && last.bytes().all(|b| b.is_ascii_digit());
    initial || item || SHORT_FORMS.contains(&lower.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let ranges = sentences(text);
        let found: Vec<&str> = ranges.iter().map(|range| text[range.clone()].trim()).collect();
        assert_eq!(found, expected);
        let joined: String = ranges.iter().map(|range| &text[range.clone()]).collect();
        assert_eq!(joined, text);
    }

    #[test]
    fn english_and_chinese_ends_are_found() {
        check("", &[]);
        check("No end", &["No end"]);
        check("Use 2.5 kg. Then stop! Why?", &["Use 2.5 kg.", "Then stop!", "Why?"]);
        check("See e.g. Dr. Who. Next", &["See e.g. Dr. Who.", "Next"]);
        check("1. Open it. 2 left", &["1. Open it.", "2 left"]);
        check("他说：“好。”然后走了。结束", &["他说：“好。”", "然后走了。", "结束"]);
        check("line one\nline two", &["line one", "line two"]);
        check("真的吗？！是的……好", &["真的吗？！", "是的……", "好"]);
    }
}
