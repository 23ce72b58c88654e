//! Cells of tables without lines: gaps within a line that stand below each other.

use super::line::Line;

/// Gaps in units of the type's size: what may divide cells, and what does even in a line that stands alone.
const MIN_GAP: f64 = 0.8;
const WIDE_GAP: f64 = 3.0;

/// Cells below each other begin, end or have their middle this near, in units of the type's size.
const ALIGNED: f64 = 0.35;

/// A longer line is no row of a table.
const MAX_WORDS: usize = 400;

/// Rows on each side that a cell may be aligned with; a row may leave cells empty.
const NEIGHBOURS: usize = 4;

/// The next row of a table isn't farther away than this, in units of the type's size.
const MAX_ROW_DISTANCE: f64 = 4.5;

/// In a justified line all gaps are alike: the widest is less than this many times the narrowest.
const EVEN: f64 = 1.4;

/// Marks the words that begin a cell.
pub(super) fn mark(lines: &mut [Line]) {
    let marks: Vec<Vec<usize>> = (0..lines.len()).map(|index| boundaries(lines, index)).collect();
    for (line, marks) in lines.iter_mut().zip(marks) {
        for &mark in &marks {
            line.words[mark].cell_marks = 1;
        }
    }
    let mut start = 0;
    while start < lines.len() {
        let is_row = |line: &Line| line.words.iter().any(|word| word.cell_marks > 0);
        let mut end = start + 1;
        while is_row(&lines[start])
            && lines.get(end).is_some_and(|next| {
                is_row(next) && (lines[end - 1].y - next.y).abs() < MAX_ROW_DISTANCE * next.size
            })
        {
            end += 1;
        }
        if end - start > 1 {
            align(&mut lines[start..end]);
        }
        start = end;
    }
    lines.iter_mut().filter(|line| line.words.iter().any(|word| word.cell_marks > 0)).for_each(Line::finish);
}

/// Puts empty cells where a row has nothing in a column. Columns are what the cells of all rows cover; where that leaves
/// two cells of a row in one column, the rows stay as they are.
fn align(rows: &mut [Line]) {
    let mut spans: Vec<(f64, f64)> = rows.iter().flat_map(cells).collect();
    spans.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut columns: Vec<(f64, f64)> = Vec::new();
    for (start, end) in spans {
        match columns.last_mut().filter(|column| start < column.1) {
            Some(column) => column.1 = column.1.max(end),
            None => columns.push((start, end)),
        }
    }
    let column_of = |start: f64| columns.iter().rposition(|column| column.0 <= start).unwrap_or(0);
    let placed: Vec<Vec<usize>> =
        rows.iter().map(|row| cells(row).into_iter().map(|(start, _)| column_of(start)).collect()).collect();
    if placed.iter().any(|row| row.windows(2).any(|pair| pair[0] == pair[1])) {
        return;
    }
    for (row, placed) in rows.iter_mut().zip(placed) {
        let starts = (0..row.words.len()).filter(|&index| index == 0 || row.words[index].cell_marks > 0);
        let starts: Vec<usize> = starts.collect();
        let mut before = 0;
        for (word, column) in starts.into_iter().zip(placed) {
            row.words[word].cell_marks = column - before;
            before = column;
        }
    }
}

/// From where to where each marked cell of a row goes.
fn cells(row: &Line) -> Vec<(f64, f64)> {
    let mut cells: Vec<(f64, f64)> = Vec::new();
    for (index, word) in row.words.iter().enumerate() {
        match cells.last_mut().filter(|_| index > 0 && word.cell_marks == 0) {
            Some(cell) => cell.1 = word.x1,
            None => cells.push((word.x0, word.x1)),
        }
    }
    cells
}

fn boundaries(lines: &[Line], index: usize) -> Vec<usize> {
    let line = &lines[index];
    let gaps = gaps(line);
    if gaps.len() > MAX_WORDS {
        return Vec::new();
    }
    let candidates: Vec<usize> = candidates(line);
    if candidates.is_empty() {
        return candidates;
    }
    let widest = gaps.iter().copied().fold(0.0, f64::max);
    let narrowest = gaps.iter().copied().fold(f64::MAX, f64::min);
    let even = widest < EVEN * narrowest;
    let neighbours = || {
        let near = |other: &&Line| (other.y - line.y).abs() < 2.0 * MAX_ROW_DISTANCE * line.size;
        let around = index.saturating_sub(NEIGHBOURS)..(index + NEIGHBOURS + 1).min(lines.len());
        around.filter(|&other| other != index).map(|other| &lines[other]).filter(near)
    };
    let aligned = |&candidate: &usize| neighbours().any(|other| stands_at(line, candidate, other));
    // Justified lines have both edges in common.
    let justified = |other: &Line| {
        gaps.len() > 1
            && (line.x0 - other.x0).abs() < ALIGNED * line.size
            && (line.x1 - other.x1).abs() < ALIGNED * line.size
    };
    if even && narrowest > WIDE_GAP && !neighbours().any(justified) {
        return candidates;
    }
    if even {
        // A justified line, or a row of single words; then all of its cells begin where those of its neighbour do, or end.
        let all = |other: &Line| {
            let same = |edge: fn((f64, f64)) -> f64| {
                let mut pairs = candidates.iter().zip(self::candidates(other));
                pairs.all(|(&a, b)| (edge(cell(line, a)) - edge(cell(other, b))).abs() < ALIGNED * line.size)
            };
            !justified(other)
                && gaps.len() == candidates.len()
                && candidates.len() == self::candidates(other).len()
                && (same(|cell| cell.0) || same(|cell| cell.1))
        };
        let several = candidates.len() > 1 || widest > WIDE_GAP;
        return if several && neighbours().any(all) { candidates } else { Vec::new() };
    }
    candidates
        .into_iter()
        .filter(|&candidate| {
            let gap = gaps[candidate - 1];
            (gap > 1.5 * narrowest || narrowest > MIN_GAP) && (gap > WIDE_GAP || aligned(&candidate))
        })
        .collect()
}

/// Before each word but the first, in units of the type's size.
fn gaps(line: &Line) -> Vec<f64> {
    line.words.windows(2).map(|pair| (pair[1].x0 - pair[0].x1) / line.size.max(1e-6)).collect()
}

fn candidates(line: &Line) -> Vec<usize> {
    let gaps = gaps(line).into_iter().enumerate();
    // The space behind a bullet or the number of an item divides no cells.
    let bullet = line.words.first().is_some_and(|word| {
        let text = word.text.trim_end_matches(['.', ')', '、']);
        text.chars().count() <= 2
            && (text.len() < word.text.len() || !text.chars().any(char::is_alphanumeric))
    });
    let cells = gaps.filter(|(index, gap)| *gap > MIN_GAP && !(bullet && *index == 0));
    cells.map(|(index, _)| index + 1).collect()
}

/// Does a cell of `other` stand above or below the cell that begins with this word of `line`?
fn stands_at(line: &Line, word: usize, other: &Line) -> bool {
    let (start, end) = cell(line, word);
    let near = |a: f64, b: f64| (a - b).abs() < ALIGNED * line.size.max(other.size);
    if other.words.len() > MAX_WORDS {
        return false;
    }
    candidates(other).into_iter().any(|candidate| {
        let (other_start, other_end) = cell(other, candidate);
        near(start, other_start)
            || near(end, other_end)
            || near(f64::midpoint(start, end), f64::midpoint(other_start, other_end))
    })
}

/// From this word to the next wide gap.
fn cell(line: &Line, word: usize) -> (f64, f64) {
    let next = candidates(line).into_iter().find(|&next| next > word).unwrap_or(line.words.len());
    (line.words[word].x0, line.words[next - 1].x1)
}
