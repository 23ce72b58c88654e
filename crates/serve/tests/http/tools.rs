//! Tools: calls that must be made, whole and streamed, and conversations with calls in them.

use serde_json::{Value, json};

use crate::client::events;
use crate::serving::Serving;

fn tools() -> Value {
    json!([
        { "type": "function", "function": { "name": "get_weather", "description": "Weather of a city", "parameters": {
            "type": "object", "properties": { "city": { "enum": ["Bonn", "Oslo"] } }, "required": ["city"],
            "additionalProperties": false,
        }}},
        { "type": "function", "function": { "name": "get_time", "parameters": {
            "type": "object", "properties": {}, "additionalProperties": false } } },
    ])
}

fn calls_of(body: &Value) -> Vec<(String, Value)> {
    let calls = body["choices"][0]["message"]["tool_calls"].as_array().unwrap_or_else(|| panic!("{body}"));
    let read = |call: &Value| {
        let arguments = call["function"]["arguments"].as_str().unwrap();
        let arguments =
            serde_json::from_str(arguments).unwrap_or_else(|error| panic!("{error}: {arguments}"));
        (call["function"]["name"].as_str().unwrap().to_owned(), arguments)
    };
    calls.iter().map(read).collect()
}

#[test]
fn a_named_tool_is_called_with_arguments_that_fit_whatever_is_drawn() {
    let serving = Serving::start();
    for seed in 0..8 {
        let body = serving.chat(&json!({
            "tools": tools(), "tool_choice": { "type": "function", "function": { "name": "get_weather" } },
            "temperature": 1.5, "seed": seed, "max_tokens": 300, "parallel_tool_calls": false,
        }));
        let body = body.json();
        let calls = calls_of(&body);
        let [(name, arguments)] = &calls[..] else { panic!("{body}") };
        assert_eq!(name, "get_weather");
        assert!(["Bonn", "Oslo"].contains(&arguments["city"].as_str().unwrap()));
        assert_eq!(body["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(body["choices"][0]["message"]["content"], Value::Null);
    }
}

#[test]
fn a_stream_of_calls_joins_to_the_whole_ones() {
    let serving = Serving::start();
    let more = json!({
        "tools": tools(), "tool_choice": "required", "seed": 5, "temperature": 1.0, "max_tokens": 200,
        "parallel_tool_calls": false,
    });
    let whole = serving.chat(&more).json();
    let mut more = more;
    more["stream"] = json!(true);
    let mut data = events(&serving.chat(&more));
    assert_eq!(data.pop().as_deref(), Some("[DONE]"));
    let chunks: Vec<Value> = data.iter().map(|chunk| serde_json::from_str(chunk).unwrap()).collect();
    let (mut name, mut arguments) = (String::new(), String::new());
    let mut num_deltas = 0;
    for call in
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].as_array()).flatten()
    {
        assert_eq!(call["index"], 0);
        name += call["function"]["name"].as_str().unwrap_or_default();
        arguments += call["function"]["arguments"].as_str().unwrap();
        num_deltas += 1;
    }
    assert!(num_deltas > 2, "arguments come as they are written");
    let call = &whole["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!((json!(name), json!(arguments)), (call["name"].clone(), call["arguments"].clone()));
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
}

#[test]
fn tools_and_their_results_stand_in_the_prompt() {
    let serving = Serving::start();
    let tokens = |more: Value| serving.chat(&more).json()["usage"]["prompt_tokens"].as_u64().unwrap();
    let plain = tokens(json!({}));
    assert!(tokens(json!({ "tools": tools() })) > plain + 100);
    assert_eq!(
        tokens(json!({ "tools": tools(), "tool_choice": "none" })),
        plain,
        "nothing to call, nothing to read"
    );
    let call =
        json!({ "id": "c1", "type": "function", "function": { "name": "get_time", "arguments": "{}" } });
    let talk = |result: &str| {
        json!({ "messages": [
            { "role": "user", "content": "when?" },
            { "role": "assistant", "content": null, "tool_calls": [call] },
            { "role": "tool", "tool_call_id": "c1", "content": result },
        ]})
    };
    assert_eq!(tokens(talk("12:30:45")), tokens(talk("12")) + 6, "the tiny model reads letter by letter");
}

#[test]
fn what_cannot_be_forced_is_refused() {
    let serving = Serving::start();
    let response = serving.chat(&json!({
        "tools": tools(), "tool_choice": { "type": "function", "function": { "name": "get_news" } },
    }));
    assert_eq!(response.status, 400);
    assert!(response.text().contains("get_news"), "{}", response.text());
    let response = serving.chat(&json!({
        "tools": tools(), "tool_choice": "required", "response_format": { "type": "json_object" },
    }));
    assert_eq!((response.status, response.json()["error"]["param"].clone()), (400, json!("tool_choice")));
}

#[test]
fn calls_that_must_be_made_are_read_back_in_every_form() {
    const LOOP: &str =
        "{% for m in messages %}{{ m.content }}{% endfor %}{% if tools %}{{ tools | tojson }}{% endif %}";
    const MARKS: [&str; 6] = [
        "<tool_call> <function=",
        "<tool_call>",
        "[TOOL_CALLS] [ARGS]",
        "[TOOL_CALLS]",
        "<|tool_call|>",
        "\"parameters\"",
    ];
    for mark in MARKS {
        let serving = Serving::of_template(&format!("{LOOP}{{# {mark} #}}"));
        for seed in 0..4 {
            let body = serving.chat(&json!({
                "tools": tools(), "tool_choice": "required", "temperature": 1.3, "seed": seed, "max_tokens": 300,
                "parallel_tool_calls": false,
            }));
            assert_eq!(body.status, 200, "{mark}: {}", body.text());
            let body = body.json();
            let calls = calls_of(&body);
            let [(name, arguments)] = &calls[..] else { panic!("{mark}: {body}") };
            match name.as_str() {
                "get_weather" => assert!(["Bonn", "Oslo"].contains(&arguments["city"].as_str().unwrap())),
                _ => assert_eq!((name.as_str(), arguments), ("get_time", &json!({}))),
            }
        }
    }
}
