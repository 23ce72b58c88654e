//! Several models behind one server, and what a client is told when there is no room for it.

use std::sync::Arc;
use std::time::Instant;

use hearth_engine::{Engine, EngineConfig, Loader, Registry};
use hearth_kernels::pool::Pool;
use hearth_model::Model;
use hearth_serve::{Assistant, Server, State};
use hearth_testkit::{Scratch, TINY, TinyModel};
use serde_json::json;

use crate::client;
use crate::serving::{Serving, chat_body};

/// `second` is a model of its own; `broken` can't be loaded.
struct More(Arc<Model>);

impl Loader for More {
    fn names(&self) -> Vec<String> {
        vec!["second".into(), "broken".into()]
    }

    fn estimate(&self, _name: &str) -> Result<usize, String> {
        Ok(1)
    }

    fn load(&self, name: &str) -> Result<Engine, String> {
        match name {
            "second" => {
                let config = EngineConfig { kv_bytes: 1 << 24, ..EngineConfig::new(512) };
                Ok(Engine::start(Arc::clone(&self.0), Arc::new(Pool::new(1)), config))
            }
            _ => Err("its file is cut".into()),
        }
    }
}

#[test]
fn a_model_is_loaded_when_it_is_asked_for_and_one_that_fails_fails_alone() {
    let serving = Serving::start();
    let folder = Scratch::new("serve-second").unwrap();
    TinyModel { num_layers: 1, ..TINY }.write(&folder).unwrap();
    let second = Arc::new(Model::open(&folder, &Pool::new(1)).unwrap());
    serving.state.set_models(Arc::new(Registry::new(Box::new(More(Arc::clone(&second))), usize::MAX)));
    for name in ["second", "broken"] {
        serving.state.register(Assistant { model: Some(name.into()), ..Assistant::base(name) });
    }
    let card = |name: &str| serving.get(&format!("/v1/models/{name}")).json();
    assert_eq!((&card("second")["loaded"], &card("second")["max_context"]), (&json!(false), &json!(null)));
    let first = serving.chat(&json!({}));
    let other = serving.chat(&json!({ "model": "second" }));
    assert_eq!((first.status, other.status), (200, 200), "{}", other.text());
    assert_ne!(first.json()["choices"], other.json()["choices"]);
    assert_eq!((&card("second")["loaded"], &card("second")["max_context"]), (&json!(true), &json!(512)));
    let ids = second.tokenizer().encode("the kiln");
    let text = json!({ "model": "second", "prompt": ids, "max_tokens": 4 });
    assert_eq!(serving.post("/v1/completions", &text).status, 200);
    check_all_endpoints(&serving, &second, &other.json());
    let broken = serving.chat(&json!({ "model": "broken" }));
    assert_eq!(broken.status, 500);
    let message = broken.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("`broken` can't be loaded: its file is cut"), "{message}");
    assert_eq!(serving.chat(&json!({})).json()["choices"], first.json()["choices"]);
}

/// Whatever the endpoint, the model that is named answers.
fn check_all_endpoints(serving: &Serving, second: &Model, chat: &serde_json::Value) {
    let message =
        json!({ "model": "second", "max_tokens": 24, "messages": chat_body(&json!({}))["messages"] });
    let message = serving.post("/v1/messages", &message).json();
    assert_eq!(message["content"][0]["text"], chat["choices"][0]["message"]["content"], "{message}");
    let ids = second.tokenizer().encode("the kiln and the fire");
    let expected = hearth_engine::score::log_probs(&second.decoder, &Pool::new(1), &ids, 0).unwrap();
    let scored = json!({ "model": "second", "prompt": ids, "max_tokens": 0, "echo": true, "logprobs": 1 });
    let scored = serving.post("/v1/completions", &scored).json();
    let logprobs = scored["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap();
    let logprobs: Vec<f32> = logprobs[1..].iter().map(|value| value.as_f64().unwrap() as f32).collect();
    assert_eq!(logprobs, expected);
    let tokenized = serving.post("/tokenize", &json!({ "model": "second", "prompt": "the kiln" })).json();
    assert_eq!(tokenized["max_model_len"], 512);
    let metrics = serving.get("/metrics").text();
    let line = metrics.lines().find_map(|line| line.strip_prefix("hearth_engine_tokens_total ")).unwrap();
    let first = serving.state.engine().unwrap().computed().tokens;
    assert!(line.parse::<u64>().unwrap() > first, "the other engine's tokens count, too");
}

#[test]
fn a_full_queue_is_429_and_says_when_to_try_again() {
    let folder = Scratch::new("serve-queue").unwrap();
    TinyModel { max_seq_len: 1 << 16, ..TINY }.write(&folder).unwrap();
    let pool = Arc::new(Pool::new(1));
    let model = Arc::new(Model::open(&folder, &pool).unwrap());
    let config = EngineConfig { max_batch: 1, max_queue_requests: 1, ..EngineConfig::new(1 << 16) };
    let engine = Arc::new(Engine::start(model, pool, config));
    let state = Arc::new(State::new(Arc::clone(&engine), Assistant::base("tiny"), 1));
    let running = Server::bind(([127, 0, 0, 1], 0).into()).unwrap().start(Arc::clone(&state)).unwrap();
    let long = chat_body(&json!({ "max_tokens": 60_000, "stream": true })).to_string();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nContent-Type: application/json";
    let mut first = client::open(running.address(), head, long.as_bytes());
    // The first chunk says who speaks; the second is a token, so it runs.
    assert!(first.chunk().is_some() && first.chunk().is_some());
    let second = client::open(running.address(), head, long.as_bytes());
    let started = Instant::now();
    while engine.load().waiting_requests == 0 {
        assert!(started.elapsed().as_secs() < 20, "the second request never came");
        std::thread::yield_now();
    }
    let refused = client::post(running.address(), "/v1/chat/completions", &chat_body(&json!({})));
    assert_eq!(refused.status, 429);
    assert!((1..=600).contains(&refused.header("retry-after").parse::<u64>().unwrap()));
    let error = &refused.json()["error"];
    assert_eq!(error["code"], "rate_limit_exceeded");
    assert!(error["message"].as_str().unwrap().contains("1 requests"), "{error}");
    drop((first, second));
    state.stop();
    let stopped = client::post(running.address(), "/v1/chat/completions", &chat_body(&json!({})));
    assert_eq!(stopped.status, 503);
}
