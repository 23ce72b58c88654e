//! Running the server: ids, logs, metrics, other sites, TLS, hostile clients, stopping.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use hearth_serve::{Options, Server, Tls};
use serde_json::{Value, json};

use crate::client;
use crate::serving::{Serving, chat_body};

#[test]
fn requests_have_ids_and_a_log_line_without_their_words() {
    let serving = Serving::start();
    let lines = Arc::new(Mutex::new(Vec::<Value>::new()));
    let written = Arc::clone(&lines);
    serving.state.set_log(Arc::new(move |line| written.lock().unwrap().push(line.clone())));
    let own = client::post_with(
        serving.address(),
        "/v1/chat/completions",
        "x-request-id: mine-7",
        &chat_body(&json!({})),
    );
    assert_eq!(own.header("x-request-id"), "mine-7");
    let first = serving.get("/v1/models").header("x-request-id").to_owned();
    let second = serving.get("/v1/nothing").header("x-request-id").to_owned();
    assert!(first.starts_with("req_") && first != second);
    let lines = lines.lock().unwrap();
    assert_eq!(lines.len(), 3);
    assert_eq!((&lines[0]["request_id"], &lines[0]["status"]), (&json!("mine-7"), &json!(200)));
    assert_eq!((&lines[2]["path"], &lines[2]["error"]), (&json!("/v1/nothing"), &json!("not_found_error")));
    assert!(lines.iter().all(|line| !line.to_string().contains("kiln")));
}

#[test]
fn metrics_count_what_happened() {
    let serving = Serving::start();
    let usage = serving.chat(&json!({})).json()["usage"].clone();
    serving.get("/v1/nothing");
    let text = serving.get("/metrics").text();
    let value = |name: &str| {
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        line.unwrap_or_else(|| panic!("{name} in {text}")).split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(value("hearth_requests_finished_total"), "1");
    assert_eq!(value("hearth_requests_refused_total"), "1");
    assert_eq!(value("hearth_prompt_tokens_total"), usage["prompt_tokens"].to_string());
    assert_eq!(value("hearth_completion_tokens_total"), "24");
    assert_eq!(value("hearth_time_to_first_token_seconds_count"), "1");
    assert_eq!(value("hearth_inter_token_seconds_count"), "23");
    assert_ne!(value("hearth_kv_bytes"), "0");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (_, number) = line.rsplit_once(' ').unwrap();
        number.parse::<f64>().unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}

#[test]
fn every_path_of_the_document_is_answered() {
    let serving = Serving::start();
    let document = serving.get("/openapi.json").json();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() >= 15);
    for (path, operations) in paths {
        let path = path.replace("{name}", "tiny").replace("{id}", "0").replace("{document}", "a/b");
        let status = match operations.get("post") {
            Some(_) => serving.post(&path, &json!({ "nonsense": 1 })).status,
            None => serving.get(&path).status,
        };
        // What can only be deleted is known, and not to be read.
        let expected = match (operations.get("post"), operations.get("get")) {
            (Some(_), _) => 400,
            (None, Some(_)) => 200,
            (None, None) => 405,
        };
        assert_eq!(status, expected, "{path}");
    }
}

#[test]
fn pages_of_named_sites_may_ask_and_others_not() {
    let serving = Serving::start();
    let options = Options { allowed_origins: vec!["https://app.example".into()], tls: None };
    let server = Server::bind(([127, 0, 0, 1], 0).into()).unwrap().with(options).unwrap();
    let running = server.start(Arc::clone(&serving.state)).unwrap();
    let ask = |method: &str, origin: &str| {
        client::send(running.address(), &format!("{method} /v1/models HTTP/1.1\r\nOrigin: {origin}"), b"")
    };
    let allowed = ask("GET", "https://app.example");
    assert_eq!((allowed.status, allowed.header("access-control-allow-origin")), (200, "https://app.example"));
    let preflight = ask("OPTIONS", "https://app.example");
    assert_eq!(preflight.status, 204);
    assert!(preflight.header("access-control-allow-headers").contains("authorization"));
    let refused = ask("GET", "https://evil.example");
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (403, ""));
    assert_eq!(ask("OPTIONS", "https://evil.example").status, 403);
}

#[test]
fn heads_that_are_too_large_and_garbage_cost_one_connection_each() {
    let serving = Serving::start();
    let raw = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(serving.address()).unwrap();
        // A server that has seen enough may close before it has read all of it.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
    };
    let flood = (0..500).fold(String::new(), |text, i| format!("{text}x-{i}: y\r\n"));
    assert!(
        raw(format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{flood}\r\n").as_bytes()).contains("431")
    );
    let long = "y".repeat(200_000);
    let answer = raw(format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nx: {long}\r\n\r\n").as_bytes());
    assert!(answer.is_empty() || answer.contains("431"), "{answer}");
    assert!(!raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").contains("200"));
    // Half a body, then silence: the request ends with its connection.
    raw(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{");
    assert_eq!(serving.chat(&json!({})).status, 200);
}

#[test]
fn hundreds_of_idle_connections_hold_nobody_up() {
    let serving = Serving::start();
    let idle: Vec<TcpStream> = (0..300)
        .map(|i| {
            let mut stream = TcpStream::connect(serving.address()).unwrap();
            if i % 2 == 0 {
                stream.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nHost: loc").unwrap();
            }
            stream
        })
        .collect();
    assert_eq!(serving.chat(&json!({})).status, 200);
    assert_eq!(idle.len(), 300);
}

#[test]
fn a_client_that_never_reads_keeps_no_place_of_others() {
    let serving = Serving::with(4096, 2);
    let body = chat_body(&json!({ "stream": true, "max_tokens": 300, "logprobs": true, "top_logprobs": 20 }))
        .to_string();
    let mut deaf: Vec<TcpStream> = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(serving.address()).unwrap();
        let head = client::post_head("/v1/chat/completions");
        write!(stream, "{head}\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        deaf.push(stream);
    }
    assert_eq!(serving.chat(&json!({})).status, 200, "the engine's places are free again");
}

#[test]
fn a_server_that_is_asked_to_stop_finishes_what_it_has_begun() {
    let serving = Serving::start();
    let body = chat_body(&json!({ "stream": true, "max_tokens": 60 })).to_string();
    let mut stream =
        client::open(serving.address(), &client::post_head("/v1/chat/completions"), body.as_bytes());
    stream.chunk().unwrap();
    let address = serving.address();
    serving.running.stop().unwrap();
    let mut text = String::new();
    while let Some(chunk) = stream.chunk() {
        text += &String::from_utf8_lossy(&chunk);
    }
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn certificates_that_are_none_are_named() {
    let serving = Serving::start();
    let file = serving.folder.join("cert.pem");
    fs_err::write(&file, "nothing").unwrap();
    let tls = Some(Tls { certificate: file.clone(), key: file });
    let server = Server::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let error = server.with(Options { tls, ..Options::default() }).unwrap_err().to_string();
    assert!(error.contains("cert.pem") && error.contains("certificate"), "{error}");
}
