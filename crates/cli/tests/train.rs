//! `hearth train sft` and `hearth merge` as a user runs them: kills, full disks, damage and changes under a run; and an
//! adapter on its way to being generated with, merged and converted.

#![expect(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "all of this file is tests")]

#[expect(dead_code, reason = "what only the tests of `hearth up` use")]
mod program;

use std::path::PathBuf;
use std::process::Command;

use hearth_testkit::{Family, TINY, TinyModel};
use program::{Outcome, Scene, files, run, start};
use serde_json::Value;

const WORDS: [&str; 12] =
    ["coal", "oak", "ash", "kiln", "soot", "log", "tongs", "flue", "box", "tray", "brush", "axe"];

/// A scene with `chats.jsonl`: twelve short conversations.
fn scene(name: &str) -> Scene {
    let scene = Scene::new(name);
    scene.write("chats.jsonl", chats(0));
    scene
}

fn chats(shift: usize) -> String {
    let row = |i: usize| {
        let answer = WORDS[(i + shift) % WORDS.len()];
        format!(r#"{{"prompt": "what of the {}?", "completion": "it is a {answer}"}}"#, WORDS[i]) + "\n"
    };
    (0..WORDS.len()).map(row).collect()
}

/// Twelve steps with a checkpoint after each.
fn train(scene: &Scene, name: &str, more: &[&str]) -> Command {
    train_on(scene, "model", name, more)
}

fn train_on(scene: &Scene, model: &str, name: &str, more: &[&str]) -> Command {
    let (model, data) = (scene.text(model), scene.text("chats.jsonl"));
    let mut command = scene.hearth(&["train", "sft", "--model", &model, "--data", &data, "-o", name]);
    command.args([
        "--set",
        "steps=12",
        "--set",
        "lr=0.01",
        "--set",
        "batch_tokens=64",
        "--set",
        "checkpoint_seconds=0",
    ]);
    command
        .args(["--set", "neftune_alpha=5", "--set", "validate_every=3", "--set", "patience=100"])
        .args(more);
    command
}

fn resume(scene: &Scene, name: &str, more: &[&str]) -> Command {
    let mut command = scene.hearth(&["train", "sft", "--resume", name]);
    command.args(more);
    command
}

fn folder(scene: &Scene, name: &str) -> PathBuf {
    scene.home().join("runs").join(name)
}

/// Step, loss and validation loss of each line, to the bit.
fn losses(scene: &Scene, name: &str) -> Vec<[Value; 3]> {
    let text = fs_err::read_to_string(folder(scene, name).join("metrics.jsonl")).unwrap();
    let line = |line: &str| {
        let json: Value = serde_json::from_str(line).unwrap();
        ["step", "loss", "validation_loss"].map(|key| json[key].clone())
    };
    text.lines().map(line).collect()
}

#[track_caller]
fn check_refused(outcome: Outcome, parts: &[&str]) {
    let outcome = outcome.expect(1);
    for part in parts {
        assert!(outcome.stderr.contains(part), "no `{part}` in:\n{}", outcome.stderr);
    }
}

#[test]
fn a_run_killed_again_and_again_has_the_losses_of_a_whole_one() {
    let scene = scene("train-kill");
    let whole = run(train(&scene, "whole", &["--json"])).expect(0).json();
    assert_eq!((&whole["steps"], &whole["examples"]), (&12.into(), &11.into()));
    assert_eq!(losses(&scene, "whole").len(), 12 + 5);

    let checkpoint =
        |step: usize| folder(&scene, "killed").join(format!("checkpoints/step-{step}/checkpoint.json"));
    let mut running = start(train(&scene, "killed", &[]));
    running.wait_for_file(|| Some(folder(&scene, "killed").join("run.json")));
    running.kill();
    for step in [1, 2, 5, 9] {
        let mut running = start(resume(&scene, "killed", &[]));
        running.wait_for_file(|| (step..12).map(checkpoint).find(|path| path.is_file()));
        running.kill();
    }
    run(resume(&scene, "killed", &[])).expect(0);
    assert_eq!(losses(&scene, "killed"), losses(&scene, "whole"));
    assert_eq!(
        files(&folder(&scene, "killed").join("adapter"))[1].1,
        files(&folder(&scene, "whole").join("adapter"))[1].1
    );
    // One thread computes what all do.
    run(train(&scene, "one", &["--threads", "1"])).expect(0);
    assert_eq!(losses(&scene, "one"), losses(&scene, "whole"));
    let page = fs_err::read_to_string(folder(&scene, "whole").join("report.html")).unwrap();
    assert!(page.contains("<polyline") && page.contains("validation loss"), "{page}");
    let listed = run(scene.hearth(&["runs", "--json"])).expect(0).stdout;
    assert_eq!(listed.lines().count(), 3, "{listed}");
    let compared = run(scene.hearth(&["runs", "whole", "one", "--json"])).expect(0).json();
    assert_eq!(compared["settings"], serde_json::json!({}), "only their names differ");
    let last = compared["validation"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["step"], &last["losses"][0]), (&12.into(), &last["losses"][1]));
    check_refused(run(scene.hearth(&["runs", "nobody"])), &["no run is called `nobody`"]);
    let kept = fs_err::read_dir(folder(&scene, "whole").join("checkpoints")).unwrap().count();
    assert_eq!(kept, 2, "the last two checkpoints");
}

#[test]
fn a_run_under_which_something_changed_is_refused_with_the_difference() {
    let scene = scene("train-changed");
    run(train(&scene, "run", &[])).expect(0);
    check_refused(run(train(&scene, "run", &[])), &["a run called `run` is there already", "--resume run"]);
    check_refused(run(resume(&scene, "other", &[])), &["no run is called `other`"]);
    check_refused(run(resume(&scene, "../run", &[])), &["can't name a run"]);
    check_refused(run(resume(&scene, "run", &["--lr", "0.02"])), &["`config.lr` was 0.01 and is 0.02 now"]);
    check_refused(
        run(resume(&scene, "run", &["--set", "dora=true"])),
        &["`config.dora` was false and is true now"],
    );
    run(resume(&scene, "run", &["--set", "keep_checkpoints=1"])).expect(0);
    scene.write("chats.jsonl", chats(1));
    check_refused(run(resume(&scene, "run", &[])), &["`inputs[0].sha256` was"]);
    scene.write("chats.jsonl", chats(0));
    run(resume(&scene, "run", &[])).expect(0);
    TinyModel { seed: 9, ..TINY }.write(&scene.path("model")).unwrap();
    check_refused(run(resume(&scene, "run", &[])), &["`model.sha256` was"]);
}

#[test]
fn two_trainers_on_one_run_are_kept_apart() {
    let scene = scene("train-two");
    let mut first = start(train(&scene, "run", &["--set", "steps=100000"]));
    first.wait_for_file(|| Some(folder(&scene, "run").join("metrics.jsonl")));
    check_refused(run(resume(&scene, "run", &[])), &["another hearth process", "run/lock"]);
    check_refused(run(train(&scene, "run", &[])), &["another hearth process"]);
    first.interrupt();
    let outcome = first.wait().expect(1);
    assert!(outcome.stderr.contains("go on with: hearth train sft --resume run"), "{}", outcome.stderr);
}

#[test]
fn a_disk_that_fills_up_leaves_the_last_checkpoint_whole() {
    let scene = scene("train-disk");
    run(train(&scene, "whole", &[])).expect(0);
    let mut running = start(train(&scene, "run", &[]));
    running.wait_for_file(|| Some(folder(&scene, "run").join("checkpoints/step-1/checkpoint.json")));
    running.kill();
    // Files end at 100 KiB, before an adapter does; the signal that comes with it is ignored.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 200; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_hearth")]);
    limited
        .args(["train", "sft", "--resume", "run"])
        .env("HEARTH_HOME", scene.home())
        .env("HEARTH_OFFLINE", "1");
    check_refused(
        run(limited),
        &[
            "can't be written",
            "is whole",
            "adapter_model.safetensors",
            "go on with: hearth train sft --resume run",
        ],
    );
    run(resume(&scene, "run", &[])).expect(0);
    assert_eq!(losses(&scene, "run"), losses(&scene, "whole"));
}

#[test]
fn a_damaged_checkpoint_is_named_and_passed_over_when_told_to() {
    let scene = scene("train-damaged");
    run(train(&scene, "run", &[])).expect(0);
    let before = losses(&scene, "run");
    let moments = folder(&scene, "run").join("checkpoints/step-12/first_moments.bin");
    let mut bytes = fs_err::read(&moments).unwrap();
    bytes[100] ^= 4;
    fs_err::write(&moments, bytes).unwrap();
    check_refused(
        run(resume(&scene, "run", &[])),
        &["step-12", "`first_moments.bin` is damaged", "--resume run --checkpoint 11"],
    );
    check_refused(run(resume(&scene, "run", &["--checkpoint", "7"])), &["no checkpoint of step 7", "11, 12"]);
    run(resume(&scene, "run", &["--checkpoint", "11"])).expect(0);
    assert_eq!(losses(&scene, "run"), before);
}

#[test]
fn rows_that_can_not_be_used_stop_the_run_unless_that_is_allowed() {
    let scene = scene("train-rows");
    let mut bytes = chats(0).into_bytes();
    bytes.extend(b"{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n\xff\n{\"text\": 1}\n");
    bytes.extend(format!("{{\"prompt\": \"{}\", \"completion\": \"a\"}}\n", "kiln ".repeat(3000)).bytes());
    scene.write("chats.jsonl", bytes);
    let expected = [
        "4 rows can't be used",
        "chats.jsonl:13: ends with a `user` turn",
        "chats.jsonl:14: byte 1 isn't UTF-8",
        "chats.jsonl:15: has none of `messages`",
        "chats.jsonl:16: ",
        "nothing is cut",
        "--allow-skips",
    ];
    check_refused(run(train(&scene, "run", &[])), &expected);
    let outcome = run(train(&scene, "run", &["--allow-skips", "--json"])).expect(0);
    assert_eq!(outcome.json()["skipped"], 4);
    assert!(outcome.stderr.contains("chats.jsonl:15"), "{}", outcome.stderr);
}

#[test]
fn a_rate_that_explodes_is_stopped_and_the_documents_are_named() {
    let scene = scene("train-explodes");
    let more = ["--set", "lr=1000", "--set", "steps=200", "--set", "warmup_steps=0"];
    let outcome = run(train(&scene, "run", &more)).expect(1);
    assert!(outcome.stderr.contains("chats.jsonl:"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("at step ") || outcome.stderr.contains("of step "), "{}", outcome.stderr);
}

#[test]
fn settings_come_from_a_file_and_what_is_not_known_is_named() {
    let scene = scene("train-settings");
    let model = scene.text("model");
    scene.write(
        "recipe/run.toml",
        format!("model = {model:?}\ndata = \"../chats.jsonl\"\nsteps = 2\nrank = 4\nbatch_tokens = 64\noutput = \"filed\"\n"),
    );
    let file = scene.text("recipe/run.toml");
    run(scene.hearth(&["train", "sft", &file, "--set", "schedule=linear"])).expect(0);
    let record: Value =
        serde_json::from_slice(&fs_err::read(folder(&scene, "filed").join("run.json")).unwrap()).unwrap();
    let config = &record["config"];
    assert_eq!(
        (&config["rank"], &config["alpha"], &config["schedule"]),
        (&4.into(), &8.0.into(), &"linear".into())
    );
    assert_eq!(config["method"], "lora");
    let refused = |more: &[&str], parts: &[&str]| {
        check_refused(run(scene.hearth(&[&["train", "sft", &file, "-o", "x"], more].concat())), parts);
    };
    refused(&["--set", "rnak=4"], &["unknown field `rnak`", "`rank`"]);
    refused(&["--set", "rank"], &["isn't KEY=VALUE"]);
    refused(&["--set", "rank=0"], &["`rank` is 0"]);
    refused(&["--set", "lr=nan"], &["`lr` is NaN"]);
    refused(&["--method", "full"], &["full isn't there yet"]);
    refused(&["--method", "qlora"], &["needs a quantised base"]);
    refused(&["--set", "targets=[\"lm_head\"]"], &["`lm_head`"]);
    refused(&["--set", "layers=[2]"], &["layer 2, but the decoder has 2"]);
    refused(&["--data", "/nowhere/chats.jsonl"], &["/nowhere/chats.jsonl"]);
    check_refused(run(scene.hearth(&["train", "sft"])), &["no data to learn from"]);
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes/finetune.toml");
    let ours = [
        "--model",
        &model,
        "--data",
        &scene.text("chats.jsonl"),
        "--method",
        "lora",
        "--steps",
        "1",
        "-o",
        "ours",
    ];
    run(scene.hearth(&[&["train", "sft", committed], &ours[..]].concat())).expect(0);
    scene.write("recipe/bad.toml", "rank = \n");
    check_refused(
        run(scene.hearth(&["train", "sft", &scene.text("recipe/bad.toml")])),
        &["bad.toml", "line 1"],
    );
}

#[test]
fn an_adapter_is_generated_with_merged_and_converted_to_the_same_answers() {
    for (family, dora) in [(Family::Llama, false), (Family::Qwen2, true)] {
        let scene = scene("train-merge");
        TinyModel { family, ..TINY }.write(&scene.path("model")).unwrap();
        let json = |args: &[&str]| -> Value { run(scene.hearth(args)).expect(0).json() };
        let (model, gguf) = (scene.text("model"), scene.text("base.gguf"));
        run(scene.hearth(&["convert", &model, &gguf])).expect(0);
        // Trained on the file, whose rows of q and k Llama has in another order.
        let dora = format!("dora={dora}");
        run(train_on(&scene, "base.gguf", "mine", &["--set", "steps=30", "--set", &dora])).expect(0);
        let answer = |model: &str, more: &[&str]| {
            let args = ["generate", "--model", model, "--prompt", "what of the kiln?", "--json"];
            let more = [&["--temperature", "0", "--max-tokens", "12", "--kv-type", "f32"], more].concat();
            json(&[&args[..], &more].concat())["ids"].clone()
        };
        let adapted = answer(&gguf, &["--adapter", "mine"]);
        assert_ne!(adapted, answer(&gguf, &[]), "the adapter does something");
        assert_eq!(answer(&model, &["--adapter", "mine"]), adapted, "on the folder as on the file");
        for (base, target) in [(&gguf, "m.gguf"), (&gguf, "m"), (&model, "n.gguf"), (&model, "n")] {
            let target = scene.text(target);
            let report = json(&["merge", base, "mine", "-o", &target, "--json"]);
            let difference = report["proof"]["max_logit_difference"].as_f64().unwrap();
            assert!(difference < 2e-3, "{family:?} {target}: {difference}");
            assert_eq!(answer(&target, &[]), adapted, "{family:?} {target}");
        }
        let small = scene.text("small.gguf");
        let report = json(&["merge", &model, "mine", "-o", &small, "--type", "q8_0", "--json"]);
        assert!(report["proof"]["mean_divergence"].as_f64().unwrap() > 0.0);
        check_refused(
            run(scene.hearth(&["merge", &model, "nobody", "-o", &small])),
            &["no adapter `nobody`"],
        );
        check_refused(run(scene.hearth(&["merge", &model, "mine", "-o", &small])), &["is there already"]);
        TinyModel { num_layers: 1, ..TINY }.write(&scene.path("short")).unwrap();
        let short = scene.text("short");
        check_refused(
            run(scene.hearth(&["merge", &short, "mine", "-o", &scene.text("x")])),
            &["doesn't fit this model"],
        );
    }
}
