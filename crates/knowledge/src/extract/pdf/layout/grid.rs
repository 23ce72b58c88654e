//! Tables with lines around their cells: the lines make a grid, and each character belongs to the cell it stands in.

use super::line::{self, Line};
use super::{CELL, Paragraph, join_line};
use crate::document::BlockKind;
use crate::extract::pdf::content::{Glyph, Page, turned};
use crate::extract::pdf::path::Rule;

/// A drawing of more lines is no table.
const MAX_RULES: usize = 4000;

/// Lines meet if they come this near, in points.
const NEAR: f64 = 3.0;

/// A shorter line is part of a sign.
const MIN_LENGTH: f64 = 8.0;

/// Rows without a line between them stand on baselines that most of their cells share.
const MIN_SHARED: f64 = 0.7;

/// Consecutive rows that have a wall between their cells; a row without one, as a frame around a page has, is no part
/// of a table.
#[derive(Debug)]
pub(super) struct Grid {
    /// Edges of the columns from left to right, and of the rows from top to bottom.
    xs: Vec<f64>,
    ys: Vec<f64>,
    /// For each row the edges of `xs` with a line between two of its cells.
    walls: Vec<Vec<bool>>,
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
        let (xs, mut ys) = (distinct(xs.collect()), distinct(ys.collect()));
        ys.reverse();
        // Two columns at least; one cell is a frame.
        if xs.len() >= 3 && ys.len() >= 2 {
            grids.extend(parts(&xs, &ys, &upright));
        }
    }
    grids
}

fn parts(xs: &[f64], ys: &[f64], upright: &[Edge]) -> Vec<Grid> {
    let mut grids: Vec<Grid> = Vec::new();
    let mut open = false;
    for row in ys.windows(2) {
        let middle = f64::midpoint(row[0], row[1]);
        let covers = |edge: &Edge| (edge.from..=edge.to).contains(&middle);
        let here: Vec<f64> = upright.iter().filter(|edge| covers(edge)).map(|edge| edge.at).collect();
        let walls: Vec<bool> = xs.iter().map(|x| here.iter().any(|at| (at - x).abs() < NEAR)).collect();
        let inner = walls[1..walls.len() - 1].contains(&true);
        match grids.last_mut().filter(|_| open && inner) {
            Some(grid) => {
                grid.ys.push(row[1]);
                grid.walls.push(walls);
            }
            None if inner => grids.push(Grid { xs: xs.to_vec(), ys: row.to_vec(), walls: vec![walls] }),
            None => {}
        }
        open = inner;
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

    /// (row from the top, column); a cell that spans columns is the first of them.
    fn place(&self, glyph: &Glyph) -> Option<(usize, usize)> {
        let middle = f64::midpoint(glyph.x0, glyph.x1);
        let after = self.xs.partition_point(|edge| *edge <= middle);
        let mut column = (after > 0 && after < self.xs.len()).then(|| after - 1)?;
        // A third of the size above the baseline is the middle of small letters.
        let height = glyph.y + 0.3 * glyph.size;
        let below = self.ys.partition_point(|edge| *edge > height);
        let row = (below > 0 && below < self.ys.len()).then(|| below - 1)?;
        while column > 0 && !self.walls[row][column] {
            column -= 1;
        }
        Some((row, column))
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
            let lines: Vec<Vec<Line>> = row.iter().map(|cell| line::lines(page, cell)).collect();
            match shared_baselines(&lines) {
                Some(baselines) => {
                    for baseline in baselines {
                        let at = |line: &&Line| (line.y - baseline).abs() < 0.5 * line.size;
                        let row = lines.iter().map(|cell| cell.iter().filter(at).cloned().collect());
                        rows.extend(self.paragraph(&row.collect::<Vec<_>>()));
                    }
                }
                None => rows.extend(self.paragraph(&lines)),
            }
        }
        Some(rows)
    }

    fn paragraph(&self, cells: &[Vec<Line>]) -> Option<Paragraph> {
        let (mut size, mut y) = (0.0f64, f64::MIN);
        let texts = cells.iter().map(|cell| {
            let mut text = String::new();
            for line in cell {
                if text.is_empty() {
                    text.clone_from(&line.text);
                } else {
                    join_line(&mut text, &line.text);
                }
                size = size.max(line.size);
                y = y.max(line.y);
            }
            text
        });
        let text = texts.collect::<Vec<_>>().join(&CELL.to_string());
        let (x0, x1) = (self.xs[0], self.xs[self.xs.len() - 1]);
        let found = text.contains(|c| c != CELL);
        found.then_some(Paragraph {
            kind: BlockKind::TableRow,
            text,
            size,
            bold: false,
            num_lines: 1,
            y,
            x0,
            x1,
        })
    }
}

/// The baselines of three rows or more that no lines divide, from top to bottom.
fn shared_baselines(cells: &[Vec<Line>]) -> Option<Vec<f64>> {
    let mut lines: Vec<&Line> = cells.iter().flatten().collect();
    lines.sort_by(|a, b| b.y.total_cmp(&a.y));
    let mut baselines: Vec<f64> = Vec::new();
    for line in lines {
        if baselines.last().is_none_or(|last| last - line.y >= 0.5 * line.size) {
            baselines.push(line.y);
        }
    }
    let full = |cell: &&Vec<Line>| cell.len() as f64 >= MIN_SHARED * baselines.len() as f64;
    let filled = cells.iter().filter(|cell| !cell.is_empty());
    let all_full = filled.clone().filter(full).count() >= 2 && filled.take(1).all(|cell| full(&cell));
    (baselines.len() >= 3 && all_full).then_some(baselines)
}
