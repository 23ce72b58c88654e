//! Comma-separated values (RFC 4180), with commas, semicolons, tabs or bars between the cells → a table.
//!
//! Broken quotes are read as far as they go: a quote that never closes ends with the file.

use super::table::{self, Header};
use super::{Extracted, text};
use crate::error::ExtractError;

/// Lines that show which character divides the cells.
const SAMPLE_LINES: usize = 20;

pub(super) fn extract(bytes: &[u8]) -> Result<Extracted, ExtractError> {
    let (source, note) = text::decode(bytes, None)?;
    let (separator, source) = match source.strip_prefix("sep=").and_then(|rest| rest.split_once('\n')) {
        // Excel names its separator in the first line.
        Some((line, rest)) => (line.chars().next().unwrap_or(','), rest),
        None => (separator(&source), source.as_str()),
    };
    let blocks = table::blocks(rows(source, separator, usize::MAX), Header::Guess, None);
    Ok(Extracted { blocks, notes: note.into_iter().collect(), ..Extracted::default() })
}

/// The one that divides the first lines into the same number of cells, the most cells where several do.
fn separator(source: &str) -> char {
    let score = |separator: &char| {
        let rows = rows(source, *separator, SAMPLE_LINES);
        let width = rows.first().map_or(0, Vec::len);
        let alike = rows.iter().filter(|row| row.len() == width).count();
        if width < 2 { (0, 0) } else { (alike * 100 / rows.len(), width) }
    };
    // The last of equals wins.
    ['|', ';', ',', '\t'].into_iter().max_by_key(score).unwrap_or(',')
}

fn rows(source: &str, separator: char, limit: usize) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut row: Vec<String> = Vec::new();
    let mut cell = String::new();
    let mut quoted = false;
    let mut chars = source.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if cell.trim().is_empty() => {
                cell.clear();
                quoted = true;
            }
            _ if quoted => cell.push(c),
            '\n' => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
                if rows.len() >= limit {
                    return rows;
                }
            }
            '\r' => {}
            _ if c == separator => row.push(std::mem::take(&mut cell)),
            _ => cell.push(c),
        }
    }
    if !cell.is_empty() || !row.is_empty() {
        row.push(cell);
        rows.push(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::BlockKind;

    #[track_caller]
    fn check(source: &str, expected: &[&str]) {
        let extracted = extract(source.as_bytes()).unwrap();
        let rows: Vec<_> = extracted.blocks.iter().map(|block| block.text.as_str()).collect();
        assert_eq!(rows, expected, "{source:?}");
    }

    #[test]
    fn cells_are_told_apart_whatever_divides_them() {
        check("", &[]);
        check("one", &["one"]);
        check("a,b\r\n1,2\r\n", &["a | b", "1 | 2"]);
        check("a;b\n1,5;2,5\n", &["a | b", "1,5 | 2,5"]);
        check("a\tb, c\n1\t2, 3\n", &["a | b, c", "1 | 2, 3"]);
        check("sep=;\na;b,c\n", &["a | b,c"]);
        check("a,\"b, \"\"c\"\"\nd\"\n1,2", &["a | b, \"c\" d", "1 | 2"]);
        check("a,\"open\n1,2", &["a | open 1,2"]);
    }

    #[test]
    fn the_first_row_is_a_header_if_it_names_the_columns() {
        let kinds = |source: &str| -> Vec<BlockKind> {
            extract(source.as_bytes()).unwrap().blocks.iter().map(|block| block.kind).collect()
        };
        assert_eq!(kinds("name,mass\npump,3\n"), [BlockKind::TableHeader, BlockKind::TableRow]);
        assert_eq!(kinds("pump,3\nvalve,4\n"), [BlockKind::TableRow, BlockKind::TableRow]);
    }
}
