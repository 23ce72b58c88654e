//! A knowledge base from the command line: made, searched, and its search judged.

#![expect(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "all of this file is tests")]

#[expect(dead_code, reason = "what only other tests use")]
mod program;

use std::io::{Read, Write};

use program::{Scene, run, start};
use serde_json::{Value, json};

/// TREC's judgements for the three documents of a scene, one of them by its path and two without endings.
const QRELS: &str = "1 0 kiln 1\n1 0 pump 0\n2 0 pump.txt 2\n3 0 lamp 1\n4 0 nowhere 1\n";
const QUERIES: &str = r#"{"_id": "1", "text": "firing temperature of the kiln"}
{"_id": "2", "text": "warranty in months"}
{"_id": "3", "text": "price of a shade"}
{"_id": "4", "text": "something else"}
{"_id": "5", "text": "nobody judged this"}
"#;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

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
    let args = ["kb", "eval", "base", "--queries", &queries, "--qrels", &qrels];
    let report = run(scene.hearth(&[&args[..], &["--json", "--method", "bm25,hybrid"]].concat())).expect(0);
    let lines = lines(&report.stdout);
    let report = &lines[0];
    assert_eq!((&report["queries"], &report["unjudged_queries"]), (&4.into(), &1.into()));
    assert_eq!(report["unknown_documents"], 1);
    // Three of four queries are answered by words alone, at rank 1; the fourth's document isn't there.
    for score in ["ndcg@10", "recall@100", "mrr@10"] {
        assert_eq!(report[score], 0.75, "{report}");
    }
    assert_eq!((&lines[0]["method"], &lines[1]["method"]), (&"bm25".into(), &"hybrid".into()));
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
    scene.write(
        "good.jsonl",
        r#"{"question": "How long is the warranty?", "answers": ["37 months"], "source": "pump.txt"}"#,
    );
    scene.write("broken.jsonl", "{\"_id\": \"1\"}\n");
    scene.write("other.jsonl", r#"{"question": "x", "source": "elsewhere.md"}"#);
    scene.write("bad-qrels.txt", "1 0 kiln\n1 0 kiln often\n");
    let eval = |queries: &str, more: &[&str]| {
        let queries = scene.text(queries);
        let args = ["kb", "eval", "base", "--queries", &queries];
        run(scene.hearth(&[&args[..], more].concat()))
    };
    let report = eval("good.jsonl", &["--json", "--methods", "bm25"]).expect(0).json();
    assert_eq!(report["mrr@10"], 1.0, "{report}");
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

#[test]
fn a_base_follows_its_folder_and_tells_what_changed() {
    let scene = made("kb-add");
    let add = |more: &[&str]| {
        let docs = scene.text("docs");
        run(scene.hearth(&[&["kb", "add", "base", &docs, "--json"], more].concat())).expect(0).json()
    };
    let counts = |report: &Value| {
        ["added", "changed", "unchanged", "removed", "documents"].map(|name| report[name].as_i64().unwrap())
    };
    assert_eq!(counts(&add(&[])), [0, 0, 3, 0, 3]);
    scene.write("docs/kiln.md", "# The kiln\n\nIt was sold.\n");
    scene.write("docs/saw.txt", "The blade of the saw has 96 teeth.\n");
    scene.write("docs/broken.pdf", "not a PDF");
    fs_err::remove_file(scene.path("docs/lamp.html")).unwrap();
    let report = add(&["--meta", "year=2026"]);
    assert_eq!(counts(&report), [1, 1, 1, 0, 4]);
    assert_eq!(report["skipped"][0]["path"], "broken.pdf");
    assert_eq!(counts(&add(&["--prune"])), [0, 0, 3, 1, 3]);
    let search = |query: &str, more: &[&str]| {
        let args = [&["kb", "search", "base", query, "--json", "--method", "bm25"], more].concat();
        lines(&run(scene.hearth(&args)).expect(0).stdout)
    };
    assert_eq!(search("teeth of the blade", &[])[0]["document"], "saw.txt");
    assert!(search("firing temperature", &[]).is_empty() && search("bulb power", &[]).is_empty());
    assert_eq!(search("the kiln was sold", &["--filter", "year=2026"])[0]["document"], "kiln.md");
    assert!(search("warranty", &["--filter", "year=2026"]).is_empty());
    let removed = run(scene.hearth(&["kb", "remove", "base", "saw.txt", "nothing.md"])).expect(1);
    assert!(removed.stderr.contains("nothing.md") && search("teeth", &[]).is_empty(), "{}", removed.stderr);
    let listed = lines(&run(scene.hearth(&["kb", "list", "base", "--json"])).expect(0).stdout);
    assert_eq!(listed.len(), 3, "two documents and a skipped file: {listed:?}");
    let watched =
        run(scene.hearth(&["kb", "watch", "base", &scene.text("docs"), "--once", "--json"])).expect(0);
    assert_eq!(counts(&watched.json()), [1, 0, 2, 0, 3], "the removed file is there still");
    run(scene.hearth(&["kb", "export", "base", &scene.text("all.hearth-kb")])).expect(0);
    run(scene.hearth(&["kb", "delete", "base"])).expect(0);
    run(scene.hearth(&["kb", "import", "again", &scene.text("all.hearth-kb")])).expect(0);
    let found = run(scene.hearth(&["kb", "search", "again", "96 teeth", "--json"])).expect(0);
    assert_eq!(lines(&found.stdout)[0]["document"], "saw.txt");
}

#[test]
fn rows_of_json_lines_are_documents_named_by_their_ids() {
    let scene = Scene::new("kb-rows");
    scene.write(
        "corpus.jsonl",
        "{\"id\": \"d1\", \"title\": \"Kites\", \"text\": \"A kite needs wind.\"}\n{\"_id\": \"d2\", \"text\": \"A boat needs water.\"}\n",
    );
    run(scene.hearth(&["kb", "create", "rows", "--embedder", "none"])).expect(0);
    let corpus = scene.text("corpus.jsonl");
    run(scene.hearth(&["kb", "add", "rows", &corpus])).expect(0);
    let search =
        |query: &str| lines(&run(scene.hearth(&["kb", "search", "rows", query, "--json"])).expect(0).stdout);
    assert_eq!(search("water")[0]["document"], "d2");
    assert_eq!(search("kites")[0]["document"], "d1");
    scene.write("corpus.jsonl", "{\"id\": \"d1\", \"title\": \"Kites\", \"text\": \"A kite has a tail.\"}\n");
    let report = run(scene.hearth(&["kb", "add", "rows", &corpus, "--json"])).expect(0).json();
    assert_eq!((&report["changed"], &report["removed"]), (&1.into(), &1.into()), "{report}");
    assert!(search("water").is_empty());
}

#[test]
fn a_killed_add_keeps_what_was_seen_and_goes_on() {
    let scene = Scene::new("kb-kill");
    let sentence =
        "Part number of this machine, which weighs so many grams and stands in some hall. ".repeat(60);
    let count = 600;
    for index in 0..count {
        scene.write(&format!("many/{index:04}.txt"), format!("Part {index}. {sentence}"));
    }
    run(scene.hearth(&["kb", "create", "many", "--embedder", "none"])).expect(0);
    let many = scene.text("many");
    let documents = || {
        let listed = run(scene.hearth(&["kb", "list", "--json"])).expect(0);
        lines(&listed.stdout)[0]["documents"].as_u64().unwrap()
    };
    let adding = start(scene.hearth(&["kb", "add", "many", &many]));
    let mut seen = 0;
    for _ in 0..1000 {
        seen = documents();
        if seen > 0 {
            break;
        }
    }
    let second = run(scene.hearth(&["kb", "remove", "many", "0000.txt"]));
    adding.kill();
    let kept = documents();
    assert!(seen > 0 && kept >= seen, "{kept} of {seen} seen");
    // While one process writes, another is told so; if the first was done already, it is let in.
    assert!(second.code == Some(0) || second.stderr.contains("another hearth process"), "{}", second.stderr);
    let report = run(scene.hearth(&["kb", "add", "many", &many, "--json"])).expect(0).json();
    assert_eq!(report["documents"], count, "{report}");
    let hits = run(scene.hearth(&["kb", "search", "many", "part 599", "-k", "1", "--json"])).expect(0);
    assert_eq!(lines(&hits.stdout)[0]["document"], "0599.txt");
}

fn http(address: &str, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

#[test]
fn a_server_makes_fills_searches_and_answers_from_bases() {
    let scene = made("kb-http");
    let model = scene.text("model");
    let args = ["serve", "--port", "0", "--model", &model, "--knowledge", "base", "--knowledge", "*"];
    let mut running = start(scene.hearth(&args));
    let line = running.wait_for_line("serving `");
    let address = line.split("http://").nth(1).unwrap().split_whitespace().next().unwrap();
    let address = address.trim_end_matches('/').to_owned();
    let search = |name: &str, body: Value| {
        http(&address, "POST", &format!("/v1/knowledge/{name}/search"), Some(&body))
    };
    let (status, found) = search("base", json!({ "query": "firing temperature of the kiln", "k": 2 }));
    assert_eq!((status, &found["data"][0]["document"]), (200, &"kiln.md".into()), "{found}");
    // What another process adds is found at once.
    scene.write("saw.txt", "The blade of the saw has 96 teeth.\n");
    run(scene.hearth(&["kb", "add", "base", &scene.text("saw.txt")])).expect(0);
    let (_, found) = search("base", json!({ "query": "teeth of the blade", "method": "bm25" }));
    assert_eq!(found["data"][0]["document"], "saw.txt", "{found}");

    let (status, made) =
        http(&address, "POST", "/v1/knowledge", Some(&json!({ "name": "new", "embedder": "none" })));
    assert_eq!((status, &made["chunks"]), (200, &0.into()), "{made}");
    let documents = json!({ "documents": [
        { "id": "a/b.md", "text": "# Boats\n\nA boat needs water.", "metadata": { "year": "2026" } },
        { "id": "c", "text": "A kite needs wind." },
    ]});
    let (status, added) = http(&address, "POST", "/v1/knowledge/new/documents", Some(&documents));
    assert_eq!((status, &added["added"]), (200, &2.into()), "{added}");
    let both = json!({ "query": "water kiln", "method": "bm25", "filter": "path!=c" });
    let (_, found) = search("new,base", both);
    let mut names: Vec<&str> =
        found["data"].as_array().unwrap().iter().map(|hit| hit["base"].as_str().unwrap()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names, ["base", "new"]);
    let (status, _) = http(&address, "DELETE", "/v1/knowledge/new/documents/a/b.md", None);
    assert_eq!(status, 200);
    let (_, listed) = http(&address, "GET", "/v1/knowledge/new/documents", None);
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    for (path, body, expected) in [
        ("/v1/knowledge/nowhere/search", json!({ "query": "x" }), 404),
        ("/v1/knowledge/base/search", json!({ "query": "x", "method": "magic" }), 400),
        ("/v1/knowledge/base/search", json!({ "query": "x", "colour": 1 }), 400),
        ("/v1/knowledge/base/search", json!({ "query": "x", "k": 0 }), 400),
        ("/v1/knowledge/base/search", json!({ "query": "x", "filter": "year" }), 400),
        ("/v1/knowledge/base/documents", json!({ "documents": [] }), 400),
        ("/v1/knowledge", json!({ "name": "../x" }), 400),
        ("/v1/knowledge", json!({ "name": "new", "embedder": "none" }), 400),
    ] {
        let (status, error) = http(&address, "POST", path, Some(&body));
        assert_eq!(status, expected, "{path} {body}: {error}");
        assert!(error["error"]["message"].is_string());
    }
    let (status, _) = http(&address, "DELETE", "/v1/knowledge/new", None);
    assert_eq!(status, 200);
    let (_, listed) = http(&address, "GET", "/v1/knowledge", None);
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{listed}");

    let question = json!({
        "model": "base", "max_tokens": 8, "messages": [{ "role": "user", "content": "firing temperature of the kiln" }],
    });
    let (status, answer) = http(&address, "POST", "/v1/chat/completions", Some(&question));
    assert_eq!(status, 200, "{answer}");
    assert!(
        answer["usage"]["prompt_tokens"].as_u64().unwrap() > 20,
        "passages stand in the prompt: {answer}"
    );
    running.interrupt();
    running.wait().expect(0);
}

#[test]
fn pages_of_the_web_are_documents_and_those_that_fail_are_named() {
    let scene = Scene::new("kb-web");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        for stream in listener.incoming().take(5) {
            let mut stream = stream.unwrap();
            let mut head = [0; 2048];
            let count = stream.read(&mut head).unwrap();
            let request = String::from_utf8_lossy(&head[..count]).into_owned();
            let (status, kind, body) = match request.split(' ').nth(1).unwrap() {
                "/tide?x=1" => {
                    ("200 OK", "text/html; charset=utf-8", "<h1>Tides</h1><p>High water comes at nine.</p>")
                }
                "/notes.md" => ("200 OK", "application/octet-stream", "# Notes\n\nLow water comes at three."),
                _ => ("404 Not Found", "text/plain", "no such page"),
            };
            write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
        }
    });
    run(scene.hearth(&["kb", "create", "web", "--embedder", "none"])).expect(0);
    let tide = format!("http://{address}/tide?x=1");
    scene.write("urls.txt", format!("# pages\nhttp://{address}/notes.md\nhttp://{address}/gone.html\n"));
    let urls = scene.text("urls.txt");
    let report = run(scene.hearth(&["kb", "add", "web", &tide, "--urls", &urls, "--json"])).expect(0).json();
    assert_eq!((&report["added"], report["skipped"].as_array().unwrap().len()), (&2.into(), 1), "{report}");
    assert!(report["skipped"][0]["reason"].as_str().unwrap().contains("404"), "{report}");
    let found = run(scene.hearth(&["kb", "search", "web", "high water", "-k", "1", "--json"])).expect(0);
    assert_eq!(lines(&found.stdout)[0]["document"], tide);
    let again =
        run(scene.hearth(&["kb", "add", "web", &tide, &format!("http://{address}/notes.md"), "--json"]));
    let again = again.expect(0).json();
    assert_eq!((&again["added"], &again["unchanged"]), (&0.into(), &2.into()), "{again}");
    server.join().unwrap();
}
