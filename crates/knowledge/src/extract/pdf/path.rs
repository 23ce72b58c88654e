//! The lines a page's program draws, as far as tables need them (ISO 32000-1, 8.5).

use lopdf::Object;

use super::content::Matrix;
use super::font::number;

/// A straight line, or a filled rectangle as thin as one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rule {
    pub(super) x0: f64,
    pub(super) y0: f64,
    pub(super) x1: f64,
    pub(super) y1: f64,
}

/// Filled rectangles up to this thickness are lines, in points.
const MAX_THICKNESS: f64 = 3.0;

/// A page with more lines is a drawing.
const MAX_RULES: usize = 20_000;

/// The path that is being made.
#[derive(Debug, Default)]
pub(super) struct Path {
    lines: Vec<Rule>,
    boxes: Vec<Rule>,
    /// Where the pen is, and where its line began.
    pen: (f64, f64),
    start: (f64, f64),
}

impl Path {
    pub(super) fn step(&mut self, operator: &str, operands: &[Object], ctm: &Matrix) {
        let numbers: Vec<f64> = operands.iter().filter_map(number).collect();
        let place = |x: f64, y: f64| (ctm[0] * x + ctm[2] * y + ctm[4], ctm[1] * x + ctm[3] * y + ctm[5]);
        match (operator, numbers.as_slice()) {
            ("m", [x, y]) => {
                self.pen = place(*x, *y);
                self.start = self.pen;
            }
            ("l", [x, y]) => self.line_to(place(*x, *y)),
            ("h", _) => self.line_to(self.start),
            ("re", [x, y, width, height]) => {
                let ((x0, y0), (x1, y1)) = (place(*x, *y), place(x + width, y + height));
                if self.boxes.len() < MAX_RULES {
                    self.boxes.push(Rule { x0, y0, x1, y1 });
                }
            }
            // Curves are no part of a table, but move the pen.
            (_, [.., x, y]) => self.pen = place(*x, *y),
            _ => {}
        }
    }

    fn line_to(&mut self, to: (f64, f64)) {
        let ((x0, y0), (x1, y1)) = (self.pen, to);
        if self.lines.len() < MAX_RULES {
            self.lines.push(Rule { x0, y0, x1, y1 });
        }
        self.pen = to;
    }

    /// Ends the path; what it shows as lines is added to `rules`.
    pub(super) fn paint(&mut self, operator: &str, rules: &mut Vec<Rule>) {
        let (lines, boxes) = (std::mem::take(&mut self.lines), std::mem::take(&mut self.boxes));
        if operator == "n" || rules.len() > MAX_RULES {
            return;
        }
        let stroked = !operator.starts_with(['f', 'F']);
        let thin = |rule: &Rule| {
            (rule.x1 - rule.x0).abs() < MAX_THICKNESS || (rule.y1 - rule.y0).abs() < MAX_THICKNESS
        };
        for rule in boxes {
            let Rule { x0, y0, x1, y1 } = rule;
            if thin(&rule) {
                rules.push(rule);
            } else if stroked {
                let sides = [(x0, y0, x1, y0), (x0, y1, x1, y1), (x0, y0, x0, y1), (x1, y0, x1, y1)];
                rules.extend(sides.map(|(x0, y0, x1, y1)| Rule { x0, y0, x1, y1 }));
            }
        }
        if stroked {
            rules.extend(lines);
        } else if lines.len() <= 5 {
            // A rectangle made of lines.
            rules.extend(bounds(&lines).filter(thin));
        }
    }
}

fn bounds(lines: &[Rule]) -> Option<Rule> {
    let grow = |a: Rule, b: &Rule| Rule {
        x0: a.x0.min(b.x0).min(b.x1),
        y0: a.y0.min(b.y0).min(b.y1),
        x1: a.x1.max(b.x0).max(b.x1),
        y1: a.y1.max(b.y0).max(b.y1),
    };
    lines.first().map(|first| lines.iter().fold(Rule { x1: first.x0, y1: first.y0, ..*first }, grow))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(steps: &[(&str, &[i64])], paint: &str, expected: usize) {
        let mut path = Path::default();
        let ctm = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0];
        for (operator, numbers) in steps {
            let operands: Vec<Object> = numbers.iter().map(|&number| number.into()).collect();
            path.step(operator, &operands, &ctm);
        }
        let mut rules = Vec::new();
        path.paint(paint, &mut rules);
        assert_eq!(rules.len(), expected, "{rules:?}");
        path.paint("S", &mut rules);
        assert_eq!(rules.len(), expected, "a path is painted once");
    }

    #[test]
    fn lines_boxes_and_thin_areas_are_rules() {
        check(&[("m", &[0, 0]), ("l", &[9, 0]), ("l", &[9, 9]), ("h", &[])], "S", 3);
        check(&[("re", &[0, 0, 9, 9])], "S", 4);
        check(&[("re", &[0, 0, 9, 9])], "f", 0);
        check(&[("re", &[0, 0, 90, 1])], "f", 1);
        check(&[("m", &[0, 0]), ("l", &[90, 0]), ("l", &[90, 1]), ("l", &[0, 1])], "f*", 1);
        check(&[("re", &[0, 0, 9, 9])], "n", 0);
        check(&[("m", &[0, 0]), ("c", &[1, 1, 2, 2, 3, 3]), ("l", &[9, 3])], "S", 1);
    }
}
