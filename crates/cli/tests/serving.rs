//! A server with keys as a program: asked by the program's own load, killed, and its accounts compared.

#![expect(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "all of this file is tests")]

#[expect(dead_code, reason = "what only other tests use")]
mod program;

use program::{Scene, run, start};
use serde_json::Value;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn accounts_outlive_a_kill_and_say_what_the_clients_saw() {
    let scene = Scene::new("serving");
    let key = run(scene.hearth(&["keys", "create", "ci", "--json"])).expect(0).json();
    let secret = key["secret"].as_str().unwrap();
    assert!(run(scene.hearth(&["keys", "create", "ci"])).expect(1).stderr.contains("exists already"));

    let mut server = start(scene.hearth(&["serve", "--model", &scene.text("model"), "--port", "0"]));
    let line = server.wait_for_line("serving `");
    let url = line.split_whitespace().find(|word| word.starts_with("http")).unwrap().to_owned();
    let bench = |more: &[&str]| {
        let mut args = vec![
            "bench",
            "serve",
            "--url",
            &url,
            "--requests",
            "12",
            "--words",
            "8",
            "--max-tokens",
            "6",
            "--json",
        ];
        args.extend(more);
        run(scene.hearth(&args))
    };
    let refused = bench(&["--model", "model"]).expect(1);
    assert!(refused.stderr.contains("401"), "{}", refused.stderr);
    let closed = bench(&["--key", secret, "--clients", "3"]).expect(0).json();
    let open = bench(&["--key", secret, "--rate", "40", "--prompts", "shared", "--shared-words", "40"])
        .expect(0)
        .json();
    server.kill();

    let used = lines(&run(scene.hearth(&["usage", "--json"])).expect(0).stdout);
    for name in ["requests", "prompt_tokens", "cached_tokens", "completion_tokens"] {
        let of_clients = closed[name].as_u64().unwrap() + open[name].as_u64().unwrap();
        let of_accounts: u64 = used.iter().map(|line| line[name].as_u64().unwrap()).sum();
        assert_eq!(of_accounts, of_clients, "{name}");
    }
    assert_eq!((&closed["errors"], &open["errors"]), (&0.into(), &0.into()));
    assert!(used.iter().all(|line| line["key_name"] == "ci"));
    for met in [&closed, &open] {
        let table = |name: &str| ["p50", "p90", "p99"].map(|p| met[name][p].as_f64().unwrap());
        assert!(table("ttft_ms").is_sorted() && table("total_ms").is_sorted());
        assert!(table("ttft_ms")[0] > 0.0 && table("ttft_ms")[0] <= table("total_ms")[0]);
    }

    let listed = run(scene.hearth(&["keys", "list"])).expect(0).stdout;
    assert!(listed.contains("ci") && !listed.contains(secret), "{listed}");
    run(scene.hearth(&["keys", "revoke", "ci"])).expect(0);
    assert!(run(scene.hearth(&["keys", "revoke", "ci"])).expect(1).stderr.contains("no valid key"));
    run(scene.hearth(&["keys", "price", "model", "--prompt", "1", "--completion", "2"])).expect(0);
    let priced = lines(&run(scene.hearth(&["usage", "--json"])).expect(0).stdout);
    let cost: f64 = priced.iter().map(|line| line["cost"].as_f64().unwrap_or_else(|| panic!("{line}"))).sum();
    assert!(cost > 0.0);
}

#[test]
fn an_echo_says_what_it_is_and_a_slow_server_is_given_up() {
    let scene = Scene::new("serving-echo");
    let model = scene.text("model");
    let mut server = start(scene.hearth(&["serve", "--model", &model, "--port", "0", "--echo"]));
    let line = server.wait_for_line("serving `echo`");
    let url = line.split_whitespace().find(|word| word.starts_with("http")).unwrap().to_owned();
    let bench = |more: &[&str]| {
        let args = ["bench", "serve", "--url", &url, "--requests", "9", "--words", "8", "--json"];
        run(scene.hearth(&[&args[..], more].concat()))
    };
    let met = bench(&["--rate", "200", "--max-tokens", "5"]).expect(0).json();
    assert_eq!((&met["model"], &met["errors"]), (&"echo".into(), &0.into()));
    assert_eq!(met["completion_tokens"], 45, "an echo never stops early");
    assert!(bench(&["--timeout", "0"]).expect(1).stderr.contains("`--timeout` must be above 0"));
    server.kill();

    // A server that accepts and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let args = ["bench", "serve", "--url", &url, "--model", "m", "--requests", "1", "--timeout", "0.3"];
    let outcome = run(scene.hearth(&args)).expect(1);
    assert!(outcome.stderr.contains("no request was answered: timeout"), "{}", outcome.stderr);
}

#[test]
fn continuations_have_log_probabilities_without_a_server() {
    let scene = Scene::new("serving-logprobs");
    scene.write("pairs.jsonl", "{\"context\": \"the kiln \", \"continuation\": \"and\"}\n\n{\"context\": \"the kiln\", \"continuation\": \" and\"}\n");
    let (model, file) = (scene.text("model"), scene.text("pairs.jsonl"));
    let args = ["eval", "logprobs", "--model", &model, "--file", &file, "--json"];
    let scored = lines(&run(scene.hearth(&args)).expect(0).stdout);
    assert_eq!(scored.len(), 2);
    for line in &scored {
        let parts: Vec<f64> =
            line["logprobs"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect();
        assert!(!parts.is_empty() && parts.iter().all(|part| *part < 0.0), "{line}");
        assert_eq!(line["logprob"].as_f64().unwrap().to_bits(), parts.iter().sum::<f64>().to_bits());
    }
    assert_eq!(scored[0], scored[1], "a space at the context's end is the continuation's");
    for (text, expected) in [
        ("{\"context\": \"\", \"continuation\": \"x\"}", "must have a token each"),
        ("{\"context\": \"x\"}", "line 1 of"),
    ] {
        scene.write("pairs.jsonl", text);
        assert!(run(scene.hearth(&args)).expect(1).stderr.contains(expected), "{expected}");
    }
}
