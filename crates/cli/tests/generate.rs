//! `hearth generate`, `hearth chat` and `hearth doctor` as whole programs on a tiny model.

#![expect(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "all of this file is tests")]

#[expect(dead_code, reason = "what only the tests of the main job use")]
mod program;

use std::io::Write;
use std::process::{Command, Stdio};

use program::{Outcome, Scene, run};
use serde_json::Value;

fn generate(scene: &Scene, more: &[&str]) -> Command {
    let mut command = scene.hearth(&["generate", "--model", &scene.text("model"), "--max-tokens", "24"]);
    command.args(more);
    command
}

fn json(scene: &Scene, more: &[&str]) -> Value {
    let mut command = generate(scene, more);
    command.args(["--json", "--prompt", "the thin tin"]);
    run(command).expect(0).json()
}

/// Runs a conversation whose lines come from a pipe.
fn chat(scene: &Scene, args: &[&str], lines: &str) -> Outcome {
    let mut command = scene.hearth(&["chat", "--model", &scene.text("model"), "--max-tokens", "12"]);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn one_line_of_json_holds_text_ids_prompt_and_log_probabilities() {
    let scene = Scene::new("generate-json");
    let line = json(&scene, &["--temperature", "0"]);
    let ids = line["ids"].as_array().unwrap();
    assert_eq!((ids.len(), line["logprobs"].as_array().unwrap().len()), (24, 24));
    assert!(line["logprobs"].as_array().unwrap().iter().all(|value| value.as_f64().unwrap() < 0.0));
    assert!(line["prompt_ids"].as_array().unwrap().len() > 12, "the conversation's format is around it");
    assert_eq!(line["finish"], "length");
    let plain = run({
        let mut command = generate(&scene, &["--prompt", "the thin tin"]);
        command.args(["--threads", "1"]);
        command
    });
    assert_eq!(plain.expect(0).stdout.trim_end_matches('\n'), line["text"].as_str().unwrap());
    let raw = json(&scene, &["--raw"]);
    assert!(raw["prompt_ids"].as_array().unwrap().len() < 12);
}

#[test]
fn guesses_change_nothing_and_choices_differ() {
    let scene = Scene::new("generate-ways");
    let plain = json(&scene, &[]);
    assert_eq!(json(&scene, &["--prompt-lookup"]), plain);
    assert_eq!(json(&scene, &["--draft", &scene.text("model"), "--max-draft", "3"]), plain);
    let drawn = ["--temperature", "1.5", "--seed", "3", "-n", "3"];
    let several = json(&scene, &drawn);
    assert_eq!(several["choices"].as_array().unwrap().len(), 3);
    assert_eq!(several["choices"][0]["text"], several["text"]);
    assert_ne!(several["choices"][1]["text"], several["text"]);
    let best = json(&scene, &["--temperature", "1.5", "--seed", "3", "--best-of", "3"]);
    let mean = |choice: &Value| {
        let logprobs = choice["logprobs"].as_array().unwrap();
        logprobs.iter().map(|x| x.as_f64().unwrap()).sum::<f64>() / logprobs.len() as f64
    };
    let choices = several["choices"].as_array().unwrap();
    let expected = choices.iter().max_by(|a, b| mean(a).total_cmp(&mean(b))).unwrap();
    assert_eq!(best["text"], expected["text"]);
    let beams = json(&scene, &["--beams", "4"]);
    let scores: Vec<f64> =
        beams["choices"].as_array().unwrap().iter().map(|beam| beam["score"].as_f64().unwrap()).collect();
    assert!(scores.len() == 4 && scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    assert_eq!(beams["choices"][0]["ids"], beams["ids"]);
    let greedy = json(&scene, &["--beams", "1"]);
    assert_eq!(greedy["ids"], plain["ids"], "one beam is greedy");
}

#[test]
fn an_answer_has_the_shape_that_was_asked_for() {
    let scene = Scene::new("generate-shape");
    let wild = ["--temperature", "5", "--max-tokens", "300"];
    let with =
        |more: &[&str]| json(&scene, &[&wild[..2], more].concat())["text"].as_str().unwrap().to_owned();
    scene.write(
        "schema.json",
        r#"{"type": "array", "items": {"enum": [1, 2]}, "minItems": 2, "maxItems": 2}"#,
    );
    let file = format!("@{}", scene.text("schema.json"));
    let value: Vec<u8> = serde_json::from_str(&with(&["--json-schema", &file])).unwrap();
    assert!(value.len() == 2 && value.iter().all(|x| [1, 2].contains(x)));
    assert!(["yes", "no"].contains(&with(&["--regex", "yes|no"]).as_str()));
    assert_eq!(with(&["--grammar", "start: \"a\" \"b\""]), "ab");
}

#[test]
fn what_cannot_be_generated_says_why() {
    let scene = Scene::new("generate-bad");
    scene.write("long.txt", "the thin tin and ".repeat(10 << 16));
    let long = scene.text("long.txt");
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["--raw", "--prompt", ""], 1, &["the prompt is empty"]),
        (&["--prompt-file", &long], 1, &["the prompt has ", " tokens, the context holds 4096"]),
        (&["--prompt-file", &scene.text("none.txt")], 1, &["none.txt"]),
        (&[], 2, &["--prompt"]),
        (&["--prompt", "x", "--temperature", "11"], 1, &["`temperature` must be 0 to 10, not 11"]),
        (&["--prompt", "x", "-n", "9"], 1, &["`n` must be 1 to 8 here, not 9"]),
        (&["--prompt", "x", "-n", "3", "--best-of", "2"], 1, &["`--best-of` 2"]),
        (&["--prompt", "x", "--beams", "0"], 1, &["`beams` must be 1"]),
        (&["--prompt", "x", "--regex", "(a"], 1, &["regular expression can't be used"]),
        (&["--prompt", "x", "--json-schema", "{"], 1, &["JSON schema can't be used: it isn't JSON"]),
        (&["--prompt", "x", "--json-schema", "@none"], 1, &["none", "`@` names a file"]),
        (&["--prompt", "x", "--regex", "a", "--grammar", "b"], 2, &["cannot be used with"]),
        (&["--prompt", "x", "--logit-bias", "99"], 2, &["`99` isn't ID=VALUE"]),
        (&["--prompt", "x", "--logit-bias", "99999=1"], 1, &["`logit_bias` names the token 99999"]),
    ];
    for (args, code, expected) in cases {
        let outcome = run(generate(&scene, args)).expect(*code);
        for part in *expected {
            assert!(outcome.stderr.contains(part), "`{part}` is missing in:\n{}", outcome.stderr);
        }
        assert_eq!(outcome.stdout, "");
    }
}

#[test]
fn a_conversation_from_a_pipe_remembers_saves_and_loads() {
    let scene = Scene::new("chat-pipe");
    let save = scene.text("saved.json");
    let lines = format!("the kiln\\\nand the fire\n\nthe pump\n/save {save}\n");
    let first = chat(&scene, &["--json"], &lines).expect(0);
    let answers: Vec<Value> = first.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 2, "{}", first.stdout);
    assert!(answers[1]["cached_tokens"].as_u64() >= answers[0]["prompt_tokens"].as_u64());
    let saved: Value = serde_json::from_slice(&std::fs::read(&save).unwrap()).unwrap();
    assert_eq!(saved["version"], 1);
    assert_eq!(saved["messages"][0]["content"], "the kiln\nand the fire");
    assert_eq!(saved["messages"][3]["content"], answers[1]["text"]);
    let kept: Vec<_> = std::fs::read_dir(scene.home().join("chats")).unwrap().collect();
    assert_eq!(kept.len(), 1, "the conversation is kept in the home folder");
    let kept: Value =
        serde_json::from_slice(&std::fs::read(kept[0].as_ref().unwrap().path()).unwrap()).unwrap();
    assert_eq!(kept, saved);
    let again = chat(&scene, &["--json", "--load", &save], "more\n").expect(0);
    let loaded = chat(&scene, &["--json"], &format!("/load {save}\nmore\n")).expect(0);
    assert_eq!(again.stdout, loaded.stdout);
    let fresh = chat(&scene, &["--json"], &format!("/load {save}\n/clear\nmore\n")).expect(0);
    assert_ne!(again.stdout, fresh.stdout);
    let plain = chat(&scene, &[], "more\n/exit\nnever asked\n").expect(0);
    let fresh: Value = serde_json::from_str(fresh.stdout.trim()).unwrap();
    assert_eq!(plain.stdout.trim_end_matches('\n'), fresh["text"].as_str().unwrap());
}

#[test]
fn commands_of_a_conversation_change_it() {
    let scene = Scene::new("chat-commands");
    let ask = |commands: &str| {
        let outcome = chat(&scene, &["--json"], &format!("{commands}the kiln\n")).expect(0);
        serde_json::from_str::<Value>(&outcome.stdout).unwrap()
    };
    let plain = ask("");
    assert_eq!(ask("/system Be brief.\n/system\n"), plain);
    assert_ne!(ask("/system Be brief.\n")["prompt_tokens"], plain["prompt_tokens"]);
    assert_eq!(ask("/set max_tokens 3\n")["completion_tokens"], 3);
    assert_ne!(ask("/set temperature 2\n/set seed 5\n")["text"], plain["text"]);
    let kiln = scene.text("docs/kiln.md");
    assert!(ask(&format!("/file {kiln}\n"))["prompt_tokens"].as_u64().unwrap() > 200);
    for (line, expected) in [
        ("/frobnicate", "`/frobnicate` isn't a command"),
        ("/set temperature hot", "`hot` isn't a number"),
        ("/set temperature 99", "`temperature` must be 0 to 10"),
        ("/set warmth 1", "`warmth` can't be set; there is temperature"),
        ("/file /nowhere", "/nowhere"),
        ("/load /nowhere", "/nowhere"),
        (&format!("/load {kiln}"), "isn't a saved conversation"),
        (&"long ".repeat(9000), "the context holds 4096"),
    ] {
        let outcome = chat(&scene, &[], &format!("{line}\n")).expect(1);
        assert!(outcome.stderr.contains(expected), "{expected}: {}", outcome.stderr);
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_stops_the_answer_and_not_the_program() {
    use std::io::{BufRead, BufReader, Read};
    let scene = Scene::slow("chat-interrupt");
    let mut command = scene.hearth(&["chat", "--model", &scene.text("model"), "--max-tokens", "4000"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdin.write_all(b"the kiln\n").unwrap();
    stdout.read_exact(&mut [0; 20]).unwrap();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let mut rest = String::new();
    stdout.read_line(&mut rest).unwrap();
    assert!(rest.len() < 3500, "the answer was stopped");
    stdin.write_all(b"/set max_tokens 5\nthe pump\n").unwrap();
    drop(stdin);
    let mut second = String::new();
    stdout.read_to_string(&mut second).unwrap();
    assert!(second.len() >= 5, "{second:?}");
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_doctor_measures_and_estimates() {
    let scene = Scene::new("doctor");
    let report = run(scene.hearth(&["doctor", "--json"])).expect(0).json();
    assert_eq!(report["what"], "doctor");
    assert!(report["memory"]["read_gb_per_s"].as_f64().unwrap() > 0.1);
    assert!(report["products"]["f32_gflop_per_s"].as_f64().unwrap() > 0.01);
    assert!(report["products"]["int8_gop_per_s"].as_f64().unwrap() > 0.01);
    assert_eq!(report["home"]["problem"], Value::Null);
    assert!(report["sources"][0]["said"].as_str().unwrap().contains("HEARTH_OFFLINE"));
    let models = report["models"].as_array().unwrap();
    assert!(models.iter().any(|m| m["name"] == "smollm2-135m" && m["tokens_per_s"].as_f64().unwrap() > 0.0));
    assert!(report["models_are"].as_str().unwrap().contains("estimated"));
    let page = run(scene.hearth(&["doctor"])).expect(0).stdout;
    for part in ["processor", "GB/s", "smollm2-135m", "estimated"] {
        assert!(page.contains(part), "{page}");
    }
}
