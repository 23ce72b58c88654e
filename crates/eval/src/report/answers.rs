//! The answers themselves: the worst failures side by side, then every generation.

use std::fmt::Write as _;

use super::escape::escape;
use crate::compare::{CitationRecord, Comparison, ScoredRecord};
use crate::metrics;
use crate::question::Question;

/// As many failures as a reader looks through; the list of all answers follows below.
const MAX_FAILURES: usize = 10;

/// The questions that teach most: first those where another way beat the best one, then those where
/// the best way failed with all others, then those where the ways disagree.
pub(super) fn failures(comparison: &Comparison) -> String {
    let mut ranked: Vec<(u8, f64, usize)> = comparison
        .asked
        .iter()
        .enumerate()
        .filter_map(|(index, question)| {
            let rank = failure_rank(comparison, question)?;
            Some((rank.0, rank.1, index))
        })
        .collect();
    ranked.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
    let shown = ranked.len().min(MAX_FAILURES);
    let mut html = format!(
        "<section>\n<h2>Worst failures</h2>\n<p class=\"hint\">{shown} of {} questions where the best way failed or \
         the ways disagree, the most telling first.</p>\n",
        ranked.len()
    );
    for (_, _, index) in ranked.iter().take(MAX_FAILURES) {
        let question = &comparison.asked[*index];
        let _ = writeln!(
            html,
            "<article class=\"failure\">\n<h3>{}</h3>\n{}{}</article>",
            escape(&question.question),
            expected(question),
            side_by_side(comparison, question)
        );
    }
    html.push_str("</section>\n");
    html
}

/// Every question with every answer, closed until clicked, with a filter above.
pub(super) fn all(comparison: &Comparison) -> String {
    let mut html = format!(
        "<section id=\"generations\">\n<h2>All answers</h2>\n<div class=\"filter\" role=\"search\">\n\
         <input id=\"filter-text\" type=\"search\" placeholder=\"Filter by words\" aria-label=\"Filter by words\">\n\
         <select id=\"filter-kind\" aria-label=\"Which questions\">\n<option value=\"\">all questions</option>\n\
         <option value=\"failed\">best way failed</option>\n<option value=\"disagree\">ways disagree</option>\n\
         <option value=\"right\">best way right</option>\n</select>\n\
         <span id=\"filter-count\" aria-live=\"polite\">{} questions</span>\n</div>\n",
        comparison.questions
    );
    for question in &comparison.asked {
        let best_right = is_best_right(comparison, question);
        let mut kinds = vec![if best_right { "right" } else { "failed" }];
        if disagree(comparison, question) {
            kinds.push("disagree");
        }
        let _ = writeln!(
            html,
            "<details class=\"question\" data-kind=\"{}\">\n<summary><span class=\"marks\">{}</span>{}</summary>\n{}{}</details>",
            kinds.join(" "),
            marks(comparison, question),
            escape(&question.question),
            expected(question),
            side_by_side(comparison, question)
        );
    }
    html.push_str("</section>\n");
    html
}

/// Class of failure (lower is more telling) and the best way's F1; `None` when nothing went wrong.
fn failure_rank(comparison: &Comparison, question: &Question) -> Option<(u8, f64)> {
    let best = comparison.answers_to(&question.id).find(|scored| scored.record.way == comparison.best)?;
    let others_right = comparison
        .answers_to(&question.id)
        .any(|scored| is_right(scored) && scored.record.way != comparison.best);
    match (is_right(best), others_right) {
        (false, true) => Some((0, best.scores.f1)),
        (false, false) => Some((1, best.scores.f1)),
        (true, _) if disagree(comparison, question) => Some((2, best.scores.f1)),
        (true, _) => None,
    }
}

fn is_right(scored: &ScoredRecord) -> bool {
    scored.scores.contains > 0.0
}

fn is_best_right(comparison: &Comparison, question: &Question) -> bool {
    comparison.answers_to(&question.id).any(|scored| scored.record.way == comparison.best && is_right(scored))
}

fn disagree(comparison: &Comparison, question: &Question) -> bool {
    let right = comparison.answers_to(&question.id).filter(|s| is_right(s)).count();
    right > 0 && right < comparison.ways.len()
}

/// A row of small squares, one a way in order, so that a closed question tells its result.
fn marks(comparison: &Comparison, question: &Question) -> String {
    let mut html = String::new();
    for scored in comparison.answers_to(&question.id) {
        let (class, word) = verdict(scored);
        let _ =
            write!(html, "<i class=\"mark {class}\" title=\"{}: {word}\"></i>", scored.record.way.title());
    }
    html
}

fn verdict(scored: &ScoredRecord) -> (&'static str, &'static str) {
    if scored.record.error.is_some() {
        ("error", "failed")
    } else if is_right(scored) {
        ("right", "contains the answer")
    } else {
        ("wrong", "does not contain the answer")
    }
}

fn expected(question: &Question) -> String {
    let accepted: Vec<String> =
        question.answers.iter().map(|answer| format!("<b>{}</b>", escape(answer))).collect();
    let source = question
        .source
        .as_ref()
        .map_or_else(String::new, |source| format!(" · in <code>{}</code>", escape(source)));
    format!("<p class=\"expected\">Accepted: {}{source}</p>\n", accepted.join(" or "))
}

fn side_by_side(comparison: &Comparison, question: &Question) -> String {
    let mut html = String::from("<div class=\"answers\">\n");
    for scored in comparison.answers_to(&question.id) {
        html.push_str(&answer(scored, question, scored.record.way == comparison.best));
    }
    html.push_str("</div>\n");
    html
}

fn answer(scored: &ScoredRecord, question: &Question, is_best: bool) -> String {
    let record = &scored.record;
    let (class, word) = verdict(scored);
    let best = if is_best { " <em>best</em>" } else { "" };
    let mut html = format!(
        "<div class=\"answer {class}\">\n<h4><i class=\"mark {class}\" title=\"{word}\"></i>{}{best}</h4>\n",
        record.way.title()
    );
    match &record.error {
        Some(error) => {
            let _ = writeln!(html, "<p class=\"said\">Failed: {}</p>", escape(error));
        }
        None if record.answer.trim().is_empty() => {
            html.push_str("<p class=\"said none\">said nothing</p>\n");
        }
        None => {
            let _ = writeln!(html, "<p class=\"said\">{}</p>", escape(record.answer.trim()));
        }
    }
    for citation in &record.citations {
        html.push_str(&cited(citation, question));
    }
    if let Some(cut) = &record.cut {
        let _ = writeln!(html, "<p class=\"cut\">Left out: {}</p>", escape(cut));
    }
    let _ = writeln!(
        html,
        "<p class=\"meter\">F1 {:.0} % · {:.1} s · {} → {} tokens</p>\n</div>",
        scored.scores.f1 * 100.0,
        record.seconds,
        record.prompt_tokens,
        record.completion_tokens
    );
    html
}

fn cited(citation: &CitationRecord, question: &Question) -> String {
    let place = match (citation.page, &citation.heading) {
        (Some(page), Some(heading)) => format!(", page {page}, {}", escape(heading)),
        (Some(page), None) => format!(", page {page}"),
        (None, Some(heading)) => format!(", {}", escape(heading)),
        (None, None) => String::new(),
    };
    let hit = question
        .source
        .as_ref()
        .map(|source| metrics::citation_hit([citation.document.as_str()], source) > 0.0);
    let class = match hit {
        Some(true) => " hit",
        Some(false) => " miss",
        None => "",
    };
    format!(
        "<blockquote class=\"cited{class}\">{}<cite><code>{}</code>{place}</cite></blockquote>\n",
        escape(citation.quote.trim()),
        escape(&citation.document)
    )
}
