//! The order in which a page's lines are read.

use crate::geometry::{Point, Quad};

/// Lines overlapping by this share of the lower one's height stand side by side.
const SIDE_BY_SIDE: f32 = 0.5;

/// The indices of `quads` row by row from the top, left to right within a row.
///
/// The page's own slant is taken out first, so that a long row of a crooked scan stays one. Corners tell which way
/// the text runs, so a page that lies on its side is read as it would be upright.
pub fn reading_order(quads: &[Quad]) -> Vec<usize> {
    let axis = main_axis(quads);
    let upright: Vec<(Point, f32)> = quads
        .iter()
        .map(|quad| {
            let Point { x, y } = quad.centre();
            let placed = Point::new(x * axis.x + y * axis.y, y * axis.x - x * axis.y);
            (placed, across(quad, axis))
        })
        .collect();
    let mut order: Vec<usize> = (0..quads.len()).collect();
    order.sort_by(|&a, &b| upright[a].0.y.total_cmp(&upright[b].0.y));
    let mut rows: Vec<Vec<usize>> = Vec::new();
    for index in order {
        let (place, height) = upright[index];
        let fits = |row: &Vec<usize>| {
            let (last, other) = upright[row[row.len() - 1]];
            let overlap = f32::midpoint(height, other) - (place.y - last.y).abs();
            overlap > SIDE_BY_SIDE * height.min(other).max(1.0)
        };
        match rows.last_mut().filter(|row| fits(row)) {
            Some(row) => row.push(index),
            None => rows.push(vec![index]),
        }
    }
    for row in &mut rows {
        row.sort_by(|&a, &b| upright[a].0.x.total_cmp(&upright[b].0.x));
    }
    rows.concat()
}

/// The unit vector along which most text runs: the long lines' directions count most.
fn main_axis(quads: &[Quad]) -> Point {
    let mut directions: Vec<(f32, f32)> = quads
        .iter()
        .map(|quad| {
            let [a, b, ..] = quad.0;
            ((b.y - a.y).atan2(b.x - a.x), a.distance(b))
        })
        .filter(|(_, length)| *length > 0.0)
        .collect();
    // Angles are measured from the longest line's, so that none lies across the jump at 180°.
    let Some(&(start, _)) = directions.iter().max_by(|a, b| a.1.total_cmp(&b.1)) else {
        return Point::new(1.0, 0.0);
    };
    for (angle, _) in &mut directions {
        let (sin, cos) = (*angle - start).sin_cos();
        *angle = sin.atan2(cos);
    }
    directions.sort_by(|a, b| a.0.total_cmp(&b.0));
    let half = directions.iter().map(|direction| direction.1).sum::<f32>() / 2.0;
    let mut passed = 0.0;
    let median = directions.iter().find(|direction| {
        passed += direction.1;
        passed >= half
    });
    let (sin, cos) = (start + median.map_or(0.0, |direction| direction.0)).sin_cos();
    Point::new(cos, sin)
}

/// A line's extent across the page's main axis, without what its slant adds.
fn across(quad: &Quad, axis: Point) -> f32 {
    let [a, b, ..] = quad.0;
    let [along, across] = quad.size();
    let runs_along = ((b.x - a.x) * axis.x + (b.y - a.y) * axis.y).abs() * 2.0 > along;
    if runs_along { across } else { along }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three rows of two cells, given in a shuffled order.
    fn page() -> (Vec<Quad>, Vec<usize>) {
        let cell = |row: usize, column: usize| {
            let (left, top) = (20.0 + 500.0 * column as f32, 30.0 + 24.0 * row as f32);
            Quad::rectangle(left, top, left + 400.0 + 10.0 * row as f32, top + 18.0)
        };
        let quads = [(2, 1), (0, 0), (1, 1), (2, 0), (0, 1), (1, 0)].map(|(row, column)| cell(row, column));
        (quads.to_vec(), vec![1, 4, 5, 2, 3, 0])
    }

    #[test]
    fn rows_come_from_the_top_and_cells_from_the_left() {
        let (quads, expected) = page();
        assert_eq!(reading_order(&quads), expected);
        assert_eq!(reading_order(&[]), Vec::<usize>::new());
    }

    #[test]
    fn a_page_at_any_angle_is_read_in_the_same_order() {
        let (quads, expected) = page();
        for angle in (-180..180).step_by(3) {
            let (sin, cos) = (angle as f32).to_radians().sin_cos();
            let turn =
                |point: Point| Point::new(point.x * cos - point.y * sin, point.x * sin + point.y * cos);
            let turned: Vec<Quad> = quads.iter().map(|quad| quad.map(turn)).collect();
            assert_eq!(reading_order(&turned), expected, "{angle} degrees");
        }
    }
}
