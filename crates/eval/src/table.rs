//! The comparison as a plain table, a row a way; columns line up for wide characters too.

use crate::compare::{Comparison, WaySummary};

/// The table with a heading line; the best way is marked with `*`.
pub fn render(comparison: &Comparison) -> String {
    let head = ["way", "contained", "95 %", "F1", "exact", "cited", "s/answer", "tokens", "prepared in"];
    let mut rows = vec![head.map(str::to_owned)];
    for way in &comparison.ways {
        rows.push(row(way, way.way == comparison.best));
    }
    align(&rows)
}

fn row(way: &WaySummary, is_best: bool) -> [String; 9] {
    let mark = if is_best { "* " } else { "  " };
    let [low, high] = way.ci95.contains;
    [
        format!("{mark}{}", way.way.title()),
        percent(way.contains),
        format!("{:.0}–{:.0}", low * 100.0, high * 100.0),
        percent(way.f1),
        percent(way.exact),
        way.citation_hit.map_or_else(|| "–".to_owned(), percent),
        format!("{:.1}", way.seconds),
        format!("{:.0}", way.tokens),
        duration(way.preparation_seconds),
    ]
}

/// A share as whole per cent.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Seconds as a reader says them: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// Pads every column to its widest cell: the first to the right of its text, numbers to the left.
fn align<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: Vec<usize> =
        (0..N).map(|column| rows.iter().map(|row| width(&row[column])).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let padding = " ".repeat(widths[column] - width(cell));
            if column == 0 {
                line.push_str(cell);
                line.push_str(&padding);
            } else {
                line.push_str("  ");
                line.push_str(&padding);
                line.push_str(cell);
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Columns a text takes in a terminal: two for wide East Asian characters and emoji, none for
/// combining marks (the blocks of Unicode's East Asian Width that occur in practice).
fn width(text: &str) -> usize {
    text.chars()
        .map(|c| match c {
            '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200d}' | '\u{fe00}'..='\u{fe0f}' => 0,
            '\u{1100}'..='\u{115f}'
            | '\u{2e80}'..='\u{303e}'
            | '\u{3041}'..='\u{a4cf}'
            | '\u{ac00}'..='\u{d7a3}'
            | '\u{f900}'..='\u{faff}'
            | '\u{fe30}'..='\u{fe6f}'
            | '\u{ff00}'..='\u{ff60}'
            | '\u{ffe0}'..='\u{ffe6}'
            | '\u{1f300}'..='\u{1faff}'
            | '\u{20000}'..='\u{3fffd}' => 2,
            _ => 1,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_characters_take_two_columns() {
        for (text, expected) in [("", 0), ("abc", 3), ("微调", 4), ("e\u{301}", 1), ("（x）", 5), ("95 %", 4)]
        {
            assert_eq!(width(text), expected, "{text}");
        }
    }

    #[test]
    fn columns_line_up() {
        let rows = [
            ["way".to_owned(), "n".to_owned()],
            ["长提示".to_owned(), "12".to_owned()],
            ["b".to_owned(), "3".to_owned()],
        ];
        assert_eq!(align(&rows), "way      n\n长提示  12\nb        3\n");
    }

    #[test]
    fn durations_read_well() {
        for (seconds, expected) in [
            (0.0, "0.0 s"),
            (9.94, "9.9 s"),
            (9.96, "10 s"),
            (59.6, "1 min 00 s"),
            (185.0, "3 min 05 s"),
            (7800.0, "2 h 10 min"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }
}
