//! Plane geometry of text lines: hulls, the smallest rectangle around a line, and perspective.

/// In pixels; the centre of the first pixel is at 0.5, 0.5 in a picture's own coordinates.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Point {
    pub x: f32,
    pub y: f32,
}

impl Point {
    pub fn new(x: f32, y: f32) -> Self {
        Self { x, y }
    }

    pub fn distance(self, other: Self) -> f32 {
        (self.x - other.x).hypot(self.y - other.y)
    }
}

/// Four corners, clockwise on the screen, from the text's upper left one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quad(pub [Point; 4]);

impl Quad {
    pub fn rectangle(left: f32, top: f32, right: f32, bottom: f32) -> Self {
        Self([(left, top), (right, top), (right, bottom), (left, bottom)].map(|(x, y)| Point::new(x, y)))
    }

    /// Along the text and across it, in pixels.
    pub fn size(&self) -> [f32; 2] {
        let [a, b, c, d] = self.0;
        [a.distance(b).max(d.distance(c)), a.distance(d).max(b.distance(c))]
    }

    pub fn centre(&self) -> Point {
        let sum = self.0.iter().fold(Point::default(), |sum, p| Point::new(sum.x + p.x, sum.y + p.y));
        Point::new(sum.x / 4.0, sum.y / 4.0)
    }

    /// The same place, read with its first corner `quarters` further on.
    pub fn turned(mut self, quarters: usize) -> Self {
        self.0.rotate_left(quarters % 4);
        self
    }

    pub fn map(self, change: impl Fn(Point) -> Point) -> Self {
        Self(self.0.map(change))
    }
}

/// A rectangle at any angle: `axis` is the unit vector along it, which points right, `half` half its extents.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rectangle {
    pub centre: Point,
    pub axis: Point,
    pub half: [f32; 2],
}

impl Rectangle {
    /// The smallest rectangle around `points`, of which one side lies on their hull (Freeman & Shapira 1975).
    pub fn around(points: Vec<Point>) -> Option<Self> {
        let hull = hull(points);
        let first = *hull.first()?;
        let mut best: Option<(f32, Self)> = None;
        let edges = hull.iter().zip(hull.iter().cycle().skip(1));
        let axes = edges.map(|(&from, &to)| Point::new(to.x - from.x, to.y - from.y));
        // A single point has no edges but itself.
        for axis in axes.chain([Point::new(1.0, 0.0)]) {
            let length = axis.x.hypot(axis.y);
            if length == 0.0 {
                continue;
            }
            let axis = pointing_right(Point::new(axis.x / length, axis.y / length));
            let (mut low, mut high) = ([f32::MAX; 2], [f32::MIN; 2]);
            for point in &hull {
                let (x, y) = (point.x - first.x, point.y - first.y);
                for (at, value) in [x * axis.x + y * axis.y, y * axis.x - x * axis.y].into_iter().enumerate()
                {
                    low[at] = low[at].min(value);
                    high[at] = high[at].max(value);
                }
            }
            let half = [(high[0] - low[0]) / 2.0, (high[1] - low[1]) / 2.0];
            let middle = [0, 1].map(|at| f32::midpoint(low[at], high[at]));
            let centre = Point::new(
                first.x + middle[0] * axis.x - middle[1] * axis.y,
                first.y + middle[0] * axis.y + middle[1] * axis.x,
            );
            let area = half[0] * half[1];
            if best.is_none_or(|(smallest, _)| area < smallest) {
                best = Some((area, Self { centre, axis, half }));
            }
        }
        best.map(|(_, rectangle)| rectangle)
    }

    pub fn short_side(&self) -> f32 {
        self.half[0].min(self.half[1]) * 2.0
    }

    /// Grown on all sides by `ratio · area / perimeter`: the detector learns lines that are shrunk by such a distance
    /// (Liao et al. 2020). The rectangle around a rectangle that is offset with round corners is this one.
    pub fn unclipped(&self, ratio: f32) -> Self {
        let [a, b] = self.half.map(|half| half * 2.0);
        let distance = if a + b > 0.0 { a * b * ratio / (2.0 * (a + b)) } else { 0.0 };
        Self { half: self.half.map(|half| half + distance), ..*self }
    }

    pub fn contains(&self, point: Point) -> bool {
        let (x, y) = (point.x - self.centre.x, point.y - self.centre.y);
        let (along, across) = (x * self.axis.x + y * self.axis.y, y * self.axis.x - x * self.axis.y);
        along.abs() <= self.half[0] + 1e-3 && across.abs() <= self.half[1] + 1e-3
    }

    pub fn quad(&self) -> Quad {
        let corner = |along: f32, across: f32| {
            let (u, v) = (along * self.half[0], across * self.half[1]);
            Point::new(
                self.centre.x + u * self.axis.x - v * self.axis.y,
                self.centre.y + u * self.axis.y + v * self.axis.x,
            )
        };
        Quad([corner(-1.0, -1.0), corner(1.0, -1.0), corner(1.0, 1.0), corner(-1.0, 1.0)])
    }
}

/// Of the four directions of a rectangle's sides the one nearest to the right.
fn pointing_right(axis: Point) -> Point {
    let turns =
        [axis, Point::new(-axis.y, axis.x), Point::new(-axis.x, -axis.y), Point::new(axis.y, -axis.x)];
    turns.into_iter().max_by(|a, b| a.x.total_cmp(&b.x)).unwrap_or(axis)
}

/// The convex hull (Andrew 1979), without points on its edges.
pub fn hull(mut points: Vec<Point>) -> Vec<Point> {
    points.retain(|point| point.x.is_finite() && point.y.is_finite());
    points.sort_by(|a, b| a.x.total_cmp(&b.x).then(a.y.total_cmp(&b.y)));
    points.dedup();
    if points.len() < 3 {
        return points;
    }
    let turn = |a: Point, b: Point, c: Point| (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x);
    let half = |points: &mut dyn Iterator<Item = Point>| {
        let mut chain: Vec<Point> = Vec::new();
        for point in points {
            while let [.., a, b] = chain[..]
                && turn(a, b, point) <= 0.0
            {
                chain.pop();
            }
            chain.push(point);
        }
        chain.pop();
        chain
    };
    let mut hull = half(&mut points.iter().copied());
    hull.extend(half(&mut points.iter().rev().copied()));
    hull
}

/// `((a x + b y + c) / (g x + h y + 1), (d x + e y + f) / (g x + h y + 1))`.
#[derive(Debug, Clone, Copy)]
pub struct Perspective([f32; 8]);

impl Perspective {
    pub fn apply(&self, x: f32, y: f32) -> Point {
        let [a, b, c, d, e, f, g, h] = self.0;
        let w = g * x + h * y + 1.0;
        Point::new((a * x + b * y + c) / w, (d * x + e * y + f) / w)
    }
}

/// The map of the rectangle from 0, 0 to `width`, `height` onto `quad` (Heckbert 1989, square to quadrilateral).
pub fn perspective(width: f32, height: f32, quad: &Quad) -> Perspective {
    let [p0, p1, p2, p3] = quad.0;
    let (sx, sy) = (p0.x - p1.x + p2.x - p3.x, p0.y - p1.y + p2.y - p3.y);
    let (dx1, dx2) = (p1.x - p2.x, p3.x - p2.x);
    let (dy1, dy2) = (p1.y - p2.y, p3.y - p2.y);
    let determinant = dx1 * dy2 - dx2 * dy1;
    let (g, h) = match determinant == 0.0 {
        true => (0.0, 0.0),
        false => ((sx * dy2 - dx2 * sy) / determinant, (dx1 * sy - sx * dy1) / determinant),
    };
    let (a, b, c) = (p1.x - p0.x + g * p1.x, p3.x - p0.x + h * p3.x, p0.x);
    let (d, e, f) = (p1.y - p0.y + g * p1.y, p3.y - p0.y + h * p3.y, p0.y);
    Perspective([a / width, b / height, c, d / width, e / height, f, g / width, h / height])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: Point, b: Point) -> bool {
        a.distance(b) < 1e-2
    }

    fn turned_rectangle(angle: f32, half: [f32; 2]) -> Rectangle {
        let (sin, cos) = angle.to_radians().sin_cos();
        Rectangle { centre: Point::new(50.0, 40.0), axis: Point::new(cos, sin), half }
    }

    #[test]
    fn a_rectangle_is_found_at_every_angle() {
        for angle in -44..=44 {
            let expected = turned_rectangle(angle as f32, [20.0, 5.0]);
            let mut points = expected.quad().0.to_vec();
            // Points inside change nothing.
            points.extend((0..9).map(|i| Point::new(48.0 + 0.5 * i as f32, 40.0)));
            let found = Rectangle::around(points).unwrap();
            assert!(
                near(found.centre, expected.centre) && near(found.axis, expected.axis),
                "{angle}: {found:?}"
            );
            for (a, b) in found.quad().0.into_iter().zip(expected.quad().0) {
                assert!(near(a, b), "{angle}: {found:?}");
            }
        }
    }

    #[test]
    fn few_points_have_a_rectangle_too() {
        assert!(Rectangle::around(Vec::new()).is_none());
        assert!(Rectangle::around(vec![Point::new(f32::NAN, 1.0)]).is_none());
        let one = Rectangle::around(vec![Point::new(3.0, 4.0)]).unwrap();
        assert_eq!((one.centre, one.half), (Point::new(3.0, 4.0), [0.0, 0.0]));
        let two = Rectangle::around(vec![Point::new(0.0, 0.0), Point::new(6.0, 0.0)]).unwrap();
        assert_eq!((two.centre, two.half), (Point::new(3.0, 0.0), [3.0, 0.0]));
        assert_eq!(one.unclipped(1.6), one);
    }

    #[test]
    fn unclipping_grows_each_side_by_area_over_perimeter() {
        // 40 x 10: area 400, perimeter 100, ratio 1.5: by 6 on each side.
        let grown = turned_rectangle(17.0, [20.0, 5.0]).unclipped(1.5);
        assert!((grown.half[0] - 26.0).abs() < 1e-4 && (grown.half[1] - 11.0).abs() < 1e-4);
        assert_eq!(grown.centre, Point::new(50.0, 40.0));
    }

    #[test]
    fn all_points_lie_in_the_hull_and_the_rectangle_around_it() {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as f32 / 655.36
        };
        for count in 3..60 {
            let points: Vec<_> = (0..count).map(|_| Point::new(next(), next())).collect();
            let hull = hull(points.clone());
            let rectangle = Rectangle::around(points.clone()).unwrap();
            for point in points {
                assert!(rectangle.contains(point));
                for (a, b) in hull.iter().zip(hull.iter().cycle().skip(1)) {
                    assert!((b.x - a.x) * (point.y - a.y) - (b.y - a.y) * (point.x - a.x) > -1e-2);
                }
            }
        }
    }

    #[test]
    fn perspective_takes_corners_to_corners_and_lines_to_lines() {
        let points = [(3.0, 2.0), (60.0, 9.0), (55.0, 40.0), (1.0, 30.0)].map(|(x, y)| Point::new(x, y));
        let map = perspective(30.0, 10.0, &Quad(points));
        for ((x, y), expected) in [(0.0, 0.0), (30.0, 0.0), (30.0, 10.0), (0.0, 10.0)].into_iter().zip(points)
        {
            assert!(near(map.apply(x, y), expected));
        }
        let [a, b, c] = [0.0, 13.0, 30.0].map(|x| map.apply(x, x / 3.0));
        assert!(((b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x)).abs() < 1e-1);
    }

    #[test]
    fn four_quarters_are_a_whole_turn() {
        let quad = Quad::rectangle(0.0, 0.0, 4.0, 1.0);
        assert_eq!(quad.turned(4), quad);
        assert_eq!(quad.turned(1).size().map(f32::to_bits), [1.0_f32, 4.0].map(f32::to_bits));
        assert_eq!(quad.turned(1).turned(3), quad);
    }
}
