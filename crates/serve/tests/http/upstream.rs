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
