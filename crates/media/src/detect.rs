//! Where lines of text are: a map of probabilities from the network, and the rectangles around what is likely.
//!
//! Differentiable Binarization (Liao et al. 2020, arXiv 1911.08947): the network marks the core of each line. Cores
//! are the connected places above a threshold; each gets its smallest rectangle, is kept if the probability inside is
//! high, and is grown to the line it is the core of. Thresholds are those published with the PP-OCR models.

use hearth_kernels::pool::Pool;

use crate::geometry::{Point, Quad, Rectangle};
use crate::network::{Network, Tensor};
use crate::picture::Picture;
use crate::{Error, Result};

/// The network halves the picture five times.
const MULTIPLE: usize = 32;
/// Pictures are enlarged until their shorter side has this many pixels, but at most as [`MAX_GROWTH`] says.
const SHORT_SIDE: usize = 736;
const MAX_GROWTH: f32 = 4.0;
/// And shrunk until the longer side has this many: bounds time and memory.
const LONG_SIDE: usize = 1760;
/// A longer strip gets a border, since the network has seen no such pictures.
const MAX_ASPECT: usize = 8;
const LIKELY: f32 = 0.3;
const LIKELY_INSIDE: f32 = 0.5;
const UNCLIP: f32 = 1.6;
/// Of cores, in places of the map.
const MIN_SIDE: f32 = 3.0;
/// Of lines, in pixels of the picture.
const MIN_LINE: f32 = 3.0;
/// A page of small print has a few hundred lines.
const MAX_LINES: usize = 3000;

/// Rectangles around the lines of `picture`, in its pixels, in no order; corners clockwise from the upper left.
pub fn detect(network: &Network, pool: &Pool, picture: &Picture<'_>) -> Result<Vec<Quad>> {
    if picture.width == 0 || picture.height == 0 {
        return Ok(Vec::new());
    }
    let border = |long: usize, short: usize| (long / MAX_ASPECT).saturating_sub(short).div_ceil(2);
    let (across, down) = (border(picture.height, picture.width), border(picture.width, picture.height));
    let bordered;
    let shown = if across + down > 0 {
        bordered = picture.bordered(across, down);
        &bordered
    } else {
        picture
    };
    let [width, height] = map_size(shown.width, shown.height);
    let mut input = vec![0.0; width * height * 3];
    shown.scaled(width, height).normalise(&mut input, width);
    let map = network.run(pool, Tensor::pictures([1, height, width, 3], input))?;
    if map.values.len() != width * height {
        let reason = format!("a map of shape {:?} for a picture of {width}x{height}", map.shape);
        return Err(Error::Node { node: "the output".into(), op: "the detector".into(), reason });
    }
    let scale = [shown.width as f32 / width as f32, shown.height as f32 / height as f32];
    let limit = [picture.width as f32, picture.height as f32];
    let to_picture = |point: Point| {
        let (x, y) = (point.x * scale[0] - across as f32, point.y * scale[1] - down as f32);
        Point::new(x.clamp(0.0, limit[0]), y.clamp(0.0, limit[1]))
    };
    let quads = rectangles(&map.values, width).into_iter().map(|rectangle| rectangle.quad().map(to_picture));
    Ok(quads.filter(|quad| quad.size().iter().all(|&side| side > MIN_LINE)).collect())
}

/// The size in which the network sees a picture.
fn map_size(width: usize, height: usize) -> [usize; 2] {
    let (short, long) = (width.min(height) as f32, width.max(height) as f32);
    let grown = (SHORT_SIDE as f32 / short).clamp(1.0, MAX_GROWTH);
    let scale = grown.min(LONG_SIDE as f32 / long);
    [width, height].map(|side| {
        let multiples = (side as f32 * scale / MULTIPLE as f32).round().max(1.0);
        multiples as usize * MULTIPLE
    })
}

/// The grown rectangles of all cores in a map of probabilities, in places of the map.
fn rectangles(map: &[f32], width: usize) -> Vec<Rectangle> {
    let mut found = Vec::new();
    for core in cores(map, width) {
        let Some(rectangle) = Rectangle::around(core) else { continue };
        if rectangle.short_side() < MIN_SIDE || mean_inside(map, width, &rectangle) < LIKELY_INSIDE {
            continue;
        }
        let grown = rectangle.unclipped(UNCLIP);
        if grown.short_side() >= MIN_SIDE + 2.0 {
            found.push(grown);
        }
        if found.len() == MAX_LINES {
            break;
        }
    }
    found
}

/// The connected likely places; of each, the outermost points of its rows, which have the hull of the whole.
///
/// Likely places are first thickened by one to the right and below, which closes hairlines between letters.
fn cores(map: &[f32], width: usize) -> Vec<Vec<Point>> {
    let height = map.len() / width;
    let likely = |x: usize, y: usize| map[y * width + x] > LIKELY;
    let thick = |x: usize, y: usize| {
        let (left, above) = (x.saturating_sub(1), y.saturating_sub(1));
        likely(x, y) || likely(left, y) || likely(x, above) || likely(left, above)
    };
    let mut open: Vec<bool> = (0..map.len()).map(|at| thick(at % width, at / width)).collect();
    let mut found = Vec::new();
    let mut stack = Vec::new();
    for start in 0..open.len() {
        if !open[start] {
            continue;
        }
        // The rows of the core from its first on; it goes on downwards from there.
        let mut rows: Vec<Option<[usize; 2]>> = Vec::new();
        let first_row = start / width;
        open[start] = false;
        stack.push(start);
        while let Some(at) = stack.pop() {
            let (x, y) = (at % width, at / width);
            if rows.len() <= y - first_row {
                rows.resize(y - first_row + 1, None);
            }
            let [low, high] = rows[y - first_row].unwrap_or([x, x]);
            rows[y - first_row] = Some([low.min(x), high.max(x)]);
            for row in y.saturating_sub(1)..=(y + 1).min(height - 1) {
                for column in x.saturating_sub(1)..=(x + 1).min(width - 1) {
                    if std::mem::take(&mut open[row * width + column]) {
                        stack.push(row * width + column);
                    }
                }
            }
        }
        let ends = rows.iter().zip(first_row..).filter_map(|(ends, y)| Some((ends.as_ref()?, y)));
        found.push(ends.flat_map(|(ends, y)| ends.map(|x| Point::new(x as f32, y as f32))).collect());
    }
    found
}

/// The mean probability of the places in a rectangle.
fn mean_inside(map: &[f32], width: usize, rectangle: &Rectangle) -> f32 {
    let height = map.len() / width;
    let corners = rectangle.quad().0;
    let range = |of: fn(&Point) -> f32, size: usize| {
        let low = corners.iter().map(of).fold(f32::MAX, f32::min).max(0.0) as usize;
        let high = corners.iter().map(of).fold(0.0, f32::max).ceil() as usize;
        low..(high + 1).min(size)
    };
    let (mut sum, mut count) = (0.0_f64, 0_u32);
    for y in range(|point| point.y, height) {
        for x in range(|point| point.x, width) {
            if rectangle.contains(Point::new(x as f32, y as f32)) {
                sum += f64::from(map[y * width + x]);
                count += 1;
            }
        }
    }
    if count == 0 { 0.0 } else { (sum / f64::from(count)) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 64;

    /// A map of zeros with the places of `rectangles` at `value`.
    fn map(rectangles: &[Rectangle], value: f32) -> Vec<f32> {
        let inside = |at: usize| {
            let place = Point::new((at % WIDTH) as f32, (at / WIDTH) as f32);
            rectangles.iter().any(|rectangle| rectangle.contains(place))
        };
        (0..WIDTH * 48).map(|at| if inside(at) { value } else { 0.0 }).collect()
    }

    fn straight(x: f32, y: f32, half: [f32; 2]) -> Rectangle {
        Rectangle { centre: Point::new(x, y), axis: Point::new(1.0, 0.0), half }
    }

    #[test]
    fn each_core_becomes_its_grown_rectangle() {
        let lines = [straight(30.0, 10.0, [20.0, 3.0]), straight(30.0, 30.0, [10.0, 4.0])];
        let found = rectangles(&map(&lines, 0.9), WIDTH);
        assert_eq!(found.len(), 2);
        for (found, line) in found.iter().zip(lines) {
            // Thickened by one place to the right and below.
            let thick = Rectangle {
                centre: Point::new(line.centre.x + 0.5, line.centre.y + 0.5),
                half: line.half.map(|half| half + 0.5),
                ..line
            };
            let expected = thick.unclipped(UNCLIP);
            assert!(found.centre.distance(expected.centre) < 1e-3, "{found:?}");
            assert!(
                (found.half[0] - expected.half[0]).abs() + (found.half[1] - expected.half[1]).abs() < 1e-3
            );
        }
    }

    #[test]
    fn a_crooked_core_keeps_its_angle() {
        let (sin, cos) = 10_f32.to_radians().sin_cos();
        let line = Rectangle { axis: Point::new(cos, sin), ..straight(32.0, 24.0, [24.0, 4.0]) };
        let found = rectangles(&map(&[line], 0.9), WIDTH);
        assert_eq!(found.len(), 1);
        let angle = found[0].axis.y.atan2(found[0].axis.x).to_degrees();
        assert!((angle - 10.0).abs() < 2.0, "{angle}");
    }

    #[test]
    fn what_is_unlikely_or_tiny_is_no_line() {
        assert!(rectangles(&map(&[], 0.9), WIDTH).is_empty());
        assert!(rectangles(&map(&[straight(30.0, 10.0, [20.0, 3.0])], 0.29), WIDTH).is_empty());
        // Above the threshold for a place, below that for the mean inside.
        assert!(rectangles(&map(&[straight(30.0, 10.0, [20.0, 3.0])], 0.4), WIDTH).is_empty());
        assert!(rectangles(&map(&[straight(30.0, 10.0, [0.4, 0.4])], 0.9), WIDTH).is_empty());
    }

    #[test]
    fn cores_touching_at_a_corner_are_one() {
        let mut map = vec![0.0; WIDTH * 48];
        for step in 0..10 {
            map[(5 + step) * WIDTH + 5 + step] = 0.9;
        }
        assert_eq!(cores(&map, WIDTH).len(), 1);
    }

    #[test]
    fn a_page_that_is_all_text_is_one_core() {
        let found = rectangles(&[0.9; WIDTH * 48], WIDTH);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].centre, Point::new(31.5, 23.5));
    }

    #[test]
    fn sizes_are_multiples_within_bounds() {
        for (width, height, expected) in [
            (1, 1, [32, 32]),
            (1240, 1754, [1248, 1760]),
            (736, 736, [736, 736]),
            (400, 300, [992, 736]),
            (100_000, 100_000, [1760, 1760]),
            (100_000, 12_500, [1760, 224]),
        ] {
            assert_eq!(map_size(width, height), expected, "{width}x{height}");
        }
    }
}
