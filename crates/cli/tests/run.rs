//! `hearth run` and `hearth train pretrain` as a user runs them: from raw text to a model that answers, kills in between,
//! and nothing computed twice.

#![expect(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "all of this file is tests")]

#[expect(dead_code, reason = "what only other tests use")]
mod program;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use program::{Scene, run};
use serde_json::Value;

/// A recipe that is done in seconds: one layer, some dozen steps.
const RECIPE: &str = r#"
name = "tiny"
seed = 3
[collect]
made_up_texts = 120
made_up_chats = 120
made_up_questions = 6
[clean]
[dedup]
near.enabled = false
[tokenizer]
vocab_size = 400
[pack]
validation_share = 0.1
[pretrain]
depth = 1
seq_len = 64
steps = 14
batch_tokens = 256
micro_tokens = 128
checkpoint_seconds = 0
sample = "One morning,"
[sft]
seq_len = 64
steps = 4
batch_tokens = 256
[evaluate]
max_tokens = 8
"#;

fn scene(name: &str) -> Scene {
    let scene = Scene::new(name);
    scene.write("tiny.toml", RECIPE);
    scene
}

fn recipe(scene: &Scene, more: &[&str]) -> Command {
    let mut command = scene.hearth(&["run", &scene.text("tiny.toml")]);
    command.args(more);
    command
}

/// Stages of a run in their order, with their keys.
fn stages(scene: &Scene, name: &str) -> Vec<(String, String)> {
    let text = fs_err::read_to_string(scene.home().join("runs").join(name).join("run.json")).unwrap();
    let record: Value = serde_json::from_str(&text).unwrap();
    let of = |stage: &Value, field: &str| stage[field].as_str().unwrap().to_owned();
    record["stages"].as_array().unwrap().iter().map(|stage| (of(stage, "stage"), of(stage, "key"))).collect()
}

fn folder(scene: &Scene, stage: &str) -> PathBuf {
    let stages = fs_err::read_dir(scene.home().join("cache/stages")).unwrap();
    let is_of =
        |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(&format!("{stage}-"));
    stages.map(|entry| entry.unwrap().path()).find(is_of).unwrap()
}

/// Step, loss and validation loss of each line of a stage, to the bit.
fn losses(scene: &Scene, stage: &str) -> Vec<[Value; 3]> {
    let text = fs_err::read_to_string(folder(scene, stage).join("metrics.jsonl")).unwrap();
    let line = |line: &str| {
        let json: Value = serde_json::from_str(line).unwrap();
        ["step", "loss", "validation_loss"].map(|key| json[key].clone())
    };
    text.lines().map(line).collect()
}

#[test]
fn a_recipe_makes_a_model_that_answers_and_a_changed_line_runs_only_what_depends_on_it() {
    let scene = scene("recipe");
    let first = run(recipe(&scene, &["--json"])).expect(0);
    let summary: Value = serde_json::from_str(first.stdout.trim()).unwrap();
    let names: Vec<&str> =
        summary["stages"].as_array().unwrap().iter().map(|stage| stage["stage"].as_str().unwrap()).collect();
    assert_eq!(names, ["collect", "clean", "dedup", "tokenizer", "pack", "pretrain", "sft", "evaluate"]);
    let model = summary["model"].as_str().unwrap();
    let spoken = run(scene.hearth(&[
        "generate",
        "--model",
        model,
        "--prompt",
        "hello",
        "--max-tokens",
        "5",
        "--json",
    ]));
    let spoken: Value = serde_json::from_str(spoken.expect(0).stdout.trim()).unwrap();
    assert!(!spoken["ids"].as_array().unwrap().is_empty());

    // Who asks finds the documents, and only where the text stands.
    let chats = fs_err::read_to_string(folder(&scene, "collect").join("chats.jsonl")).unwrap();
    let first_chat: Value = serde_json::from_str(chats.lines().next().unwrap()).unwrap();
    let asked = first_chat["messages"][0]["content"].as_str().unwrap();
    let lineage = |text: &str| -> Vec<Vec<Value>> {
        let outcome = run(scene.hearth(&["lineage", "tiny", "--contains", text, "--json"])).expect(0);
        let json: Value = serde_json::from_str(outcome.stdout.trim()).unwrap();
        let generations = json["generations"].as_array().unwrap();
        assert!(generations.iter().all(|generation| generation["weights_match"] == true));
        generations
            .iter()
            .map(|generation| generation["contains"]["documents"].as_array().unwrap().clone())
            .collect()
    };
    let found = lineage(asked);
    assert_eq!(found.len(), 2, "fine-tuned, and pretrained before");
    let origin = found[0].first().and_then(Value::as_str);
    assert!(origin.is_none_or(|origin| origin.contains("chats.jsonl:")), "{origin:?}");
    assert!(lineage("no story of theirs tells of zeppelins").iter().all(Vec::is_empty));

    let again = run(recipe(&scene, &[])).expect(0);
    assert_eq!(again.stderr.matches("as before").count(), 8, "{}", again.stderr);

    let before = stages(&scene, "tiny");
    let changed = run(recipe(&scene, &["--set", "sft.lr=0.002"])).expect(0);
    assert_eq!(changed.stderr.matches("as before").count(), 6, "{}", changed.stderr);
    let after = stages(&scene, "tiny");
    let other: Vec<&str> = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before != after)
        .map(|(before, _)| before.0.as_str())
        .collect();
    assert_eq!(other, ["sft", "evaluate"]);

    let anew = run(recipe(&scene, &["--from", "evaluate", "--set", "sft.lr=0.002"])).expect(0);
    assert_eq!(anew.stderr.matches("as before").count(), 7, "{}", anew.stderr);
}

#[test]
fn pretraining_that_is_killed_again_and_again_has_the_losses_of_a_whole_one() {
    let (whole, killed) = (scene("whole"), scene("killed"));
    run(recipe(&whole, &[])).expect(0);
    let mut kills = 0;
    // Each time a little later: somewhere in the first stages, then among the steps.
    for wait in [40, 400, 700, 1000, 1400, 1900] {
        let mut child = recipe(&killed, &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Nothing is ever sent: this only passes the time.
        let (_sender, never) = channel::<()>();
        let _ = never.recv_timeout(Duration::from_millis(wait));
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            kills += 1;
        }
        child.wait().unwrap();
    }
    assert!(kills >= 2, "{kills} kills");
    run(recipe(&killed, &[])).expect(0);
    for stage in ["pretrain", "sft"] {
        assert_eq!(losses(&whole, stage), losses(&killed, stage), "{stage}");
        let weights =
            |scene: &Scene| fs_err::read(folder(scene, stage).join("model/model.safetensors")).unwrap();
        assert!(weights(&whole) == weights(&killed), "{stage}: other weights");
    }
}

#[test]
fn pretraining_by_itself_refuses_what_has_changed_and_names_it() {
    let scene = scene("pretrain");
    run(recipe(&scene, &[])).expect(0);
    let (pack, tokenizer) = (folder(&scene, "pack"), folder(&scene, "tokenizer"));
    let setting = |name: &str, path: PathBuf| format!("{name}={}", path.display());
    let settings = [
        setting("tokens", pack.join("train")),
        setting("validation_tokens", pack.join("validation")),
        setting("tokenizer", tokenizer.clone()),
        "depth=1".into(),
        "seq_len=64".into(),
        "steps=3".into(),
        "batch_tokens=128".into(),
    ];
    let command = |more: &[&str]| {
        let mut command = scene.hearth(&["train", "pretrain"]);
        command.args(settings.iter().flat_map(|setting| ["--set", setting]));
        command.args(more);
        command
    };
    let done = run(command(&["-o", "mine", "--json"])).expect(0);
    let summary: Value = serde_json::from_str(done.stdout.trim()).unwrap();
    assert_eq!(summary["steps"], 3);
    assert!(scene.home().join("runs/mine/report.html").is_file());
    assert!(scene.home().join("runs/mine/model/hearth.json").is_file());
    let twice = run(command(&["-o", "mine"])).expect(1);
    assert!(twice.stderr.contains("`mine` is there already"), "{}", twice.stderr);
    let changed = run(scene.hearth(&["train", "pretrain", "--resume", "mine", "--set", "lr=0.5"])).expect(1);
    assert!(changed.stderr.contains("`config.schedule.lr` was"), "{}", changed.stderr);

    let other = scene.path("other");
    fs_err::create_dir_all(&other).unwrap();
    let mut json = fs_err::read(tokenizer.join("tokenizer.json")).unwrap();
    json.push(b'\n');
    fs_err::write(other.join("tokenizer.json"), json).unwrap();
    let wrong = setting("tokenizer", other);
    let refused = run(command(&["-o", "wrong", "--set", &wrong])).expect(1);
    assert!(refused.stderr.contains("are of another tokenizer"), "{}", refused.stderr);
}

#[test]
fn what_a_recipe_does_not_know_is_named() {
    let scene = scene("refused");
    let refused = |set: &str, part: &str| {
        let outcome = run(recipe(&scene, &["--set", set])).expect(1);
        assert!(outcome.stderr.contains(part), "{set}: {}", outcome.stderr);
    };
    refused("training.depth=3", "`training` isn't a stage");
    refused("pretrain.dept=3", "unknown field `dept`");
    refused("sft.lr=-1", "`lr` is -1");
    refused("collect.texts=[\"nowhere\"]", "nowhere");
    let outcome = run(recipe(&scene, &["--from", "finetune"])).expect(1);
    assert!(outcome.stderr.contains("no stage is called so"), "{}", outcome.stderr);
}
