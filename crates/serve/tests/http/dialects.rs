//! The same conversation in the shapes of the Anthropic API and of OpenAI's Responses.

use serde_json::{Value, json};

use crate::client::named_events;
use crate::serving::{Serving, merge};

const QUESTION: &str = "the kiln and the fire";

fn text_of_chat(serving: &Serving) -> Value {
    serving.chat(&json!({})).json()["choices"][0]["message"]["content"].clone()
}

fn message_body(more: &Value) -> Value {
    let mut body = json!({
        "model": "tiny", "max_tokens": 24, "messages": [{ "role": "user", "content": QUESTION }],
    });
    merge(&mut body, more);
    body
}

fn weather() -> Value {
    json!({ "name": "get_weather", "description": "d", "input_schema": {
        "type": "object", "properties": { "city": { "enum": ["Bonn", "Oslo"] } }, "required": ["city"],
        "additionalProperties": false,
    }})
}

/// A message put together again from its events.
fn joined(events: &[Value]) -> Value {
    let mut message = events[0]["message"].clone();
    let mut inputs = String::new();
    for event in events {
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                message["content"].as_array_mut().unwrap().push(event["content_block"].clone());
            }
            "content_block_delta" => {
                let block = message["content"].as_array_mut().unwrap().last_mut().unwrap();
                let delta = &event["delta"];
                match delta["type"].as_str().unwrap() {
                    "text_delta" => {
                        let text =
                            format!("{}{}", block["text"].as_str().unwrap(), delta["text"].as_str().unwrap());
                        block["text"] = text.into();
                    }
                    _ => inputs += delta["partial_json"].as_str().unwrap(),
                }
            }
            "content_block_stop" => {
                let block = message["content"].as_array_mut().unwrap().last_mut().unwrap();
                if block["type"] == "tool_use" {
                    block["input"] = serde_json::from_str(&std::mem::take(&mut inputs)).unwrap();
                }
            }
            "message_delta" => {
                merge(&mut message, &event["delta"]);
                message["usage"] = event["usage"].clone();
            }
            _ => {}
        }
    }
    message
}

#[test]
fn a_message_says_what_a_chat_completion_says() {
    let serving = Serving::start();
    let body = serving.post("/v1/messages", &message_body(&json!({}))).json();
    assert_eq!(body["content"], json!([{ "type": "text", "text": text_of_chat(&serving) }]));
    assert_eq!((&body["stop_reason"], &body["type"]), (&json!("max_tokens"), &json!("message")));
    assert_eq!(body["usage"]["output_tokens"], 24);
    let count = serving.post(
        "/v1/messages/count_tokens",
        &json!({
            "model": "tiny", "messages": [{ "role": "user", "content": QUESTION }],
        }),
    );
    let usage = &body["usage"];
    let prompt = usage["input_tokens"].as_u64().unwrap() + usage["cache_read_input_tokens"].as_u64().unwrap();
    assert_eq!(count.json()["input_tokens"], prompt);
}

#[test]
fn messages_as_events_join_to_the_whole() {
    let serving = Serving::start();
    let text = text_of_chat(&serving);
    let stop = &text.as_str().unwrap()[8..11];
    for more in [
        json!({}),
        json!({ "stop_sequences": ["never said", stop] }),
        json!({ "system": [{ "type": "text", "text": "be brief", "cache_control": { "type": "ephemeral" } }] }),
        json!({ "tools": [weather()], "tool_choice": { "type": "any", "disable_parallel_tool_use": true }, "max_tokens": 200 }),
    ] {
        let mut whole = serving.post("/v1/messages", &message_body(&more)).json();
        let mut more = more;
        more["stream"] = json!(true);
        let events = named_events(&serving.post("/v1/messages", &message_body(&more)));
        assert_eq!(events.last().unwrap()["type"], "message_stop");
        let mut joined = joined(&events);
        // The second time the prompt is cached; ids are the requests' own.
        for message in [&mut whole, &mut joined] {
            message["usage"] = message["usage"]["output_tokens"].clone();
            message["id"] = Value::Null;
            for block in message["content"].as_array_mut().unwrap() {
                block.as_object_mut().unwrap().remove("id");
            }
        }
        assert_eq!(joined, whole, "{more}");
    }
    let stopped = serving
        .post("/v1/messages", &message_body(&json!({ "stop_sequences": ["never said", stop] })))
        .json();
    assert_eq!((&stopped["stop_reason"], &stopped["stop_sequence"]), (&json!("stop_sequence"), &json!(stop)));
}

#[test]
fn a_tool_is_used_and_its_result_read() {
    let serving = Serving::start();
    let more = json!({
        "tools": [weather()], "tool_choice": { "type": "tool", "name": "get_weather", "disable_parallel_tool_use": true },
        "max_tokens": 200,
    });
    let body = serving.post("/v1/messages", &message_body(&more)).json();
    assert_eq!(body["stop_reason"], "tool_use");
    let call = &body["content"][0];
    assert_eq!((&call["type"], &call["name"]), (&json!("tool_use"), &json!("get_weather")));
    assert!(["Bonn", "Oslo"].contains(&call["input"]["city"].as_str().unwrap()));
    let talk = json!({ "tools": [weather()], "messages": [
        { "role": "user", "content": QUESTION },
        { "role": "assistant", "content": body["content"] },
        { "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": call["id"], "content": [{ "type": "text", "text": "12 °C" }] },
            { "type": "text", "text": "and now?" },
        ]},
    ]});
    let response = serving.post("/v1/messages", &message_body(&talk));
    assert_eq!(response.status, 200, "{}", response.text());
}

#[test]
fn errors_have_the_shape_of_the_anthropic_api() {
    let serving = Serving::start();
    for (more, status, kind, needle) in [
        (json!({ "max_tokens": null }), 400, "invalid_request_error", "`max_tokens`"),
        (json!({ "model": "gpt" }), 404, "not_found_error", "`gpt`"),
        (json!({ "tempreature": 1 }), 400, "invalid_request_error", "`tempreature`"),
        (
            json!({ "thinking": { "type": "enabled", "budget_tokens": 1024 } }),
            400,
            "invalid_request_error",
            "`thinking`",
        ),
        (
            json!({ "messages": [{ "role": "system", "content": "x" }] }),
            400,
            "invalid_request_error",
            "messages[0]",
        ),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "image", "source": {} }] }] }),
            400,
            "invalid_request_error",
            "`image`",
        ),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "text", "text": "x", "colour": 1 }] }] }),
            400,
            "invalid_request_error",
            "messages[0].content[0].colour",
        ),
    ] {
        let response = serving.post("/v1/messages", &message_body(&more));
        let body = response.json();
        assert_eq!((response.status, &body["type"]), (status, &json!("error")), "{body}");
        assert_eq!(body["error"]["type"], kind);
        assert!(body["error"]["message"].as_str().unwrap().contains(needle), "{needle} in {body}");
        assert_eq!(body["request_id"], response.header("x-request-id"));
    }
}

fn respond(serving: &Serving, more: &Value) -> crate::client::Response {
    let mut body = json!({ "model": "tiny", "input": QUESTION, "max_output_tokens": 24 });
    merge(&mut body, more);
    serving.post("/v1/responses", &body)
}

#[test]
fn a_response_says_what_a_chat_completion_says() {
    let serving = Serving::start();
    let body = respond(&serving, &json!({})).json();
    let item = &body["output"][0];
    assert_eq!((&item["type"], &item["content"][0]["text"]), (&json!("message"), &text_of_chat(&serving)));
    assert_eq!((&body["object"], &body["status"]), (&json!("response"), &json!("incomplete")));
    assert_eq!(body["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(body["usage"]["output_tokens"], 24);
    let same = json!({ "instructions": null, "input": [
        { "type": "message", "role": "user", "content": [{ "type": "input_text", "text": QUESTION }] },
    ]});
    assert_eq!(respond(&serving, &same).json()["output"][0]["content"], item["content"]);
}

#[test]
fn responses_as_events_end_with_the_whole() {
    let serving = Serving::start();
    let tool = json!({ "type": "function", "name": "get_weather", "strict": true, "parameters": weather()["input_schema"] });
    for more in [
        json!({}),
        json!({ "tools": [tool], "tool_choice": "required", "parallel_tool_calls": false, "max_output_tokens": 200 }),
        json!({ "max_output_tokens": 400, "text": { "format": { "type": "json_schema", "name": "x", "schema": { "enum": ["yes", "no"] } } } }),
    ] {
        let whole = respond(&serving, &more).json();
        let mut more = more;
        more["stream"] = json!(true);
        let events = named_events(&respond(&serving, &more));
        let numbers: Vec<u64> =
            events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
        assert_eq!(events[0]["type"], "response.created");
        let last = &events.last().unwrap()["response"];
        assert_eq!(last["status"], whole["status"]);
        let strip = |output: &Value| {
            let mut output = output.clone();
            for item in output.as_array_mut().unwrap() {
                item["id"] = Value::Null;
                if item["type"] == "function_call" {
                    item["call_id"] = Value::Null;
                }
            }
            output
        };
        assert_eq!(strip(&last["output"]), strip(&whole["output"]), "{more}");
        let deltas: String = events
            .iter()
            .filter(|event| event["type"].as_str().unwrap().rsplit('.').next() == Some("delta"))
            .map(|event| event["delta"].as_str().unwrap())
            .collect();
        let item = &whole["output"][0];
        let expected =
            if item["type"] == "message" { &item["content"][0]["text"] } else { &item["arguments"] };
        assert_eq!(&json!(deltas), expected);
    }
}

#[test]
fn a_conversation_with_calls_is_read_and_what_is_not_built_is_named() {
    let serving = Serving::start();
    let talk = json!({ "input": [
        { "role": "user", "content": QUESTION },
        { "type": "function_call", "id": "fc_1", "call_id": "c1", "name": "get_time", "arguments": "{}", "status": "completed" },
        { "type": "function_call_output", "call_id": "c1", "output": "12:30" },
        { "type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
          "content": [{ "type": "output_text", "text": "half past", "annotations": [] }] },
        { "role": "user", "content": "thanks" },
    ]});
    let response = respond(&serving, &talk);
    assert_eq!(response.status, 200, "{}", response.text());
    for (more, needle) in [
        (json!({ "previous_response_id": "resp_1" }), "whole conversation"),
        (json!({ "background": true }), "`background`"),
        (json!({ "input": [{ "type": "image_generation_call" }] }), "image_generation_call"),
        (json!({ "tools": [{ "type": "web_search" }] }), "web_search"),
        (json!({ "tempreature": 1 }), "`tempreature`"),
        (json!({ "store": true }), "`store`"),
    ] {
        let response = respond(&serving, &more);
        assert_eq!(response.status, 400, "{more}");
        assert!(response.text().contains(needle), "{needle} in {}", response.text());
    }
}
