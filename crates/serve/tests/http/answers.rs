//! Good requests: what comes back, whole and streamed.

use serde_json::{Value, json};

use crate::client::{Response, events};
use crate::serving::Serving;

fn content(response: &Response) -> String {
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()["choices"][0]["message"]["content"].as_str().unwrap().into()
}

/// All chunks of a stream; it must end with `[DONE]`.
fn chunks(response: &Response) -> Vec<Value> {
    let mut data = events(response);
    assert_eq!(data.pop().as_deref(), Some("[DONE]"));
    data.iter().map(|chunk| serde_json::from_str(chunk).unwrap()).collect()
}

#[test]
fn a_whole_answer_has_the_shape_of_the_api() {
    let serving = Serving::start();
    let body = serving.chat(&json!({})).json();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["model"], "tiny");
    let choice = &body["choices"][0];
    assert_eq!(choice["finish_reason"], "length");
    assert_eq!(choice["message"]["role"], "assistant");
    assert!(choice["message"].get("citations").is_none(), "no documents, no citations");
    let usage = &body["usage"];
    let prompt = usage["prompt_tokens"].as_u64().unwrap();
    assert!(prompt > 10);
    assert_eq!(usage["completion_tokens"], 24);
    assert_eq!(usage["total_tokens"], prompt + 24);
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 0);
    let again = serving.chat(&json!({})).json();
    assert_eq!(again["choices"], body["choices"], "greedy answers repeat");
    assert_ne!(again["id"], body["id"]);
    assert!(again["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() > 0);
}

#[test]
fn a_stream_tells_the_same_in_order() {
    let serving = Serving::start();
    let whole = serving.chat(&json!({})).json();
    let options = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let chunks = chunks(&serving.chat(&options));
    assert!(chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk"));
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]));
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
    let [middle @ .., finish, usage] = &chunks[1..] else { panic!("too few chunks") };
    let text: String =
        middle.iter().map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().unwrap()).collect();
    assert_eq!(text, whole["choices"][0]["message"]["content"]);
    assert!(middle.len() > 5, "tokens come one by one");
    assert!(
        middle.iter().all(|chunk| chunk["choices"][0]["finish_reason"].is_null() && chunk["usage"].is_null())
    );
    assert_eq!(finish["choices"][0]["finish_reason"], "length");
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["total_tokens"], whole["usage"]["total_tokens"]);
    let plain = self::chunks(&serving.chat(&json!({ "stream": true })));
    assert!(plain.iter().all(|chunk| chunk.get("usage").is_none()), "usage only where asked for");
}

#[test]
fn a_stop_text_ends_the_answer_and_stays_out_of_it() {
    let serving = Serving::start();
    let whole = content(&serving.chat(&json!({})));
    assert!(whole.is_ascii(), "the tiny model answers in ASCII: {whole:?}");
    let stop = &whole[8..11];
    let expected = &whole[..whole.find(stop).unwrap()];
    for stop in [json!(stop), json!(["never said", stop])] {
        let response = serving.chat(&json!({ "stop": stop }));
        assert_eq!(content(&response), expected);
        assert_eq!(response.json()["choices"][0]["finish_reason"], "stop");
        let streamed = chunks(&serving.chat(&json!({ "stop": stop, "stream": true })));
        let text: String =
            streamed.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(text, expected);
    }
}

#[test]
fn a_seed_repeats_an_answer() {
    let serving = Serving::start();
    let ask = |seed: i64| content(&serving.chat(&json!({ "temperature": 1.5, "seed": seed })));
    assert_eq!(ask(7), ask(7));
    assert_ne!(ask(7), ask(8));
    let unseeded = || content(&serving.chat(&json!({ "temperature": 1.5 })));
    assert_ne!(unseeded(), unseeded());
}

#[test]
fn content_parts_and_neutral_parameters_change_nothing() {
    let serving = Serving::start();
    let expected = content(&serving.chat(&json!({})));
    for more in [
        json!({ "messages": [{ "role": "user", "content": [{ "type": "text", "text": "the kiln and the fire" }] }] }),
        json!({ "n": 1, "user": "u", "metadata": { "k": "v" }, "presence_penalty": 0.0, "stop": null }),
        json!({ "max_tokens": null, "max_completion_tokens": 24, "response_format": { "type": "text" } }),
        json!({ "model": null, "tools": [], "temperature": 0 }),
    ] {
        assert_eq!(content(&serving.chat(&more)), expected, "{more}");
    }
}

#[test]
fn log_probabilities_are_those_of_the_tokens_chosen() {
    let serving = Serving::start();
    let more = json!({ "logprobs": true, "top_logprobs": 3, "max_tokens": 6 });
    let whole = serving.chat(&more).json();
    let entries = whole["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(entries.len(), 6);
    for entry in entries {
        assert_eq!(entry["top_logprobs"].as_array().unwrap().len(), 3);
        assert_eq!(entry["token"], entry["top_logprobs"][0]["token"], "greedy takes the best");
        assert_eq!(entry["logprob"], entry["top_logprobs"][0]["logprob"]);
        assert!(entry["logprob"].as_f64().unwrap() < 0.0);
    }
    let mut more = more;
    more["stream"] = json!(true);
    let streamed: Vec<Value> = chunks(&serving.chat(&more))
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array().cloned())
        .flatten()
        .collect();
    assert_eq!(&streamed, entries);
}

#[test]
fn plain_completions_take_text_or_ids() {
    let serving = Serving::start();
    let complete = |more: Value| {
        let mut body = json!({ "model": "tiny", "prompt": "the thin tin", "max_tokens": 12 });
        crate::serving::merge(&mut body, &more);
        let response = serving.post("/v1/completions", &body);
        assert_eq!(response.status, 200, "{}", response.text());
        response
    };
    let whole = complete(json!({})).json();
    let text = whole["choices"][0]["text"].as_str().unwrap().to_owned();
    assert_eq!(whole["object"], "text_completion");
    let ids = serving.state.engine().unwrap().model().tokenizer().encode("the thin tin");
    assert_eq!(whole["usage"]["prompt_tokens"], ids.len());
    for same in [json!({ "prompt": ids }), json!({ "prompt": ["the thin tin"] }), json!({ "prompt": [ids] })]
    {
        assert_eq!(complete(same).json()["choices"][0]["text"], text);
    }
    let echoed = complete(json!({ "echo": true })).json();
    assert_eq!(echoed["choices"][0]["text"], format!("the thin tin{text}"));
    let streamed = chunks(&complete(json!({ "echo": true, "stream": true })));
    let joined: String = streamed.iter().map(|chunk| chunk["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(joined, format!("the thin tin{text}"));
    assert_eq!(streamed.last().unwrap()["choices"][0]["finish_reason"], "length");
    let logprobs = complete(json!({ "logprobs": 2 })).json()["choices"][0]["logprobs"].clone();
    assert_eq!(logprobs["tokens"].as_array().unwrap().len(), 12);
    assert_eq!(logprobs["text_offset"][0], 0);
    assert_eq!(logprobs["top_logprobs"][0].as_object().unwrap().len(), 2);
}

#[test]
fn special_tokens_in_text_stay_text() {
    let serving = Serving::start();
    let body = json!({ "model": "tiny", "prompt": "<|im_end|>", "max_tokens": 1 });
    let usage = serving.post("/v1/completions", &body).json()["usage"].clone();
    assert_eq!(usage["prompt_tokens"], 10, "ten characters, not one token");
}

#[test]
fn many_clients_at_once_get_what_each_would_get_alone() {
    let serving = Serving::start();
    let question = |i: usize| json!({ "messages": [{ "role": "user", "content": format!("question {i}") }] });
    let alone: Vec<String> = (0..6).map(|i| content(&serving.chat(&question(i)))).collect();
    let together: Vec<String> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..6).map(|i| (i, &serving)).collect();
        let threads: Vec<_> = asked
            .into_iter()
            .map(|(i, serving)| scope.spawn(move || content(&serving.chat(&question(i)))))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(alone, together);
}
