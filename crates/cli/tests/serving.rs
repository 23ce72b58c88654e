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
