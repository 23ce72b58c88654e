//! Text from outside → text that is safe between tags and in quoted attributes.
//!
//! The five characters with a meaning in HTML become references (OWASP's rule for both places).
//! Control characters and marks that turn the direction of writing become U+FFFD: they could hide
//! or reorder what a reader sees.

/// `text`, harmless wherever the report puts text.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(c),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => safe.push('\u{fffd}'),
            c if c.is_control() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_with_a_meaning_in_html_is_left() {
        for (text, expected) in [
            ("", ""),
            ("<a href=\"x\">", "&lt;a href=&quot;x&quot;&gt;"),
            ("a & b'", "a &amp; b&#39;"),
            ("&lt;", "&amp;lt;"),
            ("line\nnext\u{0}\u{202e}", "line\nnext\u{fffd}\u{fffd}"),
            ("中文 <不>", "中文 &lt;不&gt;"),
        ] {
            assert_eq!(escape(text), expected);
        }
    }
}
