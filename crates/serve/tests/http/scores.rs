//! Log-probabilities of prompts, several prompts at once, ids and back, and reranking.

use serde_json::{Value, json};

use crate::client;
use crate::serving::{Serving, merge};

fn complete(serving: &Serving, more: &Value) -> Value {
    let mut body = json!({ "model": "tiny", "prompt": "the thin tin", "max_tokens": 1, "temperature": 0 });
    merge(&mut body, more);
    let response = serving.post("/v1/completions", &body);
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

#[test]
fn an_echoed_prompt_has_the_log_probabilities_of_teacher_forcing() {
    let serving = Serving::start();
    let model = serving.state.engine().unwrap().model();
    let ids = model.tokenizer().encode("the thin tin");
    let expected =
        hearth_engine::score::log_probs(&model.decoder, serving.state.engine().unwrap().pool(), &ids, 0)
            .unwrap();
    let body = complete(&serving, &json!({ "echo": true, "logprobs": 2 }));
    let choice = &body["choices"][0];
    let logprobs = choice["logprobs"]["token_logprobs"].as_array().unwrap();
    assert_eq!(logprobs.len(), ids.len() + 1, "the prompt and one token of the answer");
    assert_eq!(logprobs[0], Value::Null);
    for (at, expected) in expected.iter().enumerate() {
        assert_eq!(
            logprobs[at + 1].as_f64().map(|value| (value as f32).to_bits()),
            Some(expected.to_bits()),
            "token {}",
            at + 1
        );
    }
    assert_eq!(choice["logprobs"]["top_logprobs"][0], Value::Null);
    assert_eq!(choice["logprobs"]["top_logprobs"][1].as_object().unwrap().len(), 2);
    let first = model.tokenizer().decode(&ids[..1]);
    assert_eq!(choice["logprobs"]["text_offset"][1], first.chars().count());
    assert_eq!(body["usage"]["prompt_tokens"], ids.len());
    assert_eq!(body["usage"]["completion_tokens"], 1);
}

#[test]
fn the_answer_behind_an_echoed_prompt_is_the_one_without_echo() {
    let serving = Serving::start();
    for max_tokens in [1, 5] {
        let plain = complete(&serving, &json!({ "max_tokens": max_tokens, "logprobs": 1 }));
        let echoed = complete(&serving, &json!({ "max_tokens": max_tokens, "logprobs": 1, "echo": true }));
        let text = plain["choices"][0]["text"].as_str().unwrap();
        assert_eq!(echoed["choices"][0]["text"], format!("the thin tin{text}"));
        let tail =
            |body: &Value| body["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap().clone();
        assert!(tail(&echoed).ends_with(&tail(&plain)), "equal bits by both ways");
    }
    let plain_tokens = serving.state.engine().unwrap().model().tokenizer().encode("the thin tin").len();
    let none = complete(&serving, &json!({ "max_tokens": 0, "logprobs": 1, "echo": true }));
    assert_eq!(none["choices"][0]["text"], "the thin tin");
    assert_eq!(none["choices"][0]["logprobs"]["tokens"].as_array().unwrap().len(), plain_tokens);
}

#[test]
fn several_prompts_get_what_each_gets_alone() {
    let serving = Serving::start();
    let prompts = ["the thin tin", "a kiln", "x"];
    for more in [
        json!({ "max_tokens": 6, "n": 2, "temperature": 1.0, "seed": 3 }),
        json!({ "echo": true, "logprobs": 1 }),
    ] {
        let alone: Vec<Value> = prompts
            .iter()
            .flat_map(|prompt| {
                let mut more = more.clone();
                more["prompt"] = json!(prompt);
                complete(&serving, &more)["choices"].as_array().unwrap().clone()
            })
            .collect();
        let mut more = more;
        more["prompt"] = json!(prompts);
        let together = complete(&serving, &more);
        let choices = together["choices"].as_array().unwrap();
        assert_eq!(choices.len(), alone.len());
        for (index, (choice, alone)) in choices.iter().zip(&alone).enumerate() {
            assert_eq!(choice["index"], index);
            assert_eq!((&choice["text"], &choice["logprobs"]), (&alone["text"], &alone["logprobs"]));
        }
    }
    let mut body = json!({ "model": "tiny", "prompt": prompts, "max_tokens": 6, "stream": true });
    body["temperature"] = json!(0);
    let mut data = client::events(&serving.post("/v1/completions", &body));
    assert_eq!(data.pop().as_deref(), Some("[DONE]"));
    let mut texts = vec![String::new(); 3];
    for chunk in &data {
        let choice = serde_json::from_str::<Value>(chunk).unwrap()["choices"][0].clone();
        texts[choice["index"].as_u64().unwrap() as usize] += choice["text"].as_str().unwrap();
    }
    body["stream"] = json!(false);
    let whole = serving.post("/v1/completions", &body).json();
    let whole: Vec<&str> =
        whole["choices"].as_array().unwrap().iter().map(|choice| choice["text"].as_str().unwrap()).collect();
    assert_eq!(texts, whole);
}

#[test]
fn text_goes_to_ids_and_back() {
    let serving = Serving::start();
    let ids = serving.state.engine().unwrap().model().tokenizer().encode("a <|im_end|> kiln 窑");
    let body = serving
        .post("/tokenize", &json!({ "prompt": "a <|im_end|> kiln 窑", "add_special_tokens": false }))
        .json();
    assert_eq!((&body["tokens"], &body["count"]), (&json!(ids), &json!(ids.len())));
    let content = serving.post("/tokenize", &json!({ "content": "ab", "with_pieces": true })).json();
    assert_eq!(content["tokens"][0]["piece"], "a");
    let text = serving.post("/detokenize", &json!({ "tokens": ids })).json();
    assert_eq!(
        (&text["prompt"], &text["content"]),
        (&json!("a <|im_end|> kiln 窑"), &json!("a <|im_end|> kiln 窑"))
    );
    let talk = json!({ "messages": [{ "role": "user", "content": "the kiln and the fire" }] });
    let count = serving.post("/tokenize", &talk).json()["count"].clone();
    assert_eq!(count, serving.chat(&json!({})).json()["usage"]["prompt_tokens"]);
    for wrong in [json!({}), json!({ "tokens": [999_999] })] {
        assert_eq!(serving.post("/detokenize", &wrong).status, 400);
        assert_eq!(serving.post("/tokenize", &wrong).status, 400);
    }
}

#[test]
fn documents_come_in_the_order_of_their_vectors() {
    let serving = Serving::start();
    let ask = |more: Value| {
        let mut body =
            json!({ "model": "letters", "query": "ab", "documents": ["zzz", { "text": "ab" }, "b"] });
        merge(&mut body, &more);
        serving.post("/v1/rerank", &body)
    };
    let body = ask(json!({})).json();
    let order: Vec<u64> =
        body["results"].as_array().unwrap().iter().map(|result| result["index"].as_u64().unwrap()).collect();
    assert_eq!(order, [1, 2, 0]);
    let scores: Vec<f64> =
        body["results"].as_array().unwrap().iter().map(|r| r["relevance_score"].as_f64().unwrap()).collect();
    assert!(scores[0] > scores[1] && scores[1] > scores[2], "{scores:?}");
    let best = ask(json!({ "top_n": 1, "return_documents": true })).json();
    assert_eq!(best["results"].as_array().unwrap().len(), 1);
    assert_eq!(best["results"][0]["document"]["text"], "ab");
    for wrong in [
        json!({ "documents": [] }),
        json!({ "query": "" }),
        json!({ "rank": 1 }),
        json!({ "documents": [""] }),
    ] {
        assert_eq!(ask(wrong.clone()).status, 400, "{wrong}");
    }
    assert_eq!(ask(json!({ "model": "other" })).status, 404);
}
