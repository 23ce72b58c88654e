//! `hearth up` as a user runs it: the whole path, again, after a kill, with questions of one's own, and served.

#![expect(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "all of this file is tests")]

#[expect(dead_code, reason = "what only other tests use")]
mod program;

use std::path::Path;

use program::{Scene, files, run, start};
use serde_json::Value;

const BRIEF: [&str; 6] = ["--no-serve", "--time-budget", "0.5", "--json", "--num-questions", "6"];
const WAYS: [&str; 5] = ["base", "prompt", "rag", "finetune", "rag+finetune"];

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a Vec<Value> {
    value[key].as_array().unwrap_or_else(|| panic!("`{key}` isn't a list"))
}

/// What every finished run promises, whatever happened on the way.
#[track_caller]
fn check_report(report: &Value, run_folder: &Path) {
    let names: Vec<&str> = list(report, "ways").iter().map(|way| way["way"].as_str().unwrap()).collect();
    assert_eq!(names, WAYS, "{report}");
    for way in list(report, "ways") {
        for key in ["exact", "f1", "contains", "seconds", "tokens"] {
            assert!(way[key].as_f64().is_some_and(f64::is_finite), "`{key}` of {way}");
        }
        let cites = way["way"].as_str().unwrap().starts_with("rag");
        assert_eq!(way["citation_hit"].is_number(), cites, "{way}");
        for key in ["exact", "f1", "contains"] {
            assert_eq!(list(&way["ci95"], key).len(), 2, "{way}");
        }
    }
    assert!(WAYS.contains(&report["best"].as_str().unwrap()));
    let questions = report["questions"].as_u64().unwrap() as usize;
    assert_eq!(list(report, "asked").len(), questions);
    assert_eq!(list(report, "records").len(), questions * WAYS.len());
    assert!(list(report, "records").iter().all(|record| record["error"].is_null()));
    let losses = list(&report["training"], "validation_loss");
    assert!(!losses.is_empty() && losses.iter().all(|point| point["loss"].as_f64().unwrap().is_finite()));
    assert_eq!(read_json(&run_folder.join("report.json")), *report, "standard output is report.json");
    let html = fs_err::read_to_string(run_folder.join("report.html")).unwrap();
    assert!(html.starts_with("<!doctype html>") || html.starts_with("<!DOCTYPE html>"), "{}", &html[..60]);
    assert!(run_folder.join("adapter/adapter_model.safetensors").is_file());
}

/// No fact that is asked about is learned.
fn check_held_out(run_folder: &Path) {
    let pairs = read_json(&run_folder.join("pairs.json"));
    let sets = read_json(&run_folder.join("questions.json"));
    let (held_out, training) = (list(&sets, "held_out"), list(&sets, "training"));
    assert!(!held_out.is_empty() && training.len() >= 4);
    for question in held_out {
        let asked: Vec<&Value> = list(&pairs, "written")
            .iter()
            .chain(list(&pairs, "by_rule"))
            .filter(|pair| {
                pair["question"] == question["question"] && pair["answer"] == question["answers"][0]
            })
            .collect();
        assert!(!asked.is_empty(), "{question} comes from a pair");
        for pair in asked {
            for learned in training {
                let same_place = learned["chunk"] == pair["chunk"];
                let same_fact =
                    learned["evidence"] == pair["evidence"] || learned["answer"] == pair["answer"];
                assert!(!(same_place && same_fact), "{pair} is learned as {learned}");
                assert_ne!(learned["question"], pair["question"]);
            }
        }
    }
}

fn answers(report: &Value) -> Vec<(String, String, String)> {
    let text = |record: &Value, key: &str| record[key].as_str().unwrap().to_owned();
    list(report, "records")
        .iter()
        .map(|record| (text(record, "question_id"), text(record, "way"), text(record, "answer")))
        .collect()
}

/// The files that hold finished work.
fn work(run_folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files = files(run_folder);
    files.retain(|(path, _)| {
        let path = path.strip_prefix(run_folder).unwrap().to_str().unwrap();
        let whole = ["pairs.json", "questions.json", "plan.json", "adapter/adapter_model.safetensors"];
        path.starts_with("answers-") || whole.contains(&path)
    });
    files
}

#[test]
fn a_folder_becomes_a_report_and_the_same_command_is_answered_from_the_run_folder() {
    let scene = Scene::new("up");
    let first = run(scene.up("docs", &BRIEF)).expect(0);
    let report = first.json();
    let folder = scene.run_folder("docs");
    check_report(&report, &folder);
    check_held_out(&folder);
    assert_eq!((report["documents"].as_u64(), report["generated"].as_bool()), (Some(3), Some(true)));
    assert!(first.stderr.contains("questions: ") && first.stderr.contains("knowledge base: 3 documents"));
    let before = work(&folder);
    assert_eq!(before.len(), 4 + WAYS.len());

    let second = run(scene.up("docs", &BRIEF)).expect(0);
    assert_eq!(answers(&second.json()), answers(&report));
    check_report(&second.json(), &scene.run_folder("docs"));
    for losses in ["train_loss", "validation_loss"] {
        assert_eq!(second.json()["training"][losses], report["training"][losses], "{losses}");
    }
    for ((path, now), (_, content)) in work(&folder).iter().zip(&before) {
        assert!(now == content, "{} was made again", path.display());
    }
    assert!(
        !second.stderr.contains("questions: ") && !second.stderr.contains("knowledge base: "),
        "{}",
        second.stderr
    );
}

#[test]
fn a_changed_document_starts_a_new_run_and_a_new_knowledge_base() {
    let scene = Scene::new("up-changed");
    run(scene.up("docs", &BRIEF)).expect(0);
    let before = scene.run_folder("docs");
    fs_err::rename(&before, scene.path("earlier-run")).unwrap();
    scene.write("docs/extra.txt", "The ladder height is 4 metres. The ladder load is 150 kg.");
    let again = run(scene.up("docs", &BRIEF)).expect(0);
    assert_eq!(again.json()["documents"], 4);
    assert!(again.stderr.contains("knowledge base: 4 documents"), "{}", again.stderr);
    assert_ne!(scene.run_folder("docs"), before);
}

#[test]
fn a_kill_at_any_stage_costs_only_what_was_not_finished() {
    let scene = Scene::slow("up-kill");
    // While the knowledge base is built, when the pairs are there, while ways answer, while training.
    start(scene.up("docs", &BRIEF)).kill();
    let mut stages =
        vec![("", "pairs.json"), ("", "answers-base.jsonl"), ("train …", ""), ("Fine-tuned …", "")];
    let mut kept: Vec<(std::path::PathBuf, Vec<u8>)> = Vec::new();
    for (line, file) in stages.drain(..) {
        let mut running = start(scene.up("docs", &BRIEF));
        if line.is_empty() {
            running.wait_for_file(|| Some(scene.find_run_folder("docs")?.join(file)));
        } else {
            running.wait_for_line(line);
        }
        running.kill();
        for (path, content) in &kept {
            let now = fs_err::read(path).unwrap();
            assert!(now.starts_with(content), "{} was written anew", path.display());
        }
        kept = work(&scene.run_folder("docs"));
        // A line that the kill cut off may be written anew.
        for (_, content) in &mut kept {
            let whole = content.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            if content.last() != Some(&b'\n') && content.first() == Some(&b'{') && whole > 0 {
                content.truncate(whole);
            }
        }
        kept.retain(|(path, _)| !path.ends_with("adapter_model.safetensors"));
    }
    let finished = run(scene.up("docs", &BRIEF)).expect(0);
    let folder = scene.run_folder("docs");
    check_report(&finished.json(), &folder);
    check_held_out(&folder);
    for (path, content) in &kept {
        assert!(fs_err::read(path).unwrap().starts_with(content), "{} was written anew", path.display());
    }
}

#[test]
fn a_cut_last_line_of_answers_is_asked_again() {
    let scene = Scene::new("up-cut");
    let report = run(scene.up("docs", &BRIEF)).expect(0).json();
    let path = scene.run_folder("docs").join("answers-rag.jsonl");
    let whole = fs_err::read(&path).unwrap();
    fs_err::write(&path, &whole[..whole.len() - 20]).unwrap();
    let again = run(scene.up("docs", &BRIEF)).expect(0).json();
    assert_eq!(answers(&again), answers(&report));
    check_report(&again, &scene.run_folder("docs"));
}

#[test]
fn questions_of_ones_own_are_asked_and_wrong_lines_are_named() {
    let scene = Scene::new("up-questions");
    let good = "{\"question\":\"How hot is the kiln?\",\"answers\":[\"1240 degrees\"],\"source\":\"kiln.md\"}\n\n\
                {\"id\":\"p\",\"question\":\"What is the pressure?\",\"answers\":[\"4.5 bar\",\"4.5\"]}\n";
    scene.write("good.jsonl", good);
    let outcome = run(scene.up("docs", &[&BRIEF[..], &["--questions", &scene.text("good.jsonl")]].concat()));
    let report = outcome.expect(0).json();
    check_report(&report, &scene.run_folder("docs"));
    // In an order of the seed's.
    let mut asked: Vec<&str> =
        list(&report, "asked").iter().map(|asked| asked["id"].as_str().unwrap()).collect();
    asked.sort_unstable();
    assert_eq!((asked.as_slice(), report["generated"].as_bool()), (&["p", "q1"][..], Some(false)));

    let line = good.lines().next().unwrap();
    for (content, expected) in [
        (format!("{line}\n{{\"question\":\"a\"\n"), &["bad.jsonl", "line 2"][..]),
        (format!("{line}\n{}", line.replace("kiln.md", "oven.md")), &["line 2", "`oven.md`", "`kiln.md`"]),
        ("{\"question\":\"a\",\"answers\":[]}".into(), &["line 1", "`answers`"]),
        ("{\"answers\":[\"a\"]}".into(), &["line 1", "`question`"]),
        ("\n\n".into(), &["bad.jsonl", "no question"]),
    ] {
        scene.write("bad.jsonl", &content);
        let bad = scene.text("bad.jsonl");
        let outcome = run(scene.up("docs", &[&BRIEF[..], &["--questions", &bad]].concat())).expect(1);
        for part in expected {
            assert!(outcome.stderr.contains(part), "`{part}` for {content}:\n{}", outcome.stderr);
        }
    }
    let missing = run(scene.up("docs", &["--no-serve", "--questions", "none.jsonl"])).expect(1);
    assert!(missing.stderr.contains("none.jsonl"), "{}", missing.stderr);
}

#[test]
fn a_trained_model_in_one_gguf_file_goes_the_same_way() {
    let scene = Scene::new("up-gguf");
    hearth_testkit::tiny_gguf(&scene.path("tiny.gguf")).unwrap();
    let mut command = scene.hearth(&["up", &scene.text("docs"), "--model", &scene.text("tiny.gguf")]);
    command.args(["--embedder", &scene.text("embedder.bin")]).args(BRIEF);
    let report = run(command).expect(0).json();
    check_report(&report, &scene.run_folder("docs"));
    assert_eq!(report["model"], "tiny");
}

#[cfg(unix)]
#[test]
fn answers_can_be_had_while_the_comparison_goes_on_and_ctrl_c_keeps_what_is_done() {
    let scene = Scene::slow("up-serve");
    let args = ["--port", "0", "--time-budget", "5", "--json"];
    let mut running = start(scene.up("docs", &args));
    let line = running.wait_for_line("answers can be had now");
    let address =
        line.split("http://").nth(1).unwrap().split_whitespace().next().unwrap().trim_end_matches('/');
    let body = r#"{"model":"docs","messages":[{"role":"user","content":"What is the firing temperature?"}],"max_tokens":8}"#;
    let (status, answer) = post(address, "/v1/chat/completions", body);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["object"], "chat.completion");
    assert!(!answer["choices"][0]["message"]["content"].as_str().unwrap().is_empty(), "{answer}");
    assert!(answer["usage"]["completion_tokens"].as_u64().unwrap() <= 8);

    running.interrupt();
    let outcome = running.wait();
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("stopping; what is done so far is kept"), "{}", outcome.stderr);
    // The comparison may have been over already.
    let was_done = !outcome.stdout.is_empty();
    assert_eq!(outcome.code, Some(i32::from(!was_done)), "{}", outcome.stderr);
    assert!(was_done || outcome.stderr.contains("run the same command again"), "{}", outcome.stderr);

    let resumed = run(scene.up("docs", &["--no-serve", "--time-budget", "5", "--json"])).expect(0);
    check_report(&resumed.json(), &scene.run_folder("docs"));
}

#[cfg(unix)]
#[test]
fn the_winner_is_served_with_the_report_until_ctrl_c() {
    let scene = Scene::new("up-served");
    let mut running =
        start(scene.up("docs", &["--port", "0", "--time-budget", "0.5", "--num-questions", "4"]));
    let line = running.wait_for_line("serving `docs`");
    let address =
        line.split("http://").nth(1).unwrap().split_whitespace().next().unwrap().trim_end_matches('/');
    let (status, models) = request(address, "GET /v1/models", "");
    assert!(status == 200 && models.contains("\"docs\""), "{models}");
    let (status, report) = request(address, "GET /report", "");
    assert!(status == 200 && report.contains("<html"), "{status}");
    running.interrupt();
    let outcome = running.wait().expect(0);
    assert!(outcome.stdout.contains("RAG + fine-tuned"), "{}", outcome.stdout);
}

fn post(address: &str, path: &str, body: &str) -> (u16, Value) {
    let (status, text) = request(address, &format!("POST {path}"), body);
    (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

fn request(address: &str, what: &str, body: &str) -> (u16, String) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_mins(2))).unwrap();
    let length = body.len();
    write!(
        stream,
        "{what} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let status = response.split_whitespace().nth(1).unwrap().parse().unwrap();
    (status, response.split_once("\r\n\r\n").unwrap().1.to_owned())
}
