//! Laws of the comparison and the names that others read in its JSON.

use hearth_eval::compare::{Comparison, Record, WayKind, compare};
use hearth_eval::table;

use crate::sample;

fn of_way(records: &[Record], ways: &[WayKind]) -> Vec<Record> {
    records.iter().filter(|r| ways.contains(&r.way)).cloned().collect()
}

#[test]
fn the_way_with_most_answers_is_best() {
    let comparison = sample::comparison();
    assert_eq!(comparison.best, WayKind::Rag);
    let best = comparison.way(WayKind::Rag).unwrap();
    assert_eq!(best.behind_best, None);
    for way in &comparison.ways {
        assert!(way.contains <= best.contains);
        let [low, high] = way.ci95.contains;
        assert!(low <= way.contains && way.contains <= high);
        if let Some(behind) = way.behind_best {
            assert!((behind.mean - (best.contains - way.contains)).abs() < 1e-9);
        }
        assert_eq!(way.citation_hit.is_some(), way.way.cites());
    }
    assert_eq!(comparison.way(WayKind::Rag).unwrap().errors, 0);
    assert_eq!(comparison.way(WayKind::Prompt).unwrap().cuts, 24);
}

#[test]
fn equal_answers_go_to_the_cheaper_then_to_the_simpler_way() {
    let questions = sample::questions();
    let all = sample::records(&questions);
    let best = |change: fn(&mut Record)| {
        let mut records = of_way(&all, &[WayKind::Base, WayKind::Finetune]);
        for record in &mut records {
            record.answer = "same".to_owned();
            record.error = None;
            record.seconds = 1.0;
            change(record);
        }
        compare(questions.clone(), &records, &[], sample::setup()).unwrap().best
    };
    assert_eq!(best(|_| {}), WayKind::Base);
    let faster_finetune = |record: &mut Record| {
        if record.way == WayKind::Finetune {
            record.seconds = 0.5;
        }
    };
    assert_eq!(best(faster_finetune), WayKind::Finetune);
}

#[test]
fn a_failed_answer_counts_as_wrong() {
    let questions = sample::questions();
    let mut records = of_way(&sample::records(&questions), &[WayKind::Base]);
    for (record, question) in records.iter_mut().zip(&questions) {
        record.answer.clone_from(&question.answers[0]);
        record.error = None;
    }
    records[0].error = Some("out of memory".to_owned());
    let comparison = compare(questions, &records, &[], sample::setup()).unwrap();
    assert_eq!(comparison.ways[0].errors, 1);
    assert!((comparison.ways[0].contains - 23.0 / 24.0).abs() < 1e-9);
}

#[test]
fn the_order_of_records_changes_nothing() {
    let questions = sample::questions();
    let mut records = sample::records(&questions);
    let forward = compare(questions.clone(), &records, &[], sample::setup()).unwrap();
    records.reverse();
    assert_eq!(compare(questions, &records, &[], sample::setup()).unwrap(), forward);
}

#[test]
fn records_that_do_not_cover_the_questions_are_an_error() {
    let questions = sample::questions();
    let all = sample::records(&questions);
    let check = |records: &[Record], expected: &str| {
        let error = compare(questions.clone(), records, &[], sample::setup()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(&[], "nothing to compare: 24 questions, 0 ways");
    check(&all[1..], "way `base` has 0 records for question `q1`");
    let mut twice = all.clone();
    twice.push(all[3].clone());
    check(&twice, "way `finetune` has 2 records for question `q1`");
    let mut stray = all.clone();
    stray[0].question_id = "q99".to_owned();
    check(&stray, "question `q99`, which wasn't asked");
    let empty = compare(Vec::new(), &all, &[], sample::setup()).unwrap_err();
    assert!(empty.to_string().contains("nothing to compare"), "{empty}");
}

#[test]
fn json_keeps_the_names_others_read() {
    let comparison = sample::comparison();
    let json = serde_json::to_value(&comparison).unwrap();
    let names = |value: &serde_json::Value| -> Vec<String> {
        // In order of the alphabet, whichever order the map of JSON keeps.
        let mut names: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        names.sort_unstable();
        names
    };
    let ways: Vec<&str> =
        json["ways"].as_array().unwrap().iter().map(|way| way["way"].as_str().unwrap()).collect();
    assert_eq!(ways, ["base", "prompt", "rag", "finetune", "rag+finetune"]);
    assert_eq!(json["best"], "rag");
    assert_eq!(json["questions"], 24);
    assert_eq!(json["documents"], 9);
    let way = &json["ways"][2];
    for name in ["exact", "f1", "contains", "citation_hit", "seconds", "tokens", "preparation_seconds"] {
        assert!(way[name].is_number(), "{name}: {way}");
    }
    assert_eq!(names(&way["ci95"]), ["citation_hit", "contains", "exact", "f1"]);
    for (_, ends) in way["ci95"].as_object().unwrap() {
        assert_eq!(ends.as_array().unwrap().len(), 2);
    }
    assert!(json["ways"][0]["citation_hit"].is_null());
    let mut expected = vec![
        "asked",
        "best",
        "details",
        "documents",
        "embedder",
        "generated",
        "machine",
        "model",
        "name",
        "notes",
        "questions",
        "records",
        "retrieval",
        "seconds",
        "seed",
        "started",
        "training",
        "ways",
    ];
    expected.sort_unstable();
    assert_eq!(names(&json), expected);
    let back: Comparison = serde_json::from_value(json).unwrap();
    assert_eq!(back, comparison);
}

#[test]
fn the_table_has_a_row_a_way_and_marks_the_best() {
    let text = table::render(&sample::comparison());
    assert_eq!(text.lines().count(), 6, "{text}");
    assert_eq!(text.matches("* ").count(), 1, "{text}");
    assert!(text.contains("* RAG  "), "{text}");
    let width = text.lines().next().unwrap().chars().count();
    assert!(text.lines().all(|line| line.chars().count() == width), "{text}");
}
