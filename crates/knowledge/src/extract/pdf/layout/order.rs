//! Pieces of lines in the order they are read: columns one after the other, between lines that span them.

use super::line::Line;

/// A column of text has at least this many lines, and most of them fill this share of its width.
const MIN_LINES: usize = 3;
const MIN_FILL: f64 = 0.5;

/// Narrower columns, in units of the type's size, are those of a table.
const MIN_WIDTH: f64 = 8.0;

/// The free space between two columns, in units of the type's size.
const MIN_GUTTER: f64 = 0.8;

/// Lines that span the columns, as a share of all.
const MAX_SPANNING: f64 = 0.34;

/// A page of more lines isn't looked at for columns.
const MAX_LINES: usize = 5000;

/// Columns within columns; a newspaper has six side by side.
const MAX_DEPTH: usize = 8;

/// True if the drawing goes back up within one column on many lines: then its order isn't that of reading.
pub(super) fn jumps(lines: &[Line]) -> bool {
    let back = lines.windows(2).filter(|pair| {
        let up = pair[1].y > pair[0].y + 0.5 * pair[0].size;
        let overlap = pair[1].x0 < pair[0].x1 && pair[0].x0 < pair[1].x1;
        up && overlap
    });
    let count = back.count();
    count >= 2 && count * 5 > lines.len()
}

/// True if there are columns, and the drawing goes to and fro between them.
pub(super) fn alternates(segments: &[Line]) -> bool {
    let Some(gutter) = gutter(segments) else {
        return false;
    };
    let sides: Vec<bool> = segments
        .iter()
        .filter(|line| line.x1 <= gutter || line.x0 >= gutter)
        .map(|line| line.x0 >= gutter)
        .collect();
    let changes = sides.windows(2).filter(|pair| pair[0] != pair[1]).count();
    changes > 3 && changes * 3 > sides.len()
}

pub(super) fn has_columns(segments: &[Line]) -> bool {
    gutter(segments).is_some()
}

pub(super) fn reading_order(segments: Vec<Line>) -> Vec<Line> {
    ordered(segments, 0)
}

fn ordered(mut segments: Vec<Line>, depth: usize) -> Vec<Line> {
    let Some(gutter) = gutter(&segments).filter(|_| depth < MAX_DEPTH) else {
        sort_rows(&mut segments);
        return segments;
    };
    sort_rows(&mut segments);
    let (mut out, mut left, mut right) = (Vec::new(), Vec::new(), Vec::new());
    for line in segments {
        if line.x1 <= gutter {
            left.push(line);
        } else if line.x0 >= gutter {
            right.push(line);
        } else {
            out.extend(ordered(std::mem::take(&mut left), depth + 1));
            out.extend(ordered(std::mem::take(&mut right), depth + 1));
            out.push(line);
        }
    }
    out.extend(ordered(left, depth + 1));
    out.extend(ordered(right, depth + 1));
    out
}

/// From top to bottom, and within half a line from left to right.
fn sort_rows(lines: &mut [Line]) {
    lines.sort_by(|a, b| b.y.total_cmp(&a.y));
    let mut start = 0;
    while start < lines.len() {
        let (top, size) = (lines[start].y, lines[start].size);
        let row = lines[start..].iter().take_while(|line| top - line.y < 0.5 * size.max(line.size)).count();
        let end = start + row.max(1);
        lines[start..end].sort_by(|a, b| a.x0.total_cmp(&b.x0));
        start = end;
    }
}

/// Pieces that follow each other on one baseline are one line again.
pub(super) fn merge_rows(segments: Vec<Line>) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for segment in segments {
        match lines.last_mut() {
            Some(line)
                if (line.y - segment.y).abs() < 0.5 * line.size.max(segment.size)
                    && segment.x0 >= line.x1 - 0.5 * line.size =>
            {
                line.append(segment);
            }
            _ => lines.push(segment),
        }
    }
    lines
}

/// Where a page is divided into a left and a right column of running text.
fn gutter(segments: &[Line]) -> Option<f64> {
    if segments.len() < 2 * MIN_LINES || segments.len() > MAX_LINES {
        return None;
    }
    let mut sizes: Vec<f64> = segments.iter().map(|line| line.size).collect();
    sizes.sort_by(f64::total_cmp);
    let size = sizes[sizes.len() / 2];
    // A right column begins where several lines begin; the free space is to the left of it.
    let mut starts: Vec<f64> = segments.iter().map(|line| line.x0).collect();
    starts.sort_by(f64::total_cmp);
    starts.dedup_by(|b, a| *b - *a < 0.5 * size);
    let candidates = starts.into_iter().skip(1).map(|start| start - 0.1 * size);
    let judged = candidates.filter_map(|x| judge(segments, x, size).map(|spanning| (spanning, x)));
    judged.min_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))).map(|(_, x)| x)
}

/// The number of lines that span `x`, if columns stand on both sides of it.
fn judge(segments: &[Line], x: f64, size: f64) -> Option<usize> {
    let (mut left, mut right, mut spanning) = (Vec::new(), Vec::new(), 0);
    for line in segments {
        if line.x1 <= x {
            left.push(line);
        } else if line.x0 >= x {
            right.push(line);
        } else {
            spanning += 1;
        }
    }
    let few = left.len() < MIN_LINES || right.len() < MIN_LINES;
    if few || spanning as f64 > MAX_SPANNING * segments.len() as f64 {
        return None;
    }
    let edge = |lines: &[&Line]| lines.iter().map(|line| line.x1).fold(f64::MIN, f64::max);
    let start = |lines: &[&Line]| lines.iter().map(|line| line.x0).fold(f64::MAX, f64::min);
    let gap = start(&right) - edge(&left);
    let is_text = |lines: &[&Line]| {
        let width = edge(lines) - start(lines);
        let full = lines.iter().filter(|line| line.x1 - line.x0 > MIN_FILL * width).count();
        width > MIN_WIDTH * size && full * 2 > lines.len()
    };
    // They stand beside each other, not one below the other.
    let span = |lines: &[&Line]| {
        let ys = lines.iter().map(|line| line.y);
        (ys.clone().fold(f64::MAX, f64::min), ys.fold(f64::MIN, f64::max))
    };
    let ((low_left, high_left), (low_right, high_right)) = (span(&left), span(&right));
    let beside = low_left.max(low_right) < high_left.min(high_right);
    (gap >= MIN_GUTTER * size && beside && is_text(&left) && is_text(&right)).then_some(spanning)
}
