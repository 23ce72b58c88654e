//! The report as one HTML page that asks for nothing from elsewhere. All text of the corpus goes through `escape`, and the
//! page's policy forbids every request and every script.

use std::fmt::Write as _;

use super::{Details, LENGTH_BOUNDS};
use crate::job::Tally;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1.5rem;color-scheme:light dark}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}table{border-collapse:collapse;width:100%}\
td,th{padding:.25rem .6rem;text-align:left;border-bottom:1px solid #8884}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\
.bar{background:#3b82f6;height:.7rem;border-radius:2px;min-width:1px}.cards{display:flex;flex-wrap:wrap;gap:1rem}\
.card{border:1px solid #8884;border-radius:8px;padding:.6rem 1rem}.card b{display:block;font-size:1.3rem}\
pre{white-space:pre-wrap;border:1px solid #8884;border-radius:6px;padding:.6rem;overflow-wrap:anywhere}small{opacity:.7}";

/// Text that stays text.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Thousands apart.
fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

fn bytes(value: u64) -> String {
    match value {
        0..1_000 => format!("{value} B"),
        1_000..1_000_000 => format!("{:.1} kB", value as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", value as f64 / 1e6),
        _ => format!("{:.2} GB", value as f64 / 1e9),
    }
}

pub(super) fn html(tally: &Tally, details: &Details) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         base-uri 'none'; form-action 'none'\"><title>Corpus · hearth report</title><style>{STYLE}</style></head><body>\n\
         <h1>Corpus</h1>\n"
    );
    cards(&mut page, tally, details);
    let total = details.languages.values().map(|share| share.bytes).sum::<u64>().max(1);
    let mut languages: Vec<_> = details.languages.iter().collect();
    languages.sort_by_key(|(_, share)| std::cmp::Reverse(share.bytes));
    let rows = languages.iter().map(|(name, share)| {
        (
            name.as_str().to_owned(),
            vec![number(share.rows), bytes(share.bytes)],
            share.bytes as f64 / total as f64,
        )
    });
    table(&mut page, "Languages", &["language", "rows", "text"], rows);
    let most = details.lengths.iter().copied().max().unwrap_or(0).max(1);
    let rows = details.lengths.iter().zip(LENGTH_BOUNDS).map(|(count, bound)| {
        let label = if bound == u64::MAX { "more".to_owned() } else { format!("up to {}", number(bound)) };
        (label, vec![number(*count)], *count as f64 / most as f64)
    });
    table(&mut page, "Lengths in words (Chinese: characters)", &["length", "rows"], rows);
    removed(&mut page, tally, details);
    let most = details.pii.found.values().copied().max().unwrap_or(1);
    let rows = details
        .pii
        .found
        .iter()
        .map(|(kind, count)| (kind.clone(), vec![number(*count)], *count as f64 / most as f64));
    table(&mut page, "What names or reaches persons", &["kind", "found"], rows);
    let all = tally.rows_in.max(1);
    let rows = details
        .metadata_fields
        .iter()
        .take(60)
        .map(|(name, count)| (name.clone(), vec![number(*count)], *count as f64 / all as f64));
    table(&mut page, "Metadata", &["field", "rows"], rows);
    page.push_str("<h2>Samples</h2>\n");
    for sample in &details.samples {
        let _ = writeln!(page, "<small>{}</small><pre>{}</pre>", escape(&sample.id), escape(&sample.text));
    }
    page.push_str("</body></html>\n");
    page
}

fn cards(page: &mut String, tally: &Tally, details: &Details) {
    let mean = details.units / tally.rows_in.max(1);
    let cards = [
        ("rows", number(tally.rows_in)),
        ("text", bytes(tally.bytes_in)),
        ("characters", number(details.characters)),
        ("words", number(details.units)),
        (
            "words a row",
            format!("{} ({} to {})", number(mean), number(details.shortest), number(details.longest)),
        ),
        ("conversations", number(details.conversations)),
        ("turns", number(details.turns)),
        ("equal texts", number(details.exact_duplicates)),
        ("rows with personal data", number(details.pii.rows_with_findings)),
        ("unreadable rows", number(tally.unreadable)),
    ];
    page.push_str("<div class=\"cards\">");
    for (name, value) in cards {
        let _ = write!(page, "<div class=\"card\"><b>{value}</b>{name}</div>");
    }
    page.push_str("</div>\n");
    for (file, reason) in &tally.damaged {
        let _ = writeln!(page, "<p>{} breaks off: {}</p>", escape(file), escape(reason));
    }
}

/// A table whose last column is a bar; nothing where it has no rows.
fn table(
    page: &mut String,
    title: &str,
    names: &[&str],
    rows: impl Iterator<Item = (String, Vec<String>, f64)>,
) {
    let mut body = String::new();
    for (label, values, share) in rows {
        let _ = write!(body, "<tr><td>{}</td>", escape(&label));
        for value in values {
            let _ = write!(body, "<td class=\"n\">{value}</td>");
        }
        let _ =
            writeln!(body, "<td><div class=\"bar\" style=\"width:{:.1}%\"></div></td></tr>", share * 100.0);
    }
    if body.is_empty() {
        return;
    }
    let _ = write!(page, "<h2>{title}</h2>\n<table><tr>");
    for (at, name) in names.iter().enumerate() {
        let _ = write!(page, "<th{}>{name}</th>", if at == 0 { "" } else { " class=\"n\"" });
    }
    let _ = write!(page, "<th style=\"width:40%\"></th></tr>\n{body}</table>\n");
}

/// What the stages that wrote this corpus removed.
fn removed(page: &mut String, _tally: &Tally, details: &Details) {
    for stage in &details.stages {
        let verb = stage["verb"].as_str().unwrap_or("stage");
        let rows_in = stage["rows_in"].as_u64().unwrap_or(0);
        let rows_out = stage["rows_out"].as_u64().unwrap_or(0);
        let _ = writeln!(
            page,
            "<h2>Stage `{}`</h2><p>{} rows in, {} out, {} unreadable</p>",
            escape(verb),
            number(rows_in),
            number(rows_out),
            number(stage["unreadable"].as_u64().unwrap_or(0))
        );
        let Some(reasons) = stage["removed"].as_object().filter(|reasons| !reasons.is_empty()) else {
            continue;
        };
        let rows = reasons.iter().map(|(reason, entry)| {
            let count = entry["rows"].as_u64().unwrap_or(0);
            (reason.clone(), vec![number(count)], count as f64 / rows_in.max(1) as f64)
        });
        table(page, "Removed", &["reason", "rows"], rows);
        for (reason, entry) in reasons {
            let sample = entry["samples"][0]["text"].as_str().unwrap_or_default();
            let _ = writeln!(page, "<small>{}</small><pre>{}</pre>", escape(reason), escape(sample));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Sample;

    #[test]
    fn hostile_text_stays_text_and_the_page_asks_for_nothing() {
        let sample =
            Sample { id: "<b>".into(), text: "</pre><script>alert(1)</script><img src=http://x/>".into() };
        let details = Details { samples: vec![sample], ..Details::default() };
        let page = html(&Tally::default(), &details);
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("<b>&lt;"), "{page}");
        assert!(page.contains("default-src 'none'") && page.contains("&lt;script&gt;"));
        assert_eq!(number(1_234_567), "1\u{202f}234\u{202f}567");
    }
}
