//! Laws that hold for every verb: threads change no byte, a job that was stopped ends as one that wasn't, other settings
//! are refused, and a corpus with planted duplicates, persons and questions comes out as it should.

#![expect(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "all of this file is tests")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use hearth_artifacts::progress::{Event, Progress, Silent};
use hearth_data::read::{Item, read_all};
use hearth_data::row::Row;
use hearth_data::write::Format;
use hearth_data::{Error, Input, Output, Result, clean, decontaminate, dedup, mix, pii, stats};
use hearth_testkit::Scratch;

const SYLLABLES: [&str; 16] = [
    "ka", "ro", "mi", "tel", "sun", "bar", "lo", "ven", "dri", "pos", "gan", "hul", "wex", "fi", "jot", "nar",
];
const FUNCTION_WORDS: [&str; 8] = ["the", "of", "and", "to", "in", "that", "with", "for"];

/// A document of its own for each number, of made-up words that hardly come twice.
fn document(number: usize) -> String {
    let mut state = number as u64 * 7919 + 13;
    let mut below = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    let mut text = String::new();
    for sentence in 0..16 {
        for _ in 0..5 {
            let (function, first, second, third) = (below(8), below(16), below(16), below(16));
            let word = [SYLLABLES[first], SYLLABLES[second], SYLLABLES[third]].concat();
            let _ = write!(text, "{} {word} ", FUNCTION_WORDS[function]);
        }
        let _ =
            write!(text, "number{}.{}", number * 31 + sentence, if sentence % 4 == 3 { "\n" } else { " " });
    }
    text
}

/// A folder of several formats with 600 documents, every tenth of them twice and every fifteenth nearly twice.
fn corpus(folder: &Path) {
    let mut files: BTreeMap<&str, String> = BTreeMap::new();
    let names = ["a.jsonl", "b.jsonl", "deep/c.jsonl"];
    let mut push = |at: usize, text: &str| {
        let line = serde_json::json!({ "id": format!("doc-{at}"), "text": text, "source": at % 7 });
        let _ = writeln!(files.entry(names[at % 3]).or_default(), "{line}");
    };
    for at in 0..600 {
        let text = document(at);
        push(at, &text);
        if at % 10 == 0 {
            push(at + 1000, &text);
        }
        if at % 15 == 7 {
            push(at + 2000, &text.replacen("number", "nr", 2));
        }
        if at % 50 == 1 {
            push(at + 3000, "buy now buy now buy now buy now buy now buy now buy now buy now");
        }
        if at % 60 == 2 {
            push(
                at + 4000,
                &format!("{} Write to person{at}@example.com or call 1381234{:04}.", document(at + 5000), at),
            );
        }
    }
    files.entry("a.jsonl").or_default().push_str("{\"text\": broken\n[]\n");
    fs_err::create_dir_all(folder.join("deep")).unwrap();
    for (name, text) in files {
        fs_err::write(folder.join(name), text).unwrap();
    }
}

fn input(paths: &[&Path]) -> Input {
    let mut input = Input::new(paths.iter().copied());
    input.read.shard_bytes = 30_000;
    input
}

fn output(folder: &Path, threads: usize) -> Output {
    Output { threads, ..Output::new(folder) }
}

/// Every file of a folder but the lock.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.file_name() != ".lock");
    files
        .map(|entry| (entry.file_name().into_string().unwrap(), fs_err::read(entry.path()).unwrap()))
        .collect()
}

fn rows(folder: &Path) -> Vec<Row> {
    let mut rows = Vec::new();
    read_all(&Input::new([folder]), &mut |item| {
        if let Item::Row(row) = item {
            rows.push(*row);
        }
        Ok(())
    })
    .unwrap();
    rows
}

/// Stops a job after this many questions whether it should.
struct StopsAfter(AtomicU64);

impl Progress for StopsAfter {
    fn event(&self, _event: Event<'_>) {}

    fn cancelled(&self) -> bool {
        let left = self.0.load(Ordering::Relaxed);
        self.0.store(left.saturating_sub(1), Ordering::Relaxed);
        left == 0
    }
}

/// Runs a verb in one go on one thread, on three threads, and stopped again and again; the files are the same.
fn check(name: &str, verb: impl Fn(&Output, &dyn Progress) -> Result<()>) -> BTreeMap<String, Vec<u8>> {
    let scratch = Scratch::new(&format!("data-law-{name}")).unwrap();
    let whole = scratch.join("whole");
    verb(&output(&whole, 1), &Silent).unwrap();
    let expected = files(&whole);
    assert!(expected.contains_key("summary.json"), "{:?}", expected.keys());
    let threads = scratch.join("threads");
    verb(&output(&threads, 3), &Silent).unwrap();
    assert_eq!(files(&threads), expected, "{name} with three threads");
    let stopped = scratch.join("stopped");
    let mut stops = 0;
    loop {
        match verb(&output(&stopped, 2), &StopsAfter(AtomicU64::new(150 + stops * 150))) {
            Ok(()) => break,
            Err(Error::Cancelled { .. }) => stops += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(stops > 0, "{name} was never stopped");
    assert_eq!(files(&stopped), expected, "{name} stopped {stops} times");
    // What is done is found done.
    verb(&output(&stopped, 2), &Silent).unwrap();
    assert_eq!(files(&stopped), expected);
    expected
}

#[test]
fn threads_and_stops_change_no_byte_of_any_verb() {
    let scratch = Scratch::new("data-laws").unwrap();
    let raw = scratch.join("raw");
    corpus(&raw);
    let input = input(&[&raw]);
    let questions = scratch.join("eval.jsonl");
    fs_err::write(&questions, serde_json::json!({ "question": document(77) }).to_string()).unwrap();
    let near = dedup::Config {
        passages: dedup::Passages { enabled: true, unit: dedup::Passage::Line, min_chars: 40 },
        ..dedup::Config::default()
    };
    let against = decontaminate::Config { evaluation: vec![questions], ..decontaminate::Config::default() };
    check("clean", |output, progress| {
        clean::run(&clean::Config::default(), &input, output, progress).map(drop)
    });
    check("dedup", |output, progress| dedup::run(&near, &input, output, progress).map(drop));
    check("pii", |output, progress| pii::run(&pii::Config::default(), &input, output, progress).map(drop));
    check("decontaminate", |output, progress| {
        decontaminate::run(&against, &input, output, progress).map(drop)
    });
    check("stats", |output, progress| {
        stats::run(&stats::Config::default(), &input, output, progress).map(drop)
    });
    let parquet = |output: &Output| Output { format: Format::Parquet, ..output.clone() };
    check("parquet", |output, progress| {
        clean::run(&clean::Config::repair_only(), &input, &parquet(output), progress).map(drop)
    });
}

#[test]
fn what_was_planted_is_found_and_origins_hold_to_the_end() {
    let scratch = Scratch::new("data-chain").unwrap();
    let raw = scratch.join("raw");
    corpus(&raw);
    let (cleaned, once, masked) = (scratch.join("clean"), scratch.join("once"), scratch.join("masked"));
    let summary =
        clean::run(&clean::Config::default(), &input(&[&raw]), &output(&cleaned, 2), &Silent).unwrap();
    assert_eq!(summary.tally.unreadable, 2);
    let removed: u64 = summary.tally.removed.values().map(|reason| reason.rows).sum();
    assert_eq!((removed, summary.tally.removed["top_2_gram"].rows), (12, 12), "{:?}", summary.tally.removed);
    assert_eq!(summary.tally.rows_in, summary.tally.rows_out + removed);
    let summary =
        dedup::run(&dedup::Config::default(), &input(&[&cleaned]), &output(&once, 2), &Silent).unwrap();
    assert_eq!(summary.details.exact_duplicates, 60, "{:?}", summary.details);
    assert_eq!(summary.details.near_duplicates, 40, "{:?}", summary.details);
    let summary = pii::run(&pii::Config::default(), &input(&[&once]), &output(&masked, 2), &Silent).unwrap();
    assert_eq!((summary.details.found["EMAIL"], summary.details.found["PHONE"]), (10, 10));
    let rows = rows(&masked);
    assert_eq!(rows.len(), 610);
    for row in rows {
        let names = ["a.jsonl", "b.jsonl", "deep/c.jsonl"];
        assert!(names.contains(&row.origin.file.as_str()) && row.origin.line.is_some(), "{:?}", row.origin);
        assert!(row.metadata.raw("source").is_some() && row.id.starts_with("doc-"));
        assert!(!row.joined().contains("@example.com"));
    }
}

#[test]
fn other_settings_a_changed_input_and_a_strangers_folder_are_refused() {
    let scratch = Scratch::new("data-refused").unwrap();
    let raw = scratch.join("raw");
    corpus(&raw);
    let out = scratch.join("out");
    let stopped = clean::run(
        &clean::Config::default(),
        &input(&[&raw]),
        &output(&out, 1),
        &StopsAfter(AtomicU64::new(100)),
    );
    assert!(matches!(stopped, Err(Error::Cancelled { .. })));
    // What a process that was killed leaves behind goes when the job goes on.
    fs_err::write(out.join("part-00001.jsonl.zst.77.partial"), "half").unwrap();
    let mut other = clean::Config::default();
    other.quality.min_doc_words = 20.0;
    let message = clean::run(&other, &input(&[&raw]), &output(&out, 1), &Silent).unwrap_err().to_string();
    assert!(message.contains("another `config.quality.min_doc_words`: `50.0`, now `20.0`"), "{message}");
    assert!(!out.join("part-00001.jsonl.zst.77.partial").exists());
    let message = pii::run(&pii::Config::default(), &input(&[&out]), &output(&scratch.join("x"), 1), &Silent);
    assert!(message.unwrap_err().to_string().contains("isn't finished; run `hearth data clean`"));
    fs_err::write(raw.join("b.jsonl"), "{\"text\":\"changed\"}\n").unwrap();
    let run = |output: &Output| clean::run(&clean::Config::default(), &input(&[&raw]), output, &Silent);
    let message = run(&output(&out, 1)).unwrap_err().to_string();
    assert!(message.contains("`inputs.1."), "{message}");
    run(&Output { restart: true, ..output(&out, 1) }).unwrap();
    let foreign = scratch.join("foreign");
    fs_err::create_dir_all(&foreign).unwrap();
    fs_err::write(foreign.join("thesis.txt"), "mine").unwrap();
    assert!(matches!(run(&output(&foreign, 1)), Err(Error::ForeignFolder { .. })));
    assert_eq!(fs_err::read(foreign.join("thesis.txt")).unwrap(), b"mine");
}

#[test]
fn a_mix_has_the_shares_that_were_asked_for_everywhere_and_no_row_twice() {
    let scratch = Scratch::new("data-mix").unwrap();
    for (name, count) in [("x", 900), ("y", 400)] {
        let lines: String = (0..count)
            .map(|at| serde_json::json!({ "text": format!("{name} {at}") }).to_string() + "\n")
            .collect();
        fs_err::write(scratch.join(format!("{name}.jsonl")), lines).unwrap();
    }
    let input = Input::new([scratch.join("x.jsonl"), scratch.join("y.jsonl")]);
    let config = mix::Config { weights: vec![3.0, 1.0], window: 50, ..mix::Config::default() };
    let run = |config: &mix::Config, name: &str| {
        let folder = scratch.join(name);
        let summary = mix::run(config, &input, &output(&folder, 1), &Silent).unwrap();
        let texts: Vec<String> = rows(&folder).iter().map(|row| row.joined().into_owned()).collect();
        (summary, texts)
    };
    let (summary, texts) = run(&config, "first");
    assert!(summary.details.sources[0].ended && !summary.details.sources[1].ended);
    let unique: std::collections::BTreeSet<&String> = texts.iter().collect();
    assert_eq!(unique.len(), texts.len());
    for stretch in texts.chunks_exact(100) {
        let share = stretch.iter().filter(|text| text.starts_with('x')).count();
        assert!((73..=77).contains(&share), "{share}");
    }
    assert_eq!(run(&config, "again").1, texts);
    let other = mix::Config { seed: 2, ..config.clone() };
    assert_ne!(run(&other, "other").1, texts);
    let all = mix::Config { until: mix::Until::AllEnd, weights: vec![1.0, 1.0], ..config };
    let (summary, texts) = run(&all, "all");
    assert!(summary.details.sources.iter().all(|source| source.ended), "{summary:?}");
    assert!(summary.details.sources[1].epochs >= 2, "{summary:?}");
    let unique: std::collections::BTreeSet<&String> =
        texts.iter().filter(|text| text.starts_with('x')).collect();
    assert!(unique.len() >= 850, "{}", unique.len());
}

#[test]
fn settings_read_from_toml_and_mistakes_in_them_are_named() {
    let config: clean::Config =
        toml::from_str("languages = [\"zh\", \"en\"]\n[quality]\nmin_doc_words = 20\n[c4]\nenabled = false")
            .unwrap();
    assert!(
        (config.quality.min_doc_words - 20.0).abs() < 1e-9 && !config.c4.enabled && config.repetition.enabled
    );
    let config: dedup::Config =
        toml::from_str("exact = true\n[near]\nbands = 14\n[passages]\nunit = \"line\"").unwrap();
    assert_eq!((config.near.bands, config.near.rows), (14, 8));
    let config: pii::Config = toml::from_str("kinds = [\"email\", \"id-card\"]\nscope = \"corpus\"").unwrap();
    assert_eq!(config.kinds.len(), 2);
    let message = toml::from_str::<clean::Config>("[quality]\nmin_words = 3").unwrap_err().to_string();
    assert!(message.contains("unknown field `min_words`"), "{message}");
}
