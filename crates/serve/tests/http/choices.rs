//! Several answers to one request, and answers that must have a shape.

use serde_json::{Value, json};

use crate::client::{Response, events};
use crate::serving::{Serving, merge};

fn ok(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

fn texts(body: &Value) -> Vec<String> {
    let choices = body["choices"].as_array().unwrap();
    let in_order = choices.iter().enumerate().all(|(index, choice)| choice["index"] == index);
    assert!(in_order, "{body}");
    let text = |choice: &Value| {
        choice["text"].as_str().or_else(|| choice["message"]["content"].as_str()).unwrap().to_owned()
    };
    choices.iter().map(text).collect()
}

#[test]
fn choices_share_a_prompt_that_is_counted_once() {
    let serving = Serving::start();
    let one = ok(&serving.chat(&json!({ "temperature": 1.5, "seed": 5 })));
    let three = ok(&serving.chat(&json!({ "temperature": 1.5, "seed": 5, "n": 3 })));
    let texts_of_three = texts(&three);
    assert_eq!(texts_of_three.len(), 3);
    assert_eq!(texts_of_three[0], texts(&one)[0]);
    assert!(texts_of_three[0] != texts_of_three[1] && texts_of_three[1] != texts_of_three[2]);
    assert_eq!(three["usage"]["prompt_tokens"], one["usage"]["prompt_tokens"]);
    let num_tokens = three["usage"]["completion_tokens"].as_u64().unwrap();
    assert!(num_tokens > one["usage"]["completion_tokens"].as_u64().unwrap() && num_tokens <= 3 * 24);
    let more = json!({
        "temperature": 1.5, "seed": 5, "n": 3, "stream": true, "stream_options": { "include_usage": true },
    });
    let mut data = events(&serving.chat(&more));
    assert_eq!(data.pop().as_deref(), Some("[DONE]"));
    let mut streamed = vec![String::new(); 3];
    let mut finished = [false; 3];
    for chunk in data.iter().map(|chunk| serde_json::from_str::<Value>(chunk).unwrap()) {
        let Some(choice) = chunk["choices"].get(0) else {
            assert_eq!(chunk["usage"]["completion_tokens"], num_tokens);
            continue;
        };
        let index = choice["index"].as_u64().unwrap() as usize;
        streamed[index] += choice["delta"]["content"].as_str().unwrap_or_default();
        finished[index] |= !choice["finish_reason"].is_null();
    }
    assert_eq!(streamed, texts_of_three);
    assert_eq!(finished, [true; 3]);
}

#[test]
fn the_best_of_several_is_the_most_probable() {
    let serving = Serving::start();
    let complete = |more: Value| {
        let mut body = json!({ "prompt": "the thin tin", "max_tokens": 12, "temperature": 1.5, "seed": 3 });
        merge(&mut body, &more);
        ok(&serving.post("/v1/completions", &body))
    };
    let all = complete(json!({ "n": 4, "logprobs": 0 }));
    let mean = |choice: &Value| {
        let logprobs = choice["logprobs"]["token_logprobs"].as_array().unwrap();
        logprobs.iter().map(|x| x.as_f64().unwrap()).sum::<f64>() / logprobs.len() as f64
    };
    let mut choices = all["choices"].as_array().unwrap().clone();
    choices.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
    let best = complete(json!({ "n": 2, "best_of": 4 }));
    let expected: Vec<&str> = choices[..2].iter().map(|choice| choice["text"].as_str().unwrap()).collect();
    assert_eq!(texts(&best), expected);
    assert!(best["choices"][0]["logprobs"].is_null(), "nobody asked for them");
    assert_eq!(best["usage"]["completion_tokens"], 4 * 12, "what was thrown away was computed too");
}

#[test]
fn answers_have_the_shape_that_was_asked_for() {
    let serving = Serving::start();
    let wild = |more: Value| {
        let mut body = json!({ "temperature": 6.0, "max_tokens": 500 });
        merge(&mut body, &more);
        ok(&serving.chat(&body))["choices"][0].clone()
    };
    let schema = json!({
        "type": "object",
        "properties": { "size": { "type": "integer", "minimum": 0, "maximum": 99 } },
        "required": ["size"],
        "additionalProperties": false,
    });
    let named = json!({ "name": "size", "strict": true, "schema": schema });
    for more in [
        json!({ "response_format": { "type": "json_schema", "json_schema": named } }),
        json!({ "guided_json": schema }),
        json!({ "guided_json": schema.to_string() }),
    ] {
        let choice = wild(more);
        assert_eq!(choice["finish_reason"], "stop");
        let value: Value = serde_json::from_str(choice["message"]["content"].as_str().unwrap()).unwrap();
        assert!((0..=99).contains(&value["size"].as_i64().unwrap()));
        assert_eq!(value.as_object().unwrap().len(), 1);
    }
    let choice = wild(json!({ "guided_choice": ["a.b", "c|d", "(e"] }));
    assert!(["a.b", "c|d", "(e"].contains(&choice["message"]["content"].as_str().unwrap()), "{choice}");
    let choice = wild(json!({ "guided_regex": "[a-f]{4}" }));
    assert!(choice["message"]["content"].as_str().unwrap().chars().all(|c| ('a'..='f').contains(&c)));
    let choice = wild(json!({ "guided_grammar": "start: \"x\" \"y\"" }));
    assert_eq!(choice["message"]["content"], "xy");
    let object = wild(json!({ "response_format": { "type": "json_object" }, "max_tokens": 20 }));
    assert!(object["message"]["content"].as_str().unwrap().starts_with('{'));
}

#[test]
fn every_sampling_parameter_is_taken() {
    let serving = Serving::start();
    let base = json!({ "temperature": 1.0, "seed": 4, "max_tokens": 24 });
    let with = |more: Value| {
        let mut body = base.clone();
        merge(&mut body, &more);
        texts(&ok(&serving.chat(&body))).remove(0)
    };
    let plain = with(json!({}));
    for neutral in [
        json!({ "top_k": -1, "typical_p": 1.0, "repetition_penalty": 1.0, "frequency_penalty": 0 }),
        json!({ "dry_multiplier": 0, "dry_base": 2, "mirostat": 0, "mirostat_tau": 3, "logit_bias": {} }),
        json!({ "dry_multiplier": 1, "dry_allowed_length": 1000, "dry_penalty_last_n": -1 }),
    ] {
        assert_eq!(with(neutral.clone()), plain, "{neutral}");
    }
    let id = plain.bytes().next().unwrap().to_string();
    for telling in [
        json!({ "top_k": 1 }),
        json!({ "typical_p": 0.2 }),
        json!({ "repetition_penalty": 3.0 }),
        json!({ "frequency_penalty": 2.0 }),
        json!({ "presence_penalty": 2.0 }),
        json!({ "mirostat": 2, "mirostat_tau": 0.5, "mirostat_eta": 0.5 }),
        json!({ "logit_bias": { id: -100 } }),
        json!({ "dry_multiplier": 50, "dry_allowed_length": 1, "dry_sequence_breakers": [] , "logit_bias": { "65": 20 } }),
    ] {
        assert_ne!(with(telling.clone()), plain, "{telling}");
    }
    let forced = with(json!({ "logit_bias": { "65": 100 }, "max_tokens": 3 }));
    assert_eq!(forced, "AAA");
    let not_again = json!({
        "logit_bias": { "65": 20 }, "dry_multiplier": 50, "dry_allowed_length": 1, "max_tokens": 4, "temperature": 0,
    });
    assert!(!with(not_again).contains("AAA"));
}
