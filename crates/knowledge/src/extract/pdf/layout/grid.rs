//! Tables with lines around their cells: the lines make a grid, and each character belongs to the cell it stands in.

use super::{CELL, Paragraph, join_line, line};
use crate::document::BlockKind;
use crate::extract::pdf::content::{Glyph, Page, Rule, turned};

/// A drawing of more lines is no table.
const MAX_RULES: usize = 4000;

/// Lines meet if they come this near, in points.
const NEAR: f64 = 3.0;

/// A shorter line is part of a sign.
const MIN_LENGTH: f64 = 8.0;

#[derive(Debug)]
pub(super) struct Grid {
    /// Edges of the columns from left to right, and of the rows from bottom to top.
    xs: Vec<f64>,
    ys: Vec<f64>,
}

/// A rule that is one of the two directions: where it stands across, from where to where it goes along.
#[derive(Debug, Clone, Copy)]
struct Edge {
    at: f64,
    from: f64,
    to: f64,
}

pub(super) fn find(rules: &[Rule], turn: u8) -> Vec<Grid> {
    if rules.len() > MAX_RULES {
        return Vec::new();
    }
    let (mut level, mut upright) = (Vec::new(), Vec::new());
    for rule in rules {
        let ((x0, y0), (x1, y1)) = (turned(turn, rule.x0, rule.y0), turned(turn, rule.x1, rule.y1));
        let (left, right, low, high) = (x0.min(x1), x0.max(x1), y0.min(y1), y0.max(y1));
        if high - low < NEAR && right - left >= MIN_LENGTH {
            level.push(Edge { at: f64::midpoint(low, high), from: left, to: right });
        } else if right - left < NEAR && high - low >= MIN_LENGTH {
            upright.push(Edge { at: f64::midpoint(left, right), from: low, to: high });
        }
    }
    let mut grids = Vec::new();
    for (level, upright) in connected(&level, &upright) {
        let xs = upright.iter().map(|edge| edge.at).chain(level.iter().flat_map(|edge| [edge.from, edge.to]));
        let ys = level.iter().map(|edge| edge.at).chain(upright.iter().flat_map(|edge| [edge.from, edge.to]));
        let grid = Grid { xs: distinct(xs.collect()), ys: distinct(ys.collect()) };
        // Two columns and two rows at least; one cell is a frame.
        if grid.xs.len() >= 3 && grid.ys.len() >= 3 {
            grids.push(grid);
        }
    }
    grids
}

/// Groups of lines that touch each other.
fn connected(level: &[Edge], upright: &[Edge]) -> Vec<(Vec<Edge>, Vec<Edge>)> {
    let meet = |a: &Edge, b: &Edge| {
        (a.from - NEAR..=a.to + NEAR).contains(&b.at) && (b.from - NEAR..=b.to + NEAR).contains(&a.at)
    };
    let mut group_of_level: Vec<Option<usize>> = vec![None; level.len()];
    let mut group_of_upright: Vec<Option<usize>> = vec![None; upright.len()];
    let mut groups = Vec::new();
    for start in 0..level.len() {
        if group_of_level[start].is_some() {
            continue;
        }
        let group = groups.len();
        group_of_level[start] = Some(group);
        let (mut levels, mut uprights) = (vec![level[start]], Vec::new());
        let mut open = vec![start];
        while let Some(index) = open.pop() {
            for (other, edge) in upright.iter().enumerate() {
                if group_of_upright[other].is_some() || !meet(&level[index], edge) {
                    continue;
                }
                group_of_upright[other] = Some(group);
                uprights.push(*edge);
                for (next, edge) in level.iter().enumerate() {
                    if group_of_level[next].is_none() && meet(edge, &upright[other]) {
                        group_of_level[next] = Some(group);
                        levels.push(*edge);
                        open.push(next);
                    }
                }
            }
        }
        groups.push((levels, uprights));
    }
    groups
}

fn distinct(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values.dedup_by(|b, a| *b - *a < NEAR);
    values
}

impl Grid {
    pub(super) fn holds(&self, glyph: &Glyph) -> bool {
        self.place(glyph).is_some()
    }

    /// (row from the top, column)
    fn place(&self, glyph: &Glyph) -> Option<(usize, usize)> {
        let between = |edges: &[f64], at: f64| {
            let after = edges.partition_point(|edge| *edge <= at);
            (after > 0 && after < edges.len()).then(|| after - 1)
        };
        let column = between(&self.xs, f64::midpoint(glyph.x0, glyph.x1))?;
        // A third of the size above the baseline is the middle of small letters.
        let row = between(&self.ys, glyph.y + 0.3 * glyph.size)?;
        Some((self.ys.len() - 2 - row, column))
    }

    /// A paragraph for each row; `None` if hardly any cell holds text, as in a chart.
    pub(super) fn rows(&self, page: &Page, glyphs: &[&Glyph]) -> Option<Vec<Paragraph>> {
        let (num_rows, num_columns) = (self.ys.len() - 1, self.xs.len() - 1);
        let mut cells: Vec<Vec<&Glyph>> = vec![Vec::new(); num_rows * num_columns];
        for glyph in glyphs {
            if let Some((row, column)) = self.place(glyph) {
                cells[row * num_columns + column].push(glyph);
            }
        }
        let filled = cells.iter().filter(|cell| !cell.is_empty()).count();
        if filled < 2 || filled * 8 < cells.len() {
            return None;
        }
        let mut rows = Vec::new();
        for row in cells.chunks(num_columns) {
            let mut text = String::new();
            let (mut size, mut y) = (0.0f64, f64::MIN);
            for (column, cell) in row.iter().enumerate() {
                if column > 0 {
                    text.push(CELL);
                }
                let mut cell_text = String::new();
                for line in line::lines(page, cell) {
                    if cell_text.is_empty() {
                        cell_text = line.text;
                    } else {
                        join_line(&mut cell_text, &line.text);
                    }
                    size = size.max(line.size);
                    y = y.max(line.y);
                }
                text.push_str(&cell_text);
            }
            if text.contains(|c| c != CELL) {
                rows.push(Paragraph { kind: BlockKind::TableRow, text, size, bold: false, num_lines: 1, y });
            }
        }
        Some(rows)
    }
}
