//! Rows of cells → table blocks, the same from every format: cells joined by ` | `, header rows marked.
//!
//! Rows and columns without any text are left out, and so are empty cells at a row's end. A merged cell is the reader's
//! business: it repeats the text downwards, so that each row can be understood alone, and not to the right.

use crate::document::{Block, BlockKind};

/// Larger tables aren't searched for empty columns, and their empty cells are left out.
const MAX_CELLS: usize = 1 << 22;

/// A header names its columns in fewer characters than this.
const MAX_HEADER_CHARS: usize = 80;

/// How many of the first rows are headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    /// The file says so.
    Rows(usize),
    /// The file doesn't say; the first row is one if it looks like one.
    Guess,
}

pub(super) fn blocks(rows: Vec<Vec<String>>, header: Header, page: Option<u32>) -> Vec<Block> {
    let marked = match header {
        Header::Rows(count) => count,
        Header::Guess => 0,
    };
    let mut kept: Vec<(bool, Vec<String>)> = Vec::with_capacity(rows.len());
    for (index, row) in rows.into_iter().enumerate() {
        let row: Vec<String> = row.iter().map(|cell| super::one_line(cell)).collect();
        if row.iter().any(|cell| !cell.is_empty()) {
            kept.push((index < marked, row));
        }
    }
    drop_empty_columns(&mut kept);
    if header == Header::Guess && looks_like_header(&kept) {
        kept[0].0 = true;
    }
    // A table that is all header has no rows to explain.
    if kept.iter().all(|(is_header, _)| *is_header) {
        for (is_header, _) in &mut kept {
            *is_header = false;
        }
    }
    let blocks = kept.into_iter().map(|(is_header, row)| {
        let kind = if is_header { BlockKind::TableHeader } else { BlockKind::TableRow };
        Block { kind, text: row.join(" | "), page }
    });
    blocks.collect()
}

fn drop_empty_columns(rows: &mut [(bool, Vec<String>)]) {
    let width = rows.iter().map(|(_, row)| row.len()).max().unwrap_or(0);
    if width.saturating_mul(rows.len()) > MAX_CELLS {
        for (_, row) in rows.iter_mut() {
            row.retain(|cell| !cell.is_empty());
        }
        return;
    }
    let mut used = vec![false; width];
    for (_, row) in rows.iter() {
        for (index, cell) in row.iter().enumerate() {
            used[index] |= !cell.is_empty();
        }
    }
    for (_, row) in rows.iter_mut() {
        let mut index = 0;
        row.retain(|_| {
            index += 1;
            used[index - 1]
        });
        let end = row.iter().rposition(|cell| !cell.is_empty()).map_or(0, |last| last + 1);
        row.truncate(end);
    }
}

/// All columns have different short names that are no numbers (but years may be).
fn looks_like_header(rows: &[(bool, Vec<String>)]) -> bool {
    let [(_, first), rest @ ..] = rows else {
        return false;
    };
    let width = rest.iter().map(|(_, row)| row.len()).max().unwrap_or(0);
    let named = first.iter().enumerate().all(|(index, cell)| {
        // The corner above the names of rows is often empty.
        let corner = index == 0 && cell.is_empty();
        let year = cell.parse().is_ok_and(|year: u32| (1900..2100).contains(&year));
        let name = cell.chars().any(char::is_alphabetic)
            && !begins_with_amount(cell)
            && !cell.ends_with([':', '：']);
        corner || (name || year) && cell.chars().count() <= MAX_HEADER_CHARS
    });
    let mut names: Vec<&String> = first.iter().collect();
    names.sort();
    names.dedup();
    first.len() >= 2 && first.len() >= width && names.len() == first.len() && named
}

/// `3 kg`, `-12.5 %`, `£7`: a value rather than a name.
fn begins_with_amount(cell: &str) -> bool {
    cell.trim_start_matches(['-', '+', '$', '€', '£', '¥', '~', '(', ' '])
        .starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rows: &[&[&str]], header: Header, expected: &[&str]) {
        let rows = rows.iter().map(|row| row.iter().map(ToString::to_string).collect()).collect();
        let blocks: Vec<String> = blocks(rows, header, None)
            .into_iter()
            .map(|block| {
                format!("{}{}", if block.kind == BlockKind::TableHeader { "# " } else { "" }, block.text)
            })
            .collect();
        assert_eq!(blocks, expected);
    }

    #[test]
    fn rows_columns_and_headers() {
        check(&[], Header::Guess, &[]);
        check(&[&["", " "]], Header::Guess, &[]);
        check(&[&["a", "b"]], Header::Rows(1), &["a | b"]);
        check(&[&["a", "b"], &["c", "d"]], Header::Rows(0), &["a | b", "c | d"]);
        check(&[&["", ""], &["a", "", "b"], &["c", "", "d", ""]], Header::Guess, &["# a | b", "c | d"]);
        check(&[&["x", "y"], &["", "1"], &["2"]], Header::Rows(1), &["# x | y", " | 1", "2"]);
    }

    #[test]
    fn a_header_names_every_column_and_holds_no_amounts() {
        check(&[&["Mass", "3 kg"], &["Length", "2 m"]], Header::Guess, &["Mass | 3 kg", "Length | 2 m"]);
        check(
            &[&["", "2023", "2024"], &["Sales", "5", "6"]],
            Header::Guess,
            &["#  | 2023 | 2024", "Sales | 5 | 6"],
        );
        check(&[&["a", "a"], &["b", "c"]], Header::Guess, &["a | a", "b | c"]);
        check(&[&["a", "b"], &["1", "2", "3"]], Header::Guess, &["a | b", "1 | 2 | 3"]);
    }
}
