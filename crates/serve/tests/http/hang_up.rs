//! Clients and servers that go away in the middle.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use hearth_serve::{Error, Server};
use serde_json::json;

use crate::client;
use crate::serving::{Serving, chat_body};

/// An answer that would take minutes, on an engine that computes one at a time.
const ENDLESS: usize = 1 << 20;

fn check_engine_is_free(serving: &Serving) {
    let start = Instant::now();
    let response = serving.chat(&json!({ "max_tokens": 4 }));
    assert_eq!(response.status, 200, "{}", response.text());
    assert!(start.elapsed() < Duration::from_secs(20), "the cancelled answer still held the engine");
}

#[test]
fn a_client_that_leaves_a_stream_frees_the_engine() {
    let serving = Serving::with(ENDLESS, 1);
    let body = chat_body(&json!({ "stream": true, "max_tokens": ENDLESS })).to_string();
    let mut stream =
        client::open(serving.address(), &client::post_head("/v1/chat/completions"), body.as_bytes());
    assert_eq!(stream.status, 200);
    for _ in 0..5 {
        assert!(stream.chunk().is_some());
    }
    drop(stream);
    check_engine_is_free(&serving);
}

#[test]
fn a_client_that_does_not_wait_for_a_whole_answer_frees_the_engine() {
    let serving = Serving::with(ENDLESS, 1);
    let body = chat_body(&json!({ "max_tokens": ENDLESS })).to_string();
    let mut stream = send_only(&serving, "/v1/chat/completions", body.len(), body.as_bytes());
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(stream.read(&mut [0]).is_err(), "the answer is under way and nothing has come of it");
    drop(stream);
    check_engine_is_free(&serving);
}

/// A prompt that takes minutes to compute, so that no token tells the server that the client is gone.
fn long_prompt(is_stream: bool) -> String {
    let ids: Vec<usize> = (0..200_000).map(|i| 33 + i % 89).collect();
    json!({ "model": "tiny", "prompt": ids, "stream": is_stream, "max_tokens": 4 }).to_string()
}

#[test]
fn a_client_that_leaves_a_stream_before_the_first_token_frees_the_engine() {
    let serving = Serving::with(ENDLESS, 1);
    let body = long_prompt(true);
    let stream = client::open(serving.address(), &client::post_head("/v1/completions"), body.as_bytes());
    assert_eq!(stream.status, 200);
    drop(stream);
    check_engine_is_free(&serving);
}

#[test]
fn a_client_that_leaves_while_its_prompt_is_computed_frees_the_engine() {
    let serving = Serving::with(ENDLESS, 1);
    let body = long_prompt(false);
    let mut stream = send_only(&serving, "/v1/completions", body.len(), body.as_bytes());
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(stream.read(&mut [0]).is_err(), "the prompt is being computed and nothing has come of it");
    drop(stream);
    check_engine_is_free(&serving);
}

#[test]
fn a_client_that_leaves_before_its_request_is_whole_costs_nothing() {
    let serving = Serving::start();
    let body = chat_body(&json!({})).to_string();
    for sent in [0, 1, body.len() - 1] {
        drop(send_only(&serving, "/v1/chat/completions", body.len(), &body.as_bytes()[..sent]));
    }
    check_engine_is_free(&serving);
}

/// Sends a request, or part of one, without reading anything.
fn send_only(serving: &Serving, path: &str, length: usize, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(serving.address()).unwrap();
    let head = client::post_head(path);
    write!(stream, "{head}\r\nHost: {}\r\nContent-Length: {length}\r\n\r\n", serving.address()).unwrap();
    stream.write_all(body).unwrap();
    stream
}

#[test]
fn a_server_that_is_stopped_ends_open_streams() {
    let serving = Serving::with(ENDLESS, 1);
    let body = chat_body(&json!({ "stream": true, "max_tokens": ENDLESS })).to_string();
    let address = serving.address();
    let mut stream = client::open(address, &client::post_head("/v1/chat/completions"), body.as_bytes());
    assert!(stream.chunk().is_some());
    let start = Instant::now();
    let Serving { running, state, folder: _folder } = serving;
    running.stop().unwrap();
    assert!(start.elapsed() < Duration::from_secs(15));
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
    drop(state);
}

#[test]
fn a_port_in_use_names_the_port_and_the_way_out() {
    let first = Server::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let error = Server::bind(first.address()).unwrap_err();
    assert!(matches!(error, Error::PortInUse { .. }));
    let message = error.to_string();
    assert!(message.contains(&first.address().port().to_string()) && message.contains("--port"), "{message}");
}
