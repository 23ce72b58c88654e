//! The comparison as one HTML page that is read without a network: styles, script and charts inline.
//!
//! Everything that came from outside (documents, questions, answers, file names) goes through
//! `escape`; the page loads nothing and its policy forbids it to. The charts are SVG drawn by
//! `chart`; the parts of the page are in `sections` and `answers`.

mod answers;

mod chart;

mod escape;

mod sections;

use std::fmt::Write as _;
use std::path::Path;

use crate::Result;
use crate::compare::{Comparison, TrainingCurve};
use escape::escape;

const STYLE: &str = include_str!("report/style.css");
const FILTER: &str = include_str!("report/filter.js");

/// Writes the page to `path`, whole or not at all.
pub fn write(path: &Path, comparison: &Comparison) -> Result<()> {
    Ok(hearth_artifacts::atomic::write(path, html(comparison).as_bytes())?)
}

/// Writes a page about one training run: what came of it, its facts, its curves.
pub fn write_training(path: &Path, name: &str, verdict: &str, curve: &TrainingCurve) -> Result<()> {
    let mut page = begin(name);
    let _ = write!(
        page,
        "<header>\n<p class=\"eyebrow\">hearth training report</p>\n<h1>{}</h1>\n<p class=\"verdict\">{}</p>\n</header>\n{}",
        escape(name),
        escape(verdict),
        sections::curve(curve)
    );
    page.push_str("</main>\n</body>\n</html>\n");
    Ok(hearth_artifacts::atomic::write(path, page.as_bytes())?)
}

/// Everything before the content.
fn begin(name: &str) -> String {
    let mut page = String::new();
    let title = escape(name);
    // The policy is the second lock behind `escape`: no request leaves the page, whatever it holds.
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title} · hearth report</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
    );
    page
}

/// The page as text.
pub fn html(comparison: &Comparison) -> String {
    let mut page = begin(&comparison.setup.name);
    page.push_str(&sections::head(comparison));
    page.push_str(&sections::ways(comparison));
    page.push_str(&sections::charts(comparison));
    page.push_str(&sections::retrieval(comparison));
    page.push_str(&sections::training(comparison));
    page.push_str(&sections::preparation(comparison));
    page.push_str(&sections::notes(comparison));
    page.push_str(&answers::failures(comparison));
    page.push_str(&answers::all(comparison));
    page.push_str(&sections::details(comparison));
    let _ = write!(page, "</main>\n<script>\n{FILTER}</script>\n</body>\n</html>\n");
    page
}
