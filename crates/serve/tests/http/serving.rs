//! A running server for one test.

use std::net::SocketAddr;
use std::sync::Arc;

use hearth_engine::{Engine, EngineConfig};
use hearth_kernels::pool::Pool;
use hearth_model::Model;
use hearth_serve::{Assistant, Running, Server, State};
use hearth_testkit::{Scratch, TINY, TinyModel};
use serde_json::{Value, json};

use crate::client::{self, Response};
use crate::handbook::Handbook;

pub(crate) struct Serving {
    pub(crate) state: Arc<State>,
    pub(crate) running: Running,
    pub(crate) folder: Scratch,
}

impl Serving {
    /// The assistants `tiny`, without documents, and `handbook`.
    pub(crate) fn start() -> Self {
        Self::with(TINY.max_seq_len, 4)
    }

    pub(crate) fn with(max_seq_len: usize, max_batch: usize) -> Self {
        Self::start_with(max_seq_len, max_batch, None)
    }

    /// With another chat template.
    pub(crate) fn of_template(template: &str) -> Self {
        Self::start_with(4096, 4, Some(template))
    }

    fn start_with(max_seq_len: usize, max_batch: usize, template: Option<&str>) -> Self {
        let folder = Scratch::new("serve").unwrap();
        TinyModel { max_seq_len, ..TINY }.write(&folder).unwrap();
        if let Some(template) = template {
            fs_err::write(folder.join("chat_template.jinja"), template).unwrap();
        }
        let pool = Arc::new(Pool::new(1));
        let model = Arc::new(Model::open(&folder, &pool).unwrap());
        let config = EngineConfig {
            max_batch,
            prefill_chunk: 64,
            prefix_cache_bytes: 1 << 22,
            ..EngineConfig::new(max_seq_len)
        };
        let engine = Arc::new(Engine::start(model, pool, config));
        let state = Arc::new(State::new(engine, Assistant::base("tiny"), 1));
        state.register(Assistant { grounding: Some(Arc::new(Handbook)), ..Assistant::base("handbook") });
        state.set_passages(Arc::new(Handbook));
        state.set_embedding(Arc::new(Handbook));
        let running = Server::bind(([127, 0, 0, 1], 0).into()).unwrap().start(Arc::clone(&state)).unwrap();
        Self { state, running, folder }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.address()
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        client::get(self.address(), path)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Response {
        client::post(self.address(), path, body)
    }

    /// A chat completion with these fields besides model, question and a limit of 24 tokens.
    pub(crate) fn chat(&self, more: &Value) -> Response {
        self.post("/v1/chat/completions", &chat_body(more))
    }
}

pub(crate) fn chat_body(more: &Value) -> Value {
    let mut body = json!({
        "model": "tiny",
        "messages": [{ "role": "user", "content": "the kiln and the fire" }],
        "max_tokens": 24,
    });
    merge(&mut body, more);
    body
}

pub(crate) fn merge(body: &mut Value, more: &Value) {
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
}
