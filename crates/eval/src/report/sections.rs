//! The parts of the report above the answers: verdict, table, charts, costs, notes.

use std::fmt::Write as _;

use super::chart::{self, Bar, Point};
use super::escape::escape;
use crate::compare::{Comparison, Fact, TrainingCurve, WaySummary};
use crate::table::{duration, percent};
use crate::verdict::{self, signed};

/// Below this many questions an interval says little: at 30 a share of one half is known to ±18
/// points (1.96 · √(0.25 / 30)).
const FEW_QUESTIONS: usize = 30;

/// Title, verdict and the facts of the run.
pub(super) fn head(comparison: &Comparison) -> String {
    let setup = &comparison.setup;
    let mut html = format!(
        "<header>\n<p class=\"eyebrow\">hearth comparison report</p>\n<h1>{}</h1>\n<p class=\"verdict\">{}</p>\n",
        escape(&setup.name),
        verdict(comparison)
    );
    for caution in cautions(comparison) {
        let _ = writeln!(html, "<p class=\"caution\">{caution}</p>");
    }
    let facts = [
        ("Questions", comparison.questions.to_string()),
        ("Documents", setup.documents.to_string()),
        ("Model", setup.model.clone()),
        ("Embedder", setup.embedder.clone()),
        ("Machine", setup.machine.clone()),
        ("Started", setup.started.clone()),
        ("Took", duration(setup.seconds)),
        ("Seed", setup.seed.to_string()),
    ];
    let facts: Vec<Fact> = facts
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| Fact::new(name, value))
        .collect();
    html.push_str(&fact_list(&facts));
    html.push_str("</header>\n");
    html
}

/// The verdict with the best way's title set off.
fn verdict(comparison: &Comparison) -> String {
    let text = verdict::sentences(comparison);
    let title = comparison.best.title();
    match text.strip_prefix(title) {
        Some(rest) => format!("<strong>{}</strong>{}", escape(title), escape(rest)),
        None => escape(&text),
    }
}

fn cautions(comparison: &Comparison) -> Vec<String> {
    let mut cautions = Vec::new();
    if comparison.setup.generated {
        cautions.push(
            "The questions were generated from the documents by a model. They say how the ways \
             compare; they are no substitute for the questions that people will ask."
                .to_owned(),
        );
    }
    if comparison.questions < FEW_QUESTIONS {
        cautions.push(format!(
            "{} questions are few: expect other questions to move these figures a lot.",
            comparison.questions
        ));
    }
    let failed: usize = comparison.ways.iter().map(|way| way.errors).sum();
    if failed > 0 {
        let answers = if failed == 1 { "answer" } else { "answers" };
        cautions.push(format!("{failed} {answers} failed with an error: counted as wrong and marked below."));
    }
    cautions
}

/// The table: a row a way.
pub(super) fn ways(comparison: &Comparison) -> String {
    let mut html = String::from(
        "<section>\n<h2>The ways side by side</h2>\n<div class=\"scroll\"><table class=\"ways\">\n<thead><tr>\
         <th>Way</th><th>Contained</th><th>F1</th><th>Exact</th><th>Cited</th><th>Behind the best</th>\
         <th>Seconds</th><th>Tokens out</th><th>Tokens in</th></tr></thead>\n<tbody>\n",
    );
    for way in &comparison.ways {
        let class = if way.way == comparison.best { " class=\"best\"" } else { "" };
        let cell = |value: Option<f64>, ends: Option<[f64; 2]>| match (value, ends) {
            (Some(value), Some([low, high])) => {
                format!("<td>{}<small>{:.0}–{:.0}</small></td>", percent(value), low * 100.0, high * 100.0)
            }
            _ => "<td class=\"none\">–</td>".to_owned(),
        };
        let behind = way.behind_best.map_or_else(
            || "<td class=\"none\">–</td>".to_owned(),
            |behind| {
                format!(
                    "<td>{:.0} pts<small>{} to {}</small></td>",
                    behind.mean * 100.0,
                    signed(behind.low),
                    signed(behind.high)
                )
            },
        );
        let _ = writeln!(
            html,
            "<tr{class}><th>{}</th>{}{}{}{}{behind}<td>{:.1}</td><td>{:.0}</td>\
             <td>{:.0}<small>{:.0} reused</small></td></tr>",
            way.way.title(),
            cell(Some(way.contains), Some(way.ci95.contains)),
            cell(Some(way.f1), Some(way.ci95.f1)),
            cell(Some(way.exact), Some(way.ci95.exact)),
            cell(way.citation_hit, way.ci95.citation_hit),
            way.seconds,
            way.tokens,
            way.prompt_tokens,
            way.cached_tokens,
        );
    }
    html.push_str(
        "</tbody></table></div>\n<p class=\"hint\">Contained: an accepted answer occurs in what the way said. \
         F1 and exact compare word by word (Chinese: character by character). Cited: a citation names \
         the document that holds the answer. Seconds and tokens are means per answer. Small figures \
         are 95 % bootstrap intervals over the questions. The best way has the highest “contained”, \
         then F1, then citations, then speed.</p>\n</section>\n",
    );
    html
}

/// Quality with error bars, and quality against cost.
pub(super) fn charts(comparison: &Comparison) -> String {
    type Measure = fn(&WaySummary) -> (Option<f64>, Option<[f64; 2]>);
    let measures: [(&str, Measure); 3] = [
        ("Answer contained, %", |way| (Some(way.contains), Some(way.ci95.contains))),
        ("Token F1, %", |way| (Some(way.f1), Some(way.ci95.f1))),
        ("Source cited, %", |way| (way.citation_hit, way.ci95.citation_hit)),
    ];
    let mut html = String::from("<section>\n<h2>Quality</h2>\n<div class=\"charts\">\n");
    for (title, measure) in measures {
        let bars: Vec<Bar<'_>> = comparison
            .ways
            .iter()
            .map(|way| {
                let (value, ends) = measure(way);
                let is_best = way.way == comparison.best;
                Bar { label: way.way.title(), value, ends, is_best }
            })
            .collect();
        let svg = chart::bars(title, &bars);
        let _ = writeln!(html, "<figure><figcaption>{title}</figcaption>{svg}</figure>");
    }
    let points: Vec<Point<'_>> = comparison
        .ways
        .iter()
        .map(|way| Point {
            label: way.way.title(),
            x: way.seconds,
            y: way.contains,
            ends: way.ci95.contains,
            is_best: way.way == comparison.best,
        })
        .collect();
    let _ = write!(
        html,
        "</div>\n<h2>Quality against cost</h2>\n<figure class=\"wide\"><figcaption>Share of questions answered, \
         by seconds per answer</figcaption>{}</figure>\n</section>\n",
        chart::cost("Share of questions answered by seconds per answer", &points)
    );
    html
}

/// What retrieval found, as the caller measured it.
pub(super) fn retrieval(comparison: &Comparison) -> String {
    if comparison.setup.retrieval.is_empty() {
        return String::new();
    }
    format!("<section>\n<h2>Retrieval</h2>\n{}</section>\n", fact_list(&comparison.setup.retrieval))
}

/// The loss curve of fine-tuning.
pub(super) fn training(comparison: &Comparison) -> String {
    comparison.setup.training.as_ref().map_or_else(String::new, curve)
}

/// The curves of a training run with its facts.
pub(super) fn curve(training: &TrainingCurve) -> String {
    let ends = training.validation_loss.first().zip(training.validation_loss.last());
    let change = ends.map_or_else(String::new, |(first, last)| {
        let verb = if last.loss < first.loss { "fell" } else { "did not fall" };
        format!(
            "<p>The loss on examples held back from training {verb}: {:.3} at step {}, {:.3} at step {}.</p>\n",
            first.loss, first.step, last.loss, last.step
        )
    });
    format!(
        "<section>\n<h2>Fine-tuning</h2>\n{change}{}<figure class=\"wide\"><figcaption>Loss by step: \
         <span class=\"key train\">training</span> <span class=\"key validation\">validation</span></figcaption>\
         {}</figure>\n</section>\n",
        fact_list(&training.facts),
        chart::loss("Training and validation loss by step", &training.train_loss, &training.validation_loss)
    )
}

/// What each way cost before its first answer.
pub(super) fn preparation(comparison: &Comparison) -> String {
    let mut html = String::from(
        "<section>\n<h2>Preparation</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th>Way</th>\
         <th>Once, before the first answer</th><th class=\"text\">What was done</th></tr></thead>\n<tbody>\n",
    );
    for way in &comparison.ways {
        let note = if way.preparation.is_empty() { "nothing" } else { &way.preparation };
        let _ = writeln!(
            html,
            "<tr><th>{}</th><td>{}</td><td class=\"text\">{}</td></tr>",
            way.way.title(),
            duration(way.preparation_seconds),
            escape(note)
        );
    }
    html.push_str("</tbody></table></div>\n</section>\n");
    html
}

/// Everything that was trimmed, cut or skipped.
pub(super) fn notes(comparison: &Comparison) -> String {
    let mut notes: Vec<String> = comparison.setup.notes.iter().map(|note| escape(note)).collect();
    for way in comparison.ways.iter().filter(|way| way.cuts > 0) {
        notes.push(format!(
            "{}: {} of {} prompts were cut to fit; each answer below says by what",
            way.way.title(),
            way.cuts,
            comparison.questions
        ));
    }
    if notes.is_empty() {
        notes.push("Nothing was trimmed, cut or skipped.".to_owned());
    }
    let mut html = String::from("<section>\n<h2>What was left out</h2>\n<ul class=\"notes\">\n");
    for note in notes {
        let _ = writeln!(html, "<li>{note}</li>");
    }
    html.push_str("</ul>\n</section>\n");
    html
}

/// Hashes, settings and prompts: what a repeat needs.
pub(super) fn details(comparison: &Comparison) -> String {
    if comparison.setup.details.is_empty() {
        return String::new();
    }
    format!("<section>\n<h2>To repeat this run</h2>\n{}</section>\n", fact_list(&comparison.setup.details))
}

fn fact_list(facts: &[Fact]) -> String {
    if facts.is_empty() {
        return String::new();
    }
    let mut html = String::from("<dl class=\"facts\">\n");
    for fact in facts {
        let _ = writeln!(html, "<div><dt>{}</dt><dd>{}</dd></div>", escape(&fact.name), escape(&fact.value));
    }
    html.push_str("</dl>\n");
    html
}
