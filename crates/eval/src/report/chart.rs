//! Charts as inline SVG: bars with error bars, cost against quality, loss by step.
//!
//! Numbers in, markup out. Colours come from the page's style sheet by class, so one drawing serves
//! the light and the dark page. Lengths are in SVG units of the `viewBox`.

use std::fmt::Write as _;

use super::escape::escape;
use crate::compare::LossPoint;

/// A bar from 0 to 1 with its interval; `None` where there is nothing to measure.
pub(super) struct Bar<'a> {
    pub label: &'a str,
    pub value: Option<f64>,
    pub ends: Option<[f64; 2]>,
    pub is_best: bool,
}

/// A way in the chart of cost against quality.
pub(super) struct Point<'a> {
    pub label: &'a str,
    pub x: f64,
    pub y: f64,
    pub ends: [f64; 2],
    pub is_best: bool,
}

/// Horizontal bars from 0 to 100 %, each with its 95 % interval.
pub(super) fn bars(title: &str, bars: &[Bar<'_>]) -> String {
    let (left, width, row) = (118.0, 200.0, 27.0);
    let bottom = 8.0 + row * bars.len() as f64;
    let mut svg = open(374.0, bottom + 22.0, title);
    for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let x = left + width * tick;
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" y1=\"4\" x2=\"{x:.1}\" y2=\"{bottom:.1}\"/>\
             <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.0}</text>",
            bottom + 15.0,
            tick * 100.0
        );
    }
    for (index, bar) in bars.iter().enumerate() {
        let middle = 8.0 + row * (index as f64 + 0.5);
        let class = if bar.is_best { "bar best" } else { "bar" };
        let _ = write!(
            svg,
            "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 8.0,
            middle + 4.0,
            escape(bar.label)
        );
        let Some(value) = bar.value else {
            let _ = write!(
                svg,
                "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">cites nothing</text>",
                left + 6.0,
                middle + 4.0
            );
            continue;
        };
        let _ = write!(
            svg,
            "<rect class=\"{class}\" x=\"{left}\" y=\"{:.1}\" width=\"{:.1}\" height=\"14\" rx=\"2\"/>",
            middle - 7.0,
            (width * value).max(1.0)
        );
        if let Some([low, high]) = bar.ends {
            let (from, to) = (left + width * low, left + width * high);
            svg.push_str(&whisker([from, middle], [to, middle]));
        }
        let _ = write!(
            svg,
            "<text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{:.0} %</text>",
            left + width + 8.0,
            middle + 4.0,
            value * 100.0
        );
    }
    svg.push_str("</svg>");
    svg
}

/// Seconds per answer to the right, share of questions answered upwards.
pub(super) fn cost(title: &str, points: &[Point<'_>]) -> String {
    let (left, top, width, height) = (46.0, 12.0, 570.0, 236.0);
    let longest = points.iter().map(|point| point.x).fold(0.0, f64::max);
    let (step, end) = nice_axis(longest * 1.12);
    let x_of = |x: f64| left + width * x / end;
    let y_of = |y: f64| top + height * (1.0 - y);
    let mut svg = open(640.0, 296.0, title);
    for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
        horizontal(&mut svg, y_of(tick), left, width, &format!("{:.0} %", tick * 100.0));
    }
    let ticks = (end / step).round() as usize;
    for tick in 0..=ticks {
        let x = step * tick as f64;
        vertical_tick(&mut svg, x_of(x), top + height, &short(x, step));
    }
    axis_name(&mut svg, left + width, top + height + 34.0, "seconds per answer →");
    let wanted: Vec<f64> = points.iter().map(|point| y_of(point.y)).collect();
    let label_ys = spread(&wanted, 15.0, top + 6.0, top + height - 4.0);
    for point in points {
        let x = x_of(point.x);
        svg.push_str(&whisker([x, y_of(point.ends[0])], [x, y_of(point.ends[1])]));
    }
    // Names come last so that no whisker crosses them.
    for (point, label_y) in points.iter().zip(label_ys) {
        let (x, y) = (x_of(point.x), y_of(point.y));
        let room = label_room(point.label);
        let is_crowded = points.iter().any(|other| {
            (1.0..room).contains(&(x_of(other.x) - x)) && (y_of(other.y) - y).abs() < height / 3.0
        });
        let lacks_room = x + room > left + width;
        let is_left = lacks_room || (is_crowded && x - room > left);
        let (label_x, anchor) = if is_left { (x - 16.0, "end") } else { (x + 16.0, "start") };
        let leader = if is_left { label_x + 3.0 } else { label_x - 3.0 };
        let class = if point.is_best { "dot best" } else { "dot" };
        let _ = write!(
            svg,
            "<line class=\"leader\" x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{leader:.1}\" y2=\"{label_y:.1}\"/>\
             <circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5.5\"/>\
             <text class=\"name halo\" x=\"{label_x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            label_y + 4.0,
            escape(point.label)
        );
    }
    svg.push_str("</svg>");
    svg
}

/// Training loss as a thin line, validation loss as a strong one with a dot at each measurement.
pub(super) fn loss(title: &str, train: &[LossPoint], validation: &[LossPoint]) -> String {
    let (left, top, width, height) = (46.0, 12.0, 570.0, 216.0);
    let finite = |points: &[LossPoint]| -> Vec<LossPoint> {
        points.iter().filter(|p| p.loss.is_finite()).copied().collect()
    };
    let (train, validation) = (finite(train), finite(validation));
    let all = || train.iter().chain(&validation);
    let (y_step, y_end) = nice_axis(all().map(|p| p.loss).fold(0.0, f64::max) * 1.02);
    let (x_step, x_end) = nice_axis(all().map(|p| p.step as f64).fold(1.0, f64::max));
    let place = |p: &LossPoint| {
        let x = left + width * p.step as f64 / x_end;
        let y = top + height * (1.0 - p.loss.max(0.0) / y_end);
        (x, y)
    };
    let mut svg = open(640.0, 276.0, title);
    for tick in 0..=(y_end / y_step).round() as usize {
        let value = y_step * tick as f64;
        let y = top + height * (1.0 - value / y_end);
        horizontal(&mut svg, y, left, width, &short(value, y_step));
    }
    for tick in 0..=(x_end / x_step).round() as usize {
        let value = x_step * tick as f64;
        vertical_tick(&mut svg, left + width * value / x_end, top + height, &short(value, x_step));
    }
    axis_name(&mut svg, left + width, top + height + 34.0, "step →");
    for (points, class) in [(&train, "line train"), (&validation, "line validation")] {
        let path: Vec<String> = points
            .iter()
            .map(|point| {
                let (x, y) = place(point);
                format!("{x:.1},{y:.1}")
            })
            .collect();
        let _ = write!(svg, "<polyline class=\"{class}\" points=\"{}\"/>", path.join(" "));
    }
    for point in &validation {
        let (x, y) = place(point);
        let _ = write!(svg, "<circle class=\"dot best\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>");
    }
    svg.push_str("</svg>");
    svg
}

/// Units a name takes beside its dot: about 7 a letter at 12 units, and the gap.
fn label_room(label: &str) -> f64 {
    20.0 + 7.0 * label.chars().count() as f64
}

fn open(width: f64, height: f64, title: &str) -> String {
    let title = escape(title);
    format!(
        "<svg viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{title}\"><title>{title}</title>"
    )
}

/// An interval as a line with a short stroke across each end.
fn whisker(from: [f64; 2], to: [f64; 2]) -> String {
    let [x1, y1] = from;
    let [x2, y2] = to;
    let (dx, dy) = if (y1 - y2).abs() < f64::EPSILON { (0.0, 4.0) } else { (4.0, 0.0) };
    let mut path = format!("M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}");
    for (x, y) in [(x1, y1), (x2, y2)] {
        let _ = write!(path, "M{:.1} {:.1}L{:.1} {:.1}", x - dx, y - dy, x + dx, y + dy);
    }
    format!("<path class=\"whisker\" d=\"{path}\"/>")
}

fn horizontal(svg: &mut String, y: f64, left: f64, width: f64, label: &str) {
    let _ = write!(
        svg,
        "<line class=\"grid\" x1=\"{left:.1}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\"/>\
         <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
        left + width,
        left - 6.0,
        y + 4.0
    );
}

fn vertical_tick(svg: &mut String, x: f64, y: f64, label: &str) {
    let _ = write!(
        svg,
        "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{x:.1}\" y2=\"{:.1}\"/>\
         <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
        y + 4.0,
        y + 17.0
    );
}

fn axis_name(svg: &mut String, x: f64, y: f64, name: &str) {
    let _ = write!(svg, "<text class=\"tick\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"end\">{name}</text>");
}

/// A step of 1, 2 or 5 times a power of ten that gives four to eight ticks, and the axis' end.
fn nice_axis(largest: f64) -> (f64, f64) {
    let largest = if largest.is_finite() && largest > 0.0 { largest } else { 1.0 };
    let rough = largest / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough * 0.999)
        .unwrap_or(power * 10.0);
    // The tolerance keeps a largest value that is a tick itself from adding an empty step.
    (step, step * (largest / step - 1e-9).ceil())
}

/// A tick's number with as many digits as its step needs.
fn short(value: f64, step: f64) -> String {
    let digits = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.digits$}")
}

/// Moves label positions apart to at least `gap`, inside `low..high`, keeping their order.
fn spread(wanted: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|a, b| wanted[*a].total_cmp(&wanted[*b]));
    let mut placed = wanted.to_vec();
    let mut floor = low;
    for index in &order {
        placed[*index] = placed[*index].max(floor);
        floor = placed[*index] + gap;
    }
    let mut ceiling = high;
    for index in order.iter().rev() {
        placed[*index] = placed[*index].min(ceiling);
        ceiling = placed[*index] - gap;
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_a_round_number_above_the_data() {
        for (largest, step, end) in [
            (0.0, 0.2, 1.0),
            (f64::NAN, 0.2, 1.0),
            (1.0, 0.2, 1.0),
            (4.2, 1.0, 5.0),
            (60.0, 20.0, 60.0),
            (0.03, 0.01, 0.03),
            (1234.0, 500.0, 1500.0),
        ] {
            let (found_step, found_end) = nice_axis(largest);
            assert!((found_step - step).abs() < 1e-9, "{largest}: step {found_step}");
            assert!((found_end - end).abs() < 1e-9, "{largest}: end {found_end}");
        }
    }

    #[test]
    fn labels_keep_their_distance_and_order() {
        let placed = spread(&[50.0, 52.0, 51.0, 200.0], 15.0, 0.0, 210.0);
        let mut sorted = placed.clone();
        sorted.sort_by(f64::total_cmp);
        assert!(sorted.windows(2).all(|pair| pair[1] - pair[0] >= 15.0 - 1e-9), "{placed:?}");
        assert!(placed[0] < placed[2] && placed[2] < placed[1]);
        assert!(spread(&[], 15.0, 0.0, 10.0).is_empty());
    }

    #[test]
    fn a_loss_that_is_no_number_is_not_drawn() {
        let point = |step: u64, loss: f64| LossPoint { step, loss };
        let svg = loss("loss", &[point(1, f64::NAN), point(2, 1.0)], &[point(1, f64::INFINITY)]);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
