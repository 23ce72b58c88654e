//! What came of a job, for people.

use std::fmt::Write as _;

use hearth_data::pii::evaluate::Evaluation;
use serde_json::{Value, json};

/// A summary as lines: rows in and out, why rows went, and the verb's own counts.
pub(super) fn text(summary: &Value) -> String {
    let number = |name: &str| summary[name].as_u64().unwrap_or(0);
    let mut out = format!(
        "{} rows in, {} out; {:.1} MB of text in, {:.1} MB out ({:.0} MB/s)\n",
        number("rows_in"),
        number("rows_out"),
        number("bytes_in") as f64 / 1e6,
        number("bytes_out") as f64 / 1e6,
        summary["mb_per_s"].as_f64().unwrap_or(0.0)
    );
    for (name, what) in [("unreadable", "rows couldn't be read"), ("recoded", "rows weren't UTF-8")] {
        if number(name) > 0 {
            let _ = writeln!(out, "{:>10} {what}", number(name));
        }
    }
    let none = serde_json::Map::new();
    for (reason, entry) in summary["removed"].as_object().unwrap_or(&none) {
        let _ = writeln!(out, "{:>10} removed: {reason}", entry["rows"]);
    }
    for (name, value) in summary["details"].as_object().unwrap_or(&none) {
        let _ = match value {
            Value::Number(count) => writeln!(out, "{count:>10} {}", name.replace('_', " ")),
            Value::Object(counts) if counts.values().all(Value::is_u64) => {
                let counts: Vec<String> =
                    counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
                writeln!(out, "{}: {}", name.replace('_', " "), counts.join(", "))
            }
            _ => Ok(()),
        };
    }
    for source in summary["details"]["sources"].as_array().into_iter().flatten() {
        let _ =
            writeln!(out, "{:>10} rows of {} ({} times)", source["rows"], source["path"], source["epochs"]);
    }
    let _ = write!(out, "{} holds the result", summary["output"].as_str().unwrap_or_default());
    out
}

pub(super) fn evaluation_text(evaluation: &Evaluation) -> String {
    let mut out = format!(
        "{} rows\n{:10} {:>9} {:>7} {:>6} {:>7} {:>6}\n",
        evaluation.rows, "kind", "precision", "recall", "right", "missed", "wrong"
    );
    for (kind, counts) in &evaluation.by_kind {
        let _ = writeln!(
            out,
            "{kind:10} {:>9.3} {:>7.3} {:>6} {:>7} {:>6}",
            counts.precision(),
            counts.recall(),
            counts.right,
            counts.missed,
            counts.wrong
        );
    }
    for mistake in evaluation.mistakes.iter().take(10) {
        let what = if mistake.missed { "missed" } else { "wrong" };
        let _ = writeln!(out, "{what} {}: `{}`", mistake.kind.label(), mistake.value.replace('\n', " "));
    }
    out.trim_end().to_owned()
}

pub(super) fn evaluation_json(evaluation: &Evaluation) -> Value {
    let kinds = evaluation.by_kind.iter().map(|(kind, counts)| {
        let value = json!({
            "precision": counts.precision(), "recall": counts.recall(), "right": counts.right,
            "exact": counts.exact, "missed": counts.missed, "wrong": counts.wrong,
        });
        (kind.clone(), value)
    });
    json!({
        "rows": evaluation.rows, "kinds": kinds.collect::<serde_json::Map<_, _>>(), "mistakes": evaluation.mistakes,
    })
}
