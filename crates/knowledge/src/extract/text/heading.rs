//! Headings in plain text: underlined lines (reStructuredText, setext), Org stars, LaTeX sections, `AsciiDoc` equals signs.

/// Longer lines are no headings.
const MAX_CHARS: usize = 120;

/// In reStructuredText a kind of underline means the level at which it occurred first.
#[derive(Default)]
pub(super) struct Headings {
    /// (character, with a line above)
    underlines: Vec<(char, bool)>,
}

impl Headings {
    /// The heading that begins at line `at`: level, text, number of lines.
    pub(super) fn at(&mut self, lines: &[&str], at: usize) -> Option<(u8, String, usize)> {
        let line = *lines.get(at)?;
        if let Some((level, text)) = marked(line) {
            return Some((level, text, 1));
        }
        // A line above and below, or below only.
        if let (Some(above), Some(title), Some(below)) = (rule(line), lines.get(at + 1), lines.get(at + 2)) {
            if rule(below) == Some(above) && is_title(title.trim(), line) {
                return Some((self.level(above, true), title.trim().into(), 3));
            }
        }
        let below = lines.get(at + 1)?;
        let character = rule(below)?;
        let starts = at == 0 || lines[at - 1].trim().is_empty();
        if !starts || line.starts_with(' ') || !is_title(line, below) {
            return None;
        }
        Some((self.level(character, false), line.into(), 2))
    }

    fn level(&mut self, character: char, above: bool) -> u8 {
        let kind = (character, above);
        let known = self.underlines.iter().position(|known| *known == kind);
        let index = known.unwrap_or_else(|| {
            self.underlines.push(kind);
            self.underlines.len() - 1
        });
        (index as u8).min(5) + 1
    }
}

/// A line of one repeated punctuation character.
fn rule(line: &str) -> Option<char> {
    let first = line.chars().next().filter(|c| "=-~^\"'`#*+:._".contains(*c))?;
    (line.len() >= 3 && line.chars().all(|c| c == first)).then_some(first)
}

/// A wide character takes two columns of its underline.
fn is_title(line: &str, below: &str) -> bool {
    let num_chars = line.chars().count();
    let alphabetic = line.chars().any(char::is_alphanumeric);
    (1..=MAX_CHARS).contains(&num_chars)
        && alphabetic
        && rule(line).is_none()
        && below.chars().count() >= num_chars
}

fn marked(line: &str) -> Option<(u8, String)> {
    let sections =
        ["\\part{", "\\chapter{", "\\section{", "\\subsection{", "\\subsubsection{", "\\paragraph{"];
    for (index, command) in sections.iter().enumerate() {
        let starred = command.replace('{', "*{");
        let rest =
            line.trim_start().strip_prefix(command).or_else(|| line.trim_start().strip_prefix(&starred));
        if let Some((title, _)) = rest.and_then(|rest| rest.rsplit_once('}')) {
            return Some(((index as u8).max(1), title.to_string()));
        }
    }
    for (mark, lowest) in [('*', 1), ('=', 1)] {
        let level = line.chars().take_while(|&c| c == mark).count();
        let title = line[level..].strip_prefix(' ').unwrap_or_default().trim();
        // A single star is a list item everywhere but in Org, whose headings don't end like sentences.
        let item = mark == '*' && level < 2;
        if (lowest..=6).contains(&level) && !item && !title.is_empty() && title.len() <= MAX_CHARS {
            return Some((level as u8, title.to_string()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use crate::document::BlockKind;

    #[test]
    fn underlined_and_marked_lines_are_headings() {
        let source = "=====\nTitle\n=====\n\nFirst\n-----\ntext\nmore\n\nSecond\n------\n\nInner\n~~~~~\nx\n\n\
            a line\n-- no rule\n\n\\subsection{Tex}\n** Org\n== Ascii\n\n| a | b |\n---\n";
        let headings: Vec<_> = crate::extract::text::blocks(source)
            .into_iter()
            .filter_map(|block| match block.kind {
                BlockKind::Heading(level) => Some((level, block.text)),
                _ => None,
            })
            .collect();
        let expected =
            [(1, "Title"), (2, "First"), (2, "Second"), (3, "Inner"), (3, "Tex"), (2, "Org"), (2, "Ascii")];
        assert_eq!(headings, expected.map(|(level, text)| (level, text.to_string())));
    }
}
