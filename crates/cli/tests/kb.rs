//! A knowledge base from the command line: made, searched, and its search judged.

#![expect(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "all of this file is tests")]

#[expect(dead_code, reason = "what only other tests use")]
mod program;

use program::{Scene, run};

/// TREC's judgements for the three documents of a scene, one of them by its path and two without endings.
const QRELS: &str = "1 0 kiln 1\n1 0 pump 0\n2 0 pump.txt 2\n3 0 lamp 1\n4 0 nowhere 1\n";
const QUERIES: &str = r#"{"_id": "1", "text": "firing temperature of the kiln"}
{"_id": "2", "text": "warranty in months"}
{"_id": "3", "text": "price of a shade"}
{"_id": "4", "text": "something else"}
{"_id": "5", "text": "nobody judged this"}
"#;

fn made(name: &str) -> Scene {
    let scene = Scene::new(name);
    scene.write("queries.jsonl", QUERIES);
    scene.write("qrels.txt", QRELS);
    let embedder = scene.text("embedder.bin");
    run(scene.hearth(&["kb", "create", "base", &scene.text("docs"), "--embedder", &embedder])).expect(0);
    scene
}

#[test]
fn methods_are_judged_side_by_side() {
    let scene = made("kb-eval");
    let (queries, qrels) = (scene.text("queries.jsonl"), scene.text("qrels.txt"));
    let embedder = scene.text("embedder.bin");
    let args = ["kb", "eval", "base", "--queries", &queries, "--qrels", &qrels, "--embedder", &embedder];
    let report =
        run(scene.hearth(&[&args[..], &["--json", "--methods", "bm25,hybrid"]].concat())).expect(0).json();
    assert_eq!((&report["queries"], &report["unjudged_queries"]), (&4.into(), &1.into()));
    assert_eq!(report["unknown_documents"], 1);
    // Three of four queries are answered by words alone, at rank 1; the fourth's document isn't there.
    for score in ["ndcg", "recall", "reciprocal_rank"] {
        assert_eq!(report["methods"][0][score]["mean"], 0.75, "{report}");
    }
    assert_eq!(report["methods"][1]["method"], "hybrid");
    let table = run(scene.hearth(&args)).expect(0).stdout;
    for part in ["4 queries (1 more", "nDCG@10", "hybrid", "dense less hybrid"] {
        assert!(table.contains(part), "`{part}` is missing in:\n{table}");
    }
    let gated =
        run(scene.hearth(&[&args[..], &["--methods", "bm25", "--min-ndcg", "0.9"]].concat())).expect(1);
    assert!(gated.stderr.contains("nDCG@10 is 0.7500, `--min-ndcg` asks for 0.9"), "{}", gated.stderr);
}

#[test]
fn questions_with_a_source_need_no_judgements_and_mistakes_are_named() {
    let scene = made("kb-eval-source");
    let embedder = scene.text("embedder.bin");
    scene.write(
        "good.jsonl",
        r#"{"question": "How long is the warranty?", "answers": ["37 months"], "source": "pump.txt"}"#,
    );
    scene.write("broken.jsonl", "{\"_id\": \"1\"}\n");
    scene.write("other.jsonl", r#"{"question": "x", "source": "elsewhere.md"}"#);
    scene.write("bad-qrels.txt", "1 0 kiln\n1 0 kiln often\n");
    let eval = |queries: &str, more: &[&str]| {
        let queries = scene.text(queries);
        let args = ["kb", "eval", "base", "--queries", &queries, "--embedder", &embedder];
        run(scene.hearth(&[&args[..], more].concat()))
    };
    let report = eval("good.jsonl", &["--json", "--methods", "bm25"]).expect(0).json();
    assert_eq!(report["methods"][0]["reciprocal_rank"]["mean"], 1.0, "{report}");
    let bad_qrels = scene.text("bad-qrels.txt");
    for (queries, more, expected) in [
        ("broken.jsonl", &[][..], "broken.jsonl` line 1 isn't a query"),
        ("queries.jsonl", &[], "none of the 5 queries"),
        ("other.jsonl", &[], "none of the 1 judged documents is in `base`"),
        ("queries.jsonl", &["--qrels", &bad_qrels], "line 2 isn't a judgement"),
        ("good.jsonl", &["-k", "0"], "`-k` is 0"),
    ] {
        let outcome = eval(queries, more).expect(1);
        assert!(outcome.stderr.contains(expected), "`{expected}` is missing in:\n{}", outcome.stderr);
    }
}
