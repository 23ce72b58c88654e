//! `hearth serve` as a user runs it: several models, adapters, and prompts that are known after a restart.
#![cfg(unix)]
#![expect(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "all of this file is tests")]

#[expect(dead_code, reason = "shared with tests that need more of it")]
mod program;

use std::io::{Read, Write};
use std::sync::Arc;

use hearth_kernels::pool::Pool;
use hearth_model::{Adapter, LoraConfig, Model};
use hearth_testkit::{TINY, TinyModel};
use program::{Running, Scene, run, start};
use serde_json::{Value, json};

fn serve(scene: &Scene, more: &[&str]) -> (Running, String) {
    let mut command =
        scene.hearth(&["serve", "--port", "0", "--model", &scene.text("model"), "--threads", "1"]);
    command.args(more);
    let mut running = start(command);
    let line = running.wait_for_line("serving `");
    let address = line.split("http://").nth(1).unwrap().split_whitespace().next().unwrap();
    let address = address.trim_end_matches('/').to_owned();
    (running, address)
}

fn stop(running: Running) -> String {
    running.interrupt();
    running.wait().expect(0).stderr
}

fn ask(address: &str, model: Option<&str>, text: &str) -> Value {
    let body = json!({
        "model": model, "messages": [{ "role": "user", "content": text }], "max_tokens": 12, "temperature": 0,
    });
    let mut body = body;
    if model.is_none() {
        body.as_object_mut().unwrap().remove("model");
    }
    let body = body.to_string();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_mins(1))).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{response}");
    serde_json::from_str(body).unwrap()
}

fn text(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}

fn get(address: &str, path: &str) -> Value {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    serde_json::from_str(response.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// An adapter that does something, saved as PEFT does.
fn write_adapter(scene: &Scene, name: &str) {
    write_adapter_of(scene, "model", name);
}

fn write_adapter_of(scene: &Scene, model: &str, name: &str) {
    let model = Model::open(&scene.path(model), &Pool::new(1)).unwrap();
    let config =
        LoraConfig { r: 2, lora_alpha: 16.0, target_modules: vec!["v_proj".into()], ..LoraConfig::default() };
    let mut adapter = Adapter::new(&model.decoder, config, 5).unwrap();
    for param in adapter.params_mut() {
        for (at, value) in Arc::make_mut(&mut param.data).iter_mut().enumerate() {
            *value = (at * 13 % 17) as f32 / 10.0 - 0.8;
        }
    }
    adapter.save(&scene.path(name)).unwrap();
}

#[test]
fn several_models_and_adapters_answer_by_their_names() {
    let scene = Scene::new("serve-models");
    TinyModel { num_layers: 1, ..TINY }.write(&scene.path("other")).unwrap();
    write_adapter(&scene, "terse-folder");
    let adapter = format!("terse={}", scene.text("terse-folder"));
    // Twice the same weights of another shape of model: the adapter is for that one.
    let of_other = format!("brief={}@other", scene.text("brief-folder"));
    write_adapter_of(&scene, "other", "brief-folder");
    let other = scene.text("other");
    let more = ["--model", &other, "--adapter", &adapter, "--adapter", &of_other, "--memory-budget", "200MB"];
    let more = [&more[..], &["--alias", "gpt-4o-mini", "--alias", "small=other"]].concat();
    let (running, address) = serve(&scene, &more);
    let base = ask(&address, None, "the kiln");
    assert_eq!(base["model"], "model", "the first one answers where none is named");
    assert_eq!(text(&ask(&address, Some("model"), "the kiln")), text(&base));
    assert_ne!(text(&ask(&address, Some("other"), "the kiln")), text(&base));
    assert_ne!(text(&ask(&address, Some("terse"), "the kiln")), text(&base));
    let of_other = ask(&address, Some("other"), "the kiln");
    let brief = ask(&address, Some("brief"), "the kiln");
    assert!(text(&brief) != text(&of_other) && text(&brief) != text(&base));
    assert_eq!(text(&ask(&address, Some("gpt-4o-mini"), "the kiln")), text(&base));
    assert_eq!(text(&ask(&address, Some("small"), "the kiln")), text(&of_other));
    stop(running);
}

#[test]
fn a_budget_for_two_models_unloads_the_one_asked_for_longest_ago_even_the_first() {
    let scene = Scene::new("serve-budget");
    for (name, num_layers) in [("second", 1), ("third", 3)] {
        TinyModel { num_layers, ..TINY }.write(&scene.path(name)).unwrap();
    }
    let (second, third) = (scene.text("second"), scene.text("third"));
    let (running, address) =
        serve(&scene, &["--model", &second, "--model", &third, "--memory-budget", "60MB"]);
    let loaded = || {
        let models = get(&address, "/v1/models");
        let names = models["data"].as_array().unwrap().iter().filter(|model| model["loaded"] == true);
        names.map(|model| model["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(loaded(), ["model"]);
    let first = ask(&address, Some("model"), "the kiln");
    ask(&address, Some("second"), "the kiln");
    assert_eq!(loaded(), ["model", "second"]);
    ask(&address, Some("third"), "the kiln");
    assert_eq!(loaded(), ["second", "third"]);
    assert_eq!(get(&address, "/readyz")["models"], 2);
    assert_eq!(text(&ask(&address, None, "the kiln")), text(&first), "it is loaded again");
    assert_eq!(loaded(), ["model", "third"]);
    stop(running);
}

#[test]
fn a_prompt_is_known_after_a_restart_unless_its_file_was_damaged() {
    let scene = Scene::new("serve-restart");
    let long = "the kiln and the fire ".repeat(40);
    let (running, address) = serve(&scene, &[]);
    let first = ask(&address, None, &long);
    running.terminate();
    running.wait().expect(0);
    let folder = scene.home().join("cache/prefixes");
    assert!(fs_err::read_dir(&folder).unwrap().count() > 2);

    let (running, address) = serve(&scene, &[]);
    let second = ask(&address, None, &long);
    stop(running);
    assert_eq!(text(&second), text(&first));
    let cached = |answer: &Value| answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert_eq!(cached(&first), 0);
    assert!(cached(&second) + 64 >= second["usage"]["prompt_tokens"].as_u64().unwrap(), "{second}");

    for entry in fs_err::read_dir(&folder).unwrap() {
        fs_err::write(entry.unwrap().path(), "damaged").unwrap();
    }
    let (running, address) = serve(&scene, &[]);
    let third = ask(&address, None, &long);
    assert_eq!((text(&third), cached(&third)), (text(&first), 0));
    let said = stop(running);
    assert!(said.contains("isn't used: it is cut; it is computed again"), "{said}");

    let (running, address) = serve(&scene, &["--disk-cache", "0"]);
    assert_eq!(cached(&ask(&address, None, &long)), 0);
    stop(running);
}

#[test]
fn what_cannot_be_served_is_said_before_the_server_runs() {
    let scene = Scene::new("serve-refusals");
    write_adapter(&scene, "terse-folder");
    let model = scene.text("model");
    let folder = scene.text("terse-folder");
    let cases: [(&[&str], i32, &str); 10] = [
        (&["--memory-budget", "lots"], 2, "`lots` isn't a size such as 800MB"),
        (&["--memory-budget", "10kB"], 1, "the memory budget is 10000 bytes"),
        (&["--adapter", "terse"], 2, "`terse` isn't NAME=FOLDER"),
        (&["--adapter", &format!("model={folder}")], 1, "`--adapter model` has the name of a model"),
        (&["--adapter", "terse=/nowhere"], 1, "/nowhere"),
        (&["--adapter", &format!("terse={folder}@other")], 1, "no `--model` is called so; known are `model`"),
        (&["--alias", "x=other"], 1, "no `--model` is called `other`"),
        (&["--alias", "model"], 1, "something is called `model` already"),
        (&["--upstreams", "/nowhere.json"], 1, "/nowhere.json"),
        (&["--echo", "--adapter", &format!("terse={folder}")], 2, "cannot be used with"),
    ];
    for (more, code, expected) in cases {
        let mut command = scene.hearth(&["serve", "--port", "0", "--model", &model]);
        command.args(more);
        let outcome = run(command).expect(code);
        assert!(outcome.stderr.contains(expected), "{more:?}: {}", outcome.stderr);
    }
}
