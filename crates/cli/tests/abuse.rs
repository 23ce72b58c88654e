//! The server as a program among clients that mean it no good, and killed in the middle of its work.
#![cfg(unix)]
#![expect(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "all of this file is tests")]

#[expect(dead_code, reason = "shared with tests that need more of it")]
mod program;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use program::{Running, Scene, run, start};
use serde_json::{Value, json};

/// Of clients that want nothing good.
const CROWD: usize = 1000;

fn serve(scene: &Scene) -> (Running, String) {
    let model = scene.text("model");
    let mut running = start(scene.hearth(&["serve", "--port", "0", "--model", &model, "--disk-cache", "0"]));
    let line = running.wait_for_line("serving `");
    let address = line.split("http://").nth(1).unwrap().split_whitespace().next().unwrap();
    (running, address.trim_end_matches('/').to_owned())
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    stream
}

fn chat(app: &str, text: &str, max_tokens: usize, is_stream: bool) -> String {
    let mut body = json!({
        "messages": [{ "role": "user", "content": text }], "max_tokens": max_tokens, "temperature": 0,
        "ignore_eos": true, "stream": is_stream,
    });
    if is_stream {
        body["stream_options"] = json!({ "include_usage": true });
    }
    let body = body.to_string();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         x-hearth-app: {app}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn ask(address: &str, request: &str) -> String {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

fn answer(address: &str) -> Value {
    let response = ask(address, &chat("", "the kiln", 12, false));
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{response}"));
    assert!(head.starts_with("HTTP/1.1 200"), "{response}");
    serde_json::from_str::<Value>(body).unwrap()["choices"].clone()
}

fn metric(address: &str, name: &str) -> u64 {
    let text = ask(address, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
}

/// Silent, slow with its head, slow with its body, and deaf to a stream that is too long for every buffer.
fn pest(address: &str, kind: usize) -> TcpStream {
    let mut stream = connect(address);
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n";
    match kind {
        0 => {}
        1 => stream.write_all(head.as_bytes()).unwrap(),
        _ => write!(stream, "{head}Content-Length: 1000\r\n\r\n{{\"mess").unwrap(),
    }
    stream
}

#[test]
fn a_thousand_slow_clients_and_floods_hold_nobody_up_and_cost_little() {
    raise_file_limit();
    let scene = Scene::new("abuse-slow");
    let (running, address) = serve(&scene);
    let expected = answer(&address);
    let before = metric(&address, "hearth_resident_bytes");
    let mut crowd: Vec<TcpStream> = (0..CROWD).map(|i| pest(&address, i % 3)).collect();
    let mut deaf: Vec<TcpStream> = Vec::new();
    for i in 0..16 {
        let mut stream = connect(&address);
        stream.write_all(chat("deaf", &format!("{i}"), 200, true).as_bytes()).unwrap();
        deaf.push(stream);
    }
    for round in 0..10 {
        // A byte now and then keeps a slow client alive, and a flood of headers is a connection's own affair.
        for (i, stream) in crowd.iter_mut().enumerate().filter(|(i, _)| i % 3 == 1) {
            let _ = write!(stream, "x-{round}-{i}: y\r\n");
        }
        let headers = (0..400).fold(String::new(), |text, i| format!("{text}x-{i}: y\r\n"));
        let mut flood = connect(&address);
        let _ = write!(flood, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        let mut refused = String::new();
        let _ = flood.read_to_string(&mut refused);
        assert!(refused.is_empty() || refused.starts_with("HTTP/1.1 431"), "{refused}");
        let asked = Instant::now();
        assert_eq!(answer(&address), expected);
        assert!(asked.elapsed() < Duration::from_secs(20), "round {round} took {:?}", asked.elapsed());
    }
    let after = metric(&address, "hearth_resident_bytes");
    assert!(after < before + (96 << 20), "{before} bytes before, {after} among {CROWD} clients");
    drop((crowd, deaf));
    let started = Instant::now();
    while metric(&address, "hearth_running_sequences") > 0 {
        assert!(started.elapsed() < Duration::from_mins(1), "answers that nobody reads go on");
    }
    assert_eq!(answer(&address), expected);
    running.terminate();
    running.wait().expect(0);
}

/// Reads a stream to its end: what it cost, or nothing if it broke off.
fn usage_of_stream(address: &str, app: &str, text: &str) -> Option<[u64; 3]> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(chat(app, text, 20, true).as_bytes()).ok()?;
    let mut usage = None;
    for line in BufReader::new(stream).lines() {
        let line = match line {
            Ok(line) => line,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
            Err(_) => return None,
        };
        let Some(data) = line.strip_prefix("data: ") else { continue };
        if data == "[DONE]" {
            return usage;
        }
        let chunk: Value = serde_json::from_str(data).ok()?;
        if chunk["usage"].is_object() {
            let count = |path: &str| chunk.pointer(path).and_then(Value::as_u64).unwrap();
            usage = Some([
                count("/usage/prompt_tokens"),
                count("/usage/prompt_tokens_details/cached_tokens"),
                count("/usage/completion_tokens"),
            ]);
        }
    }
    None
}

fn accounts(scene: &Scene) -> BTreeMap<String, [u64; 4]> {
    let used = run(scene.hearth(&["usage", "--json"])).expect(0).stdout;
    let row = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let count = |name: &str| line[name].as_u64().unwrap();
        let counts = ["requests", "prompt_tokens", "cached_tokens", "completion_tokens"].map(count);
        (line["app"].as_str().unwrap().to_owned(), counts)
    };
    used.lines().map(row).collect()
}

#[test]
fn a_kill_under_load_keeps_the_account_of_every_answer_that_was_read() {
    const CLIENTS: usize = 8;
    let scene = Scene::new("abuse-kill");
    let (running, address) = serve(&scene);
    let running = Mutex::new(Some(running));
    let (next, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let read = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    // Each request is an application of its own, so that accounts can be compared one by one.
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let app = format!("app{number}");
                    let text = format!("the kiln and the fire {}", number % 3);
                    let Some(usage) = usage_of_stream(&address, &app, &text) else { return };
                    read.lock().unwrap().insert(app, usage);
                    if answered.fetch_add(1, Ordering::Relaxed) == 60 {
                        running.lock().unwrap().take().unwrap().kill();
                    }
                }
            });
        }
    });
    let read = read.into_inner().unwrap();
    let kept = accounts(&scene);
    assert!(read.len() > 60, "{}", read.len());
    for (app, [prompt, cached, completion]) in &read {
        assert_eq!(kept.get(app), Some(&[1, *prompt, *cached, *completion]), "{app}");
    }
    assert!(read.values().any(|usage| usage[1] > 0), "prompts that begin alike are reused");
    let unread = kept.keys().filter(|app| !read.contains_key(*app)).count();
    assert!(unread <= CLIENTS, "{unread} accounts of answers that nobody read");

    let (running, address) = serve(&scene);
    let usage = usage_of_stream(&address, "after", "the kiln").unwrap();
    running.terminate();
    running.wait().expect(0);
    let after = accounts(&scene);
    assert_eq!(after["after"], [1, usage[0], usage[1], usage[2]]);
    assert_eq!(after.len(), kept.len() + 1);
}

/// This process holds a thousand connections, too.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}
