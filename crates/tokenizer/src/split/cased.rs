//! Words that end where a capital letter starts the next one (o200k, Tekken): `camelCase` is two words.

use super::{char_at, contraction_end, number_end, run_end, spaces_end};
use crate::classes::{LETTER, LOWER, MARK, NUMBER, SPACE, UPPER, case, class};

/// End of the word at `at` by the pattern of o200k (`max_digits` 3, with contractions) or Tekken (1, without).
pub(super) fn word_end(text: &str, at: usize, max_digits: usize, contractions: bool) -> usize {
    let first = char_at(text, at).unwrap_or_default();
    let after = at + first.len_utf8();
    let first_class = class(first);
    let has_prefix = first_class & (LETTER | NUMBER) == 0 && first != '\r' && first != '\n';
    let starts = [after, at];
    let starts = if has_prefix { &starts[..] } else { &starts[1..] };
    let with_small = || starts.iter().find_map(|start| small_end(text, *start));
    let with_capitals = || starts.iter().find_map(|start| capitals_end(text, *start));
    if let Some(end) = with_small().or_else(with_capitals) {
        let is_contraction = contractions && text.as_bytes().get(end) == Some(&b'\'');
        return is_contraction.then(|| contraction_end(text, end + 1)).flatten().unwrap_or(end);
    }
    if first_class == NUMBER {
        return number_end(text, at, max_digits);
    }
    let next_class = char_at(text, after).map(class);
    if first_class == 0 || (first == ' ' && next_class == Some(0)) {
        let end = run_end(text, after, 0);
        let rest = &text.as_bytes()[end..];
        return end + rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n' | b'/')).count();
    }
    debug_assert_eq!(first_class, SPACE, "letters and numbers were words above");
    spaces_end(text, at)
}

/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+`: as many of the first as leave one of the second.
fn small_end(text: &str, start: usize) -> Option<usize> {
    let is = |c: char, wanted: u8| case(c) & wanted != 0;
    let mut end = start;
    // End of the last character that both classes hold.
    let mut last_of_both = None;
    while let Some(c) = char_at(text, end).filter(|c| is(*c, UPPER | MARK)) {
        end += c.len_utf8();
        if is(c, LOWER | MARK) {
            last_of_both = Some(end);
        }
    }
    let small = end;
    while let Some(c) = char_at(text, end).filter(|c| is(*c, LOWER | MARK)) {
        end += c.len_utf8();
    }
    if end > small { Some(end) } else { last_of_both }
}

/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+`, where no small letter follows.
fn capitals_end(text: &str, start: usize) -> Option<usize> {
    let mut end = start;
    while let Some(c) = char_at(text, end).filter(|c| case(*c) & (UPPER | MARK) != 0) {
        end += c.len_utf8();
    }
    (end > start).then_some(end)
}
