//! Answers with documents, the documents themselves, and embeddings.

use serde_json::{Value, json};

use crate::client::events;
use crate::serving::Serving;

#[test]
fn citations_come_with_the_answer_and_stand_in_their_passage() {
    let serving = Serving::start();
    let question = json!([{ "role": "user", "content": "How many months does the warranty last?" }]);
    let more = json!({ "model": "handbook", "messages": question });
    let body = serving.chat(&more).json();
    let message = &body["choices"][0]["message"];
    let citations = message["citations"].as_array().unwrap();
    assert_eq!(citations[0]["document"], "service/warranty.pdf");
    assert_eq!(citations[0]["page"], 3);
    for citation in citations {
        let id = citation["chunk"].as_str().unwrap();
        let passage = serving.get(&format!("/api/passages/{id}")).json();
        assert!(passage["text"].as_str().unwrap().contains(citation["quote"].as_str().unwrap()));
    }
    let plain = serving.chat(&json!({ "messages": question })).json();
    let tokens = |body: &Value| body["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(tokens(&body) > tokens(&plain) + 50, "the passages stand in the prompt");

    let mut more = more;
    more["stream"] = json!(true);
    let streamed = events(&serving.chat(&more));
    let last: Value = serde_json::from_str(&streamed[streamed.len() - 2]).unwrap();
    assert_eq!(last["choices"][0]["delta"]["citations"], message["citations"]);
}

#[test]
fn passages_know_their_neighbours() {
    let serving = Serving::start();
    let passage = |id: &str| serving.get(&format!("/api/passages/{id}")).json();
    assert_eq!(passage("0")["next"], "1");
    assert_eq!(passage("1")["previous"], "0");
    assert_eq!(passage("1")["next"], Value::Null, "the next one is of another document");
    assert_eq!(serving.get("/api/passages/99").status, 404);
}

#[test]
fn embeddings_as_numbers_and_as_base64() {
    let serving = Serving::start();
    let embed = |more: Value| {
        let mut body = json!({ "model": "letters", "input": ["ab", "b"] });
        crate::serving::merge(&mut body, &more);
        serving.post("/v1/embeddings", &body)
    };
    let body = embed(json!({})).json();
    assert_eq!(body["data"][0]["embedding"][0], 0.5);
    assert_eq!(body["data"][1]["embedding"][0], 0.0);
    assert_eq!(body["data"][1]["index"], 1);
    assert_eq!(body["usage"]["prompt_tokens"], 3);
    let body = embed(json!({ "input": "ab", "encoding_format": "base64" })).json();
    let text = body["data"][0]["embedding"].as_str().unwrap();
    // Two times 0.5 is 00 00 00 3F twice.
    assert!(text.starts_with("AAAAPwAAAD8A"), "{text}");
    assert_eq!(embed(json!({ "input_type": "passage" })).json()["data"][0]["embedding"][26], 0.0);
    for (wrong, status) in [
        (json!({ "model": "other" }), 404),
        (json!({ "input": [] }), 400),
        (json!({ "input": [""] }), 400),
        (json!({ "input": [1, 2] }), 400),
        (json!({ "dimensions": 5 }), 400),
        (json!({ "encoding_format": "int8" }), 400),
        (json!({ "truncate": true }), 400),
    ] {
        assert_eq!(embed(wrong.clone()).status, status, "{wrong}");
    }
    assert_eq!(embed(json!({ "dimensions": 27 })).status, 200);
}

#[test]
fn a_search_that_panics_costs_one_request() {
    let serving = Serving::start();
    let more = json!({ "model": "handbook", "messages": [{ "role": "user", "content": "panic" }] });
    let response = serving.chat(&more);
    assert_eq!(response.status, 500);
    assert_eq!(response.json()["error"]["type"], "server_error");
    assert_eq!(serving.chat(&json!({})).status, 200);
}
