//! Options for long contexts as a user gives them: types of keys and values, few pages, prompts that don't fit.

#![expect(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "all of this file is tests")]

#[expect(dead_code, reason = "what only the tests of other verbs use")]
mod program;

use program::{Scene, run};
use serde_json::Value;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_type_of_keys_generates_and_is_named_in_the_speeds() {
    let scene = Scene::new("kv-type");
    let model = scene.text("model");
    for (kv_type, pages) in [("f32", None), ("f16", None), ("q8_0", None), ("q8_0", Some(2))] {
        let options =
            [vec!["--kv-type", kv_type], pages.map_or(vec![], |_| vec!["--sparse-pages", "2"])].concat();
        let mut generate =
            scene.hearth(&["generate", "--model", &model, "--prompt", "the thin tin", "--json"]);
        generate.args(["--max-tokens", "8"]).args(&options);
        let line = run(generate).expect(0).json();
        assert_eq!(line["ids"].as_array().unwrap().len(), 8);
        assert_eq!(line["dropped_prompt_tokens"], 0);
        let mut bench = scene.hearth(&["bench", "infer", "--model", &model, "--json", "--repeat", "1"]);
        bench.args(["--pp", "16", "--tg", "4", "--depth", "0,200", "--threads", "2"]).args(&options);
        let lines = lines(&run(bench).expect(0).stdout);
        assert_eq!(lines.len(), 4);
        for (line, depth) in lines.iter().zip([0, 0, 200, 200]) {
            assert_eq!(line["kv_type"], kv_type);
            assert_eq!(line["sparse_pages"].as_u64(), pages);
            assert_eq!((line["depth"].as_u64(), line["threads"].as_u64()), (Some(depth), Some(2)));
            assert!(line["tokens_per_s"].as_f64().unwrap() > 0.0);
        }
    }
}

#[test]
fn a_prompt_that_does_not_fit_is_cut_only_when_told_to_and_says_so() {
    let scene = Scene::new("overflow");
    scene.write("long.txt", "the thin tin and ".repeat(2000));
    let mut args =
        vec!["generate", "--model", "MODEL", "--raw", "--max-tokens", "5", "--json", "--prompt-file", "FILE"];
    let (model, file) = (scene.text("model"), scene.text("long.txt"));
    (args[2], args[8]) = (&model, &file);
    let refused = run(scene.hearth(&args)).expect(1);
    assert!(refused.stderr.contains("tokens, the context holds 4096"), "{}", refused.stderr);
    let cut = run({
        let mut command = scene.hearth(&args);
        command.args(["--overflow", "drop-middle"]);
        command
    });
    let cut = cut.expect(0);
    let line = cut.json();
    let dropped = line["dropped_prompt_tokens"].as_u64().unwrap();
    let kept = line["prompt_ids"].as_array().unwrap().len();
    // Room for five tokens and the one behind them.
    assert_eq!(kept, 4096 - 6);
    assert!(dropped > 0);
    assert!(
        cut.stderr.contains(&format!("dropped {dropped} of {} prompt tokens", dropped as usize + kept)),
        "{}",
        cut.stderr
    );
}

#[test]
fn needles_are_hidden_at_each_depth_and_counted() {
    let scene = Scene::new("needle");
    scene.write("hay.txt", "The kiln cools for fourteen hours. ".repeat(20));
    let mut command = scene.hearth(&["eval", "needle", "--model", &scene.text("model"), "--json"]);
    command.args([
        "--text",
        &scene.text("hay.txt"),
        "--lengths",
        "200,300",
        "--depths",
        "0,1",
        "--needles",
        "1",
    ]);
    let found = lines(&run(command).expect(0).stdout);
    let places: Vec<_> = found.iter().map(|line| (line["length"].as_u64(), line["depth"].as_f64())).collect();
    let expected = [(200, 0.0), (200, 1.0), (300, 0.0), (300, 1.0)];
    assert_eq!(places, expected.map(|(length, depth)| (Some(length), Some(depth))));
    // A model of random weights finds nothing.
    assert!(found.iter().all(|line| line["found"] == 0 && line["needles"] == 1));
}

#[test]
fn a_model_says_what_a_token_of_context_costs() {
    let scene = Scene::new("kv-bytes");
    let shown = run(scene.hearth(&["show", &scene.text("model"), "--json"])).expect(0).json();
    let bytes = |name: &str| shown["kv_bytes_per_token"][name].as_u64().unwrap();
    assert_eq!(bytes("f32"), 2 * bytes("f16"));
    // A scale of four bytes for 32 channels, or for what a smaller head has.
    assert!(bytes("q8_0") > bytes("f32") / 4 && bytes("q8_0") < bytes("f16"));
}
