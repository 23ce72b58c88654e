//! The comparison in a few sentences: which way is best, by how much, and whether that may be chance.
//!
//! Plain text for the terminal and the head of the report. Two ways are set against each other
//! question by question: a lead whose interval holds zero is called what it may be.

use std::fmt::Write as _;

use crate::bootstrap::Interval;
use crate::compare::{Comparison, WaySummary};
use crate::table::percent;

/// Begins with the title of the best way when there is one.
pub fn sentences(comparison: &Comparison) -> String {
    let Some(best) = comparison.way(comparison.best) else {
        return String::new();
    };
    if best.contains <= 0.0 {
        return "No way answered a single question. Read the answers below before choosing one.".to_owned();
    }
    let [low, high] = best.ci95.contains;
    let mut text = format!(
        "{} answers the most: {} of the questions (95 % interval {:.0}–{:.0} %).",
        best.way.title(),
        percent(best.contains),
        low * 100.0,
        high * 100.0
    );
    let others = comparison.ways.iter().filter(|way| way.way != best.way);
    let runner_up = others.max_by(|a, b| a.contains.total_cmp(&b.contains).then(b.way.cmp(&a.way)));
    if let Some((way, behind)) = runner_up.and_then(|way| Some((way, way.behind_best?))) {
        let _ = write!(text, " {}", lead(way, behind));
    }
    if let Some(rate) = best.citation_hit {
        let _ = write!(text, " {} of its answers cite the document that holds the answer.", percent(rate));
    }
    text
}

fn lead(runner_up: &WaySummary, behind: Interval) -> String {
    let title = runner_up.way.title();
    let points = behind.mean * 100.0;
    let (low, high) = (signed(behind.low), signed(behind.high));
    if points < 0.05 {
        return format!(
            "{title} answers just as many; the tie is broken by F1, then citations, then cost \
             (interval of the difference: {low} to {high} points)."
        );
    }
    if behind.holds_zero() {
        format!(
            "Its lead of {points:.0} points over the next, {title}, may be chance: question by \
             question, the difference lies between {low} and {high} points."
        )
    } else {
        format!(
            "That is {points:.0} points more than the next, {title}; question by question, the \
             difference lies between {low} and {high} points."
        )
    }
}

/// A share in points with its sign: `+8`, `−17`, `0`.
pub(crate) fn signed(share: f64) -> String {
    let points = (share * 100.0).round();
    if points < 0.0 {
        format!("−{:.0}", -points)
    } else if points > 0.0 {
        format!("+{points:.0}")
    } else {
        "0".to_owned()
    }
}
