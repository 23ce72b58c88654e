//! Bad requests: each is refused with the status, code and parameter that clients look at.

use serde_json::{Value, json};

use crate::client;
use crate::serving::{Serving, chat_body};

fn check(response: &client::Response, status: u16, code: &str, param: &str, needle: &str) {
    let text = response.text();
    assert_eq!(response.status, status, "{text}");
    let error = &response.json()["error"];
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(needle), "{needle:?} isn't in {message:?}");
    assert_eq!(error["code"].as_str().unwrap_or_default(), code, "{text}");
    assert_eq!(error["param"].as_str().unwrap_or_default(), param, "{text}");
    assert_eq!(error["type"], "invalid_request_error");
}

/// What is added to a good request, and the code, the parameter and a part of the message that come back.
const WRONG_PARAMETERS: &str = r#"
{"tempreature": 1}                     | unknown_parameter          | tempreature       | `tempreature`
{"n": 5}                               | invalid_value              | n                 | 1 to 4
{"n": 0}                               | invalid_value              | n                 | not 0
{"best_of": 2}                         | unsupported_value          | best_of           | best_of
{"frequency_penalty": 2.5}             | invalid_value              | frequency_penalty | -2 to 2
{"repetition_penalty": 0}              | invalid_value              | repetition_penalty | above 0
{"top_k": -2}                          | invalid_value              | top_k             | -2
{"mirostat": 1}                        | unsupported_value          | mirostat          | `0` or `2`
{"dry_penalty_last_n": 64}             | unsupported_value          | dry_penalty_last_n | -1
{"logit_bias": {"x": 1}}               | invalid_value              | logit_bias        | x
{"logit_bias": {"5": 101}}             | invalid_value              | logit_bias        | 101
{"logit_bias": {"99999": 1}}           | invalid_value              | logit_bias        | 99999
{"response_format": {"type": "xml"}}   | invalid_value              | response_format   | xml
{"guided_regex": "(a"}                 | invalid_value              |                   | regular expression
{"guided_json": {"type": "strnig"}}    | invalid_value              |                   | JSON schema
{"guided_choice": []}                  | invalid_value              | guided_choice     | at least one
{"guided_regex": "a", "guided_json": {}} \
                                       | invalid_value              | guided_regex      | only one of it and `guided_json`
{"tools": [{"type": "function"}]}      | invalid_value              | tools[0]          | function
{"tools": [{"type": "web_search", "function": {"name": "x"}}]} \
                                       | invalid_value              | tools[0]          | web_search
{"tools": [{"type": "function", "function": {"name": "a b"}}]} \
                                       | invalid_value              | tools[0]          | `a b`
{"tools": [{"type": "function", "function": {"name": "a", "colour": 1}}]} \
                                       | invalid_value              | tools[0]          | colour
{"tool_choice": "required"}            | invalid_value              | tool_choice       | tools
{"tool_choice": "perhaps"}             | invalid_value              | tool_choice       | perhaps
{"temperature": "hot"}                 | invalid_value              | temperature       | hot
{"temperature": -1}                    | invalid_value              | temperature       | -1
{"temperature": 1e300}                 | invalid_value              | temperature       | temperature
{"top_p": 0}                           | invalid_value              | top_p             | top_p
{"max_tokens": 0}                      | invalid_value              | max_tokens        | at least 1
{"max_tokens": -5}                     | invalid_value              | max_tokens        | -5
{"max_tokens": 1.5}                    | invalid_value              | max_tokens        | 1.5
{"stop": ""}                           | invalid_value              | stop              | empty
{"stop": ["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"]} \
                                       | invalid_value              | stop              | 17
{"stream_options": {}}                 | invalid_value              | stream_options    | stream
{"top_logprobs": 2}                    | invalid_value              | top_logprobs      | logprobs
{"logprobs": true, "top_logprobs": 21} | invalid_value              | top_logprobs      | 20
{"messages": null}                     | missing_required_parameter | messages          | messages
{"messages": []}                       | invalid_value              | messages          | at least one
{"messages": "hi"}                     | invalid_value              | messages          | hi
{"messages": [{"role": "robot", "content": "x"}]} \
                                       | invalid_value              | messages[0]       | robot
{"messages": [{"role": "user", "content": 5}]} \
                                       | invalid_value              | messages[0]       | messages[0]
{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]} \
                                       | invalid_value              | messages[0]       | image_url
"#;

#[test]
fn wrong_parameters_are_named() {
    let serving = Serving::start();
    for line in WRONG_PARAMETERS.replace("\\\n", "").trim().lines() {
        let columns: Vec<&str> = line.split(" | ").map(str::trim).collect();
        let [more, code, param, needle] = columns[..] else { panic!("{line:?} has no four columns") };
        check(&serving.chat(&serde_json::from_str(more).unwrap()), 400, code, param, needle);
    }
    let unknown = serving.chat(&json!({ "model": "gpt-x" }));
    check(&unknown, 404, "model_not_found", "model", "`tiny`, `handbook`");
    let both = json!({ "prompt": "x", "echo": true, "logprobs": 1, "stream": true });
    check(&serving.post("/v1/completions", &both), 400, "invalid_value", "echo", "logprobs");
    let ids = json!({ "prompt": [1, 999_999] });
    check(&serving.post("/v1/completions", &ids), 400, "invalid_value", "prompt", "999999");
    check(
        &serving.post("/v1/completions", &json!({ "prompt": "" })),
        400,
        "invalid_value",
        "prompt",
        "empty",
    );
    check(
        &serving.post("/v1/completions", &json!({ "prompt": [] })),
        400,
        "invalid_value",
        "prompt",
        "prompt 0 is empty",
    );
}

#[test]
fn bodies_that_are_no_json_object_are_refused() {
    let serving = Serving::start();
    for (body, needle) in [
        (&b""[..], "JSON"),
        (b"{\"model\": ", "line 1"),
        (b"[1]", "JSON object"),
        (b"{\"model\": \"\xff\xfe\"}", "UTF-8"),
        (b"model=tiny", "JSON"),
    ] {
        let response = client::post_bytes(serving.address(), "/v1/chat/completions", body);
        check(&response, 400, "invalid_json", "", needle);
    }
    let large = vec![b' '; (8 << 20) + 1];
    let response = client::post_bytes(serving.address(), "/v1/chat/completions", &large);
    check(&response, 413, "", "", "larger");
}

#[test]
fn a_prompt_longer_than_the_context_is_refused_with_the_numbers() {
    let serving = Serving::start();
    let long = "x".repeat(5000);
    let ask = |model: &str| {
        serving.chat(&json!({ "model": model, "messages": [{ "role": "user", "content": long }] }))
    };
    let expected =
        serving.state.engine().unwrap().model().chat.prompt(&hearth_tokenizer::Conversation::from(vec![
            hearth_tokenizer::Message::user(long.clone()),
        ]));
    let needle = format!("{} tokens", expected.unwrap().len());
    check(&ask("tiny"), 400, "context_length_exceeded", "messages", &needle);
    check(&ask("tiny"), 400, "context_length_exceeded", "messages", "4096");
    check(&ask("handbook"), 400, "context_length_exceeded", "messages", "passages");
    let plain = serving.post("/v1/completions", &json!({ "prompt": long }));
    check(&plain, 400, "context_length_exceeded", "prompt", "5000 tokens");
    assert_eq!(serving.chat(&json!({})).status, 200);
}

#[test]
fn paths_and_methods_that_do_not_exist() {
    let serving = Serving::start();
    check(&serving.get("/v1/nothing"), 404, "unknown_url", "", "/v1/nothing");
    check(&serving.get("/v1/models/none"), 404, "model_not_found", "model", "`none`");
    let response = serving.get("/v1/chat/completions");
    check(&response, 405, "", "", "GET");
}

#[test]
fn pages_of_other_sites_are_refused() {
    let serving = Serving::start();
    let body = chat_body(&Value::Object(serde_json::Map::new())).to_string();
    let send = |more: &str| {
        let head = format!("{}\r\n{more}", client::post_head("/v1/chat/completions"));
        client::send(serving.address(), &head, body.as_bytes())
    };
    check(&send("Origin: http://evil.example"), 403, "", "", "evil.example");
    check(&send("Host: evil.example"), 403, "", "", "evil.example");
    assert_eq!(send(&format!("Origin: http://{}", serving.address())).status, 200);
}
