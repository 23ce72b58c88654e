//! Models that live elsewhere: here, on a second server of the same program.

use std::sync::Arc;

use hearth_serve::{Ledger, Upstream};
use serde_json::{Value, json};

use crate::client::events;
use crate::serving::{Serving, chat_body};

/// A front whose model `tiny` is elsewhere: first at an address where nobody listens.
fn front(back: &Serving) -> (Serving, Arc<Ledger>) {
    let front = Serving::start();
    let nobody = "http://127.0.0.1:9".to_owned();
    front.state.add_upstream(Upstream::new("far", &[nobody.clone(), back.running.url()], None));
    front.state.add_upstream(Upstream::new("gone", &[nobody], None));
    let ledger = Arc::new(Ledger::open(&front.folder.join("hearth.db")).unwrap());
    front.state.set_ledger(Arc::clone(&ledger));
    back.state.register(hearth_serve::Assistant::base("far"));
    (front, ledger)
}

#[test]
fn answers_pass_through_whole_and_streamed_and_are_counted() {
    let back = Serving::start();
    let (front, ledger) = front(&back);
    let ask = |serving: &Serving, more: Value| {
        let mut body = chat_body(&json!({ "model": "far" }));
        crate::serving::merge(&mut body, &more);
        serving.post("/v1/chat/completions", &body)
    };
    let near = ask(&back, json!({})).json();
    let far = ask(&front, json!({})).json();
    assert_eq!(far["choices"], near["choices"]);
    let mut data = events(&ask(&front, json!({ "stream": true })));
    assert_eq!(data.pop().as_deref(), Some("[DONE]"));
    let chunks: Vec<Value> = data.iter().map(|chunk| serde_json::from_str(chunk).unwrap()).collect();
    assert!(
        chunks.iter().all(|chunk| !chunk["choices"].as_array().unwrap().is_empty()),
        "nobody asked for usage"
    );
    let text: String =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, near["choices"][0]["message"]["content"]);
    let used = ledger.usage().unwrap();
    assert_eq!((used.len(), used[0].requests, used[0].completion_tokens), (1, 2, 48));
    assert_eq!(used[0].prompt_tokens, 2 * near["usage"]["prompt_tokens"].as_u64().unwrap());
    let models = front.get("/v1/models").json();
    assert!(models["data"].as_array().unwrap().iter().any(|model| model["id"] == "far"));
    assert_eq!(front.get("/v1/models/far").json()["id"], "far");
}

#[test]
fn errors_pass_through_and_a_server_that_is_gone_is_one() {
    let back = Serving::start();
    let (front, _) = front(&back);
    let wrong = front.chat(&json!({ "model": "far", "tempreature": 1 }));
    assert_eq!((wrong.status, wrong.json()["error"]["param"].clone()), (400, json!("tempreature")));
    let gone = front.chat(&json!({ "model": "gone" }));
    assert_eq!((gone.status, gone.json()["error"]["code"].clone()), (502, json!("upstream_error")));
    assert!(gone.text().contains("127.0.0.1:9"), "{}", gone.text());
    assert_eq!(front.chat(&json!({})).status, 200, "the model of its own isn't harmed");
}

#[test]
fn every_dialect_passes_through_and_is_counted() {
    let back = Serving::start();
    let (front, ledger) = front(&back);
    let message = json!({ "model": "far", "max_tokens": 9, "system": "Be brief.", "messages": chat_body(&json!({}))["messages"] });
    let response = json!({ "model": "far", "max_output_tokens": 9, "input": "the kiln" });
    let texts = json!({ "model": "far", "prompt": "the kiln", "max_tokens": 9 });
    let (mut prompt, mut completion, mut requests) = (0, 0, 0);
    for (path, body, input, output) in [
        ("/v1/messages", &message, "input_tokens", "output_tokens"),
        ("/v1/responses", &response, "input_tokens", "output_tokens"),
        ("/v1/completions", &texts, "prompt_tokens", "completion_tokens"),
    ] {
        let far = front.post(path, body).json();
        let near = back.post(path, body).json();
        assert_eq!(far["content"], near["content"], "{path}: {far}");
        assert_eq!(far["output"][0]["content"], near["output"][0]["content"], "{path}: {far}");
        assert_eq!(far["choices"], near["choices"], "{path}");
        let mut streamed = body.clone();
        streamed["stream"] = json!(true);
        let stream = front.post(path, &streamed);
        assert_eq!((stream.status, stream.header("content-type")), (200, "text/event-stream"), "{path}");
        let cached = far["usage"]["cache_read_input_tokens"].as_u64().unwrap_or(0);
        // What is reused of a prompt changes from one request to the next; the prompt doesn't.
        prompt += 2 * (far["usage"][input].as_u64().unwrap() + cached);
        completion += 2 * far["usage"][output].as_u64().unwrap();
        requests += 2;
        let used = &ledger.usage().unwrap()[0];
        assert_eq!(
            (used.requests, used.prompt_tokens, used.completion_tokens),
            (requests, prompt, completion),
            "{path}: {}",
            stream.text()
        );
    }
}

#[test]
fn a_server_that_is_gone_is_seen_and_one_that_comes_back_is_asked_again() {
    let back = Serving::start();
    back.state.register(hearth_serve::Assistant::base("far"));
    let front = Serving::start();
    // A port that nobody listens at yet.
    let later = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = later.local_addr().unwrap();
    drop(later);
    front.state.add_upstream(Upstream::new("far", &[format!("http://{address}"), back.running.url()], None));
    let wait = |expected: [bool; 2]| {
        let started = std::time::Instant::now();
        loop {
            let ready = front.get("/readyz").json();
            let up = [0, 1].map(|i| ready["upstreams"][0]["servers"][i]["up"].as_bool().unwrap());
            if up == expected {
                return;
            }
            assert!(started.elapsed().as_secs() < 30, "{ready}");
            std::thread::park_timeout(std::time::Duration::from_millis(50));
        }
    };
    wait([false, true]);
    let server = hearth_serve::Server::bind(address).unwrap();
    let second = server.start(Arc::clone(&back.state)).unwrap();
    wait([true, true]);
    second.stop().unwrap();
    wait([false, true]);
}

#[test]
fn a_model_may_have_another_name_there() {
    let back = Serving::start();
    let front = Serving::start();
    front.state.add_upstream(Upstream::new("mine", &[back.running.url()], None).known_as("tiny"));
    let far = front.chat(&json!({ "model": "mine" }));
    assert_eq!((far.status, &far.json()["choices"]), (200, &back.chat(&json!({})).json()["choices"]));
}
