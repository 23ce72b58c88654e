//! Keys, limits, and accounts that add up.

use std::sync::Arc;

use hearth_serve::{Ledger, Limits};
use serde_json::{Value, json};

use crate::client::{self, Response};
use crate::serving::{Serving, chat_body};

struct Accounts {
    serving: Serving,
    ledger: Arc<Ledger>,
}

impl Accounts {
    fn start() -> Self {
        let serving = Serving::start();
        let ledger = Arc::new(Ledger::open(&serving.folder.join("hearth.db")).unwrap());
        serving.state.set_ledger(Arc::clone(&ledger));
        Self { serving, ledger }
    }

    fn chat(&self, head: &str, more: &Value) -> Response {
        client::post_with(self.serving.address(), "/v1/chat/completions", head, &chat_body(more))
    }
}

fn bearer(secret: &str) -> String {
    format!("Authorization: Bearer {secret}")
}

#[test]
fn a_key_is_asked_for_once_there_is_one_and_a_revoked_one_opens_nothing() {
    let accounts = Accounts::start();
    assert_eq!(accounts.serving.chat(&json!({})).status, 200, "loopback without any key");
    let (key, secret) = accounts.ledger.create_key("ci", Limits::default()).unwrap();
    let refused = accounts.serving.chat(&json!({}));
    assert_eq!((refused.status, refused.json()["error"]["code"].clone()), (401, json!("invalid_api_key")));
    assert_eq!(accounts.chat(&bearer("sk-hearth-wrong"), &json!({})).status, 401);
    assert_eq!(accounts.chat(&bearer(&secret), &json!({})).status, 200);
    assert_eq!(
        accounts.chat(&format!("x-api-key: {secret}"), &json!({})).status,
        200,
        "as Anthropic's clients send it"
    );
    for open in ["/healthz", "/readyz", "/", "/openapi.json"] {
        assert_eq!(accounts.serving.get(open).status, 200, "{open}");
    }
    assert_eq!(accounts.serving.get("/metrics").status, 401);
    // The other process that revokes is `hearth keys revoke`.
    let other = Ledger::open(&accounts.serving.folder.join("hearth.db")).unwrap();
    let (second, _) = other.create_key("second", Limits::default()).unwrap();
    assert_eq!(other.revoke("ci").unwrap()[0].id, key.id);
    assert_eq!(accounts.chat(&bearer(&secret), &json!({})).status, 401);
    assert_eq!(other.revoke(&second.id).unwrap().len(), 1);
    assert!(other.revoke("ci").unwrap().is_empty(), "it is revoked already");
}

#[test]
fn the_file_holds_no_secret() {
    let accounts = Accounts::start();
    let (_, secret) = accounts.ledger.create_key("ci", Limits::default()).unwrap();
    assert!(secret.starts_with("sk-hearth-") && secret.len() > 50);
    for name in ["hearth.db", "hearth.db-wal"] {
        let bytes = fs_err::read(accounts.serving.folder.join(name)).unwrap_or_default();
        let needle = secret.as_bytes();
        assert!(!bytes.windows(needle.len()).any(|window| window == needle), "{name}");
    }
}

#[test]
fn limits_answer_429_and_say_when() {
    let accounts = Accounts::start();
    let limits = Limits { requests_per_minute: Some(2), tokens_per_day: None };
    let (_, few) = accounts.ledger.create_key("few", limits).unwrap();
    let limits = Limits { requests_per_minute: None, tokens_per_day: Some(30) };
    let (_, small) = accounts.ledger.create_key("small", limits).unwrap();
    let ask = |secret: &str| accounts.chat(&bearer(secret), &json!({}));
    assert_eq!([ask(&few).status, ask(&few).status], [200, 200]);
    let refused = ask(&few);
    assert_eq!(
        (refused.status, refused.json()["error"]["code"].clone()),
        (429, json!("rate_limit_exceeded"))
    );
    assert!((1..=30).contains(&refused.header("retry-after").parse::<u64>().unwrap()));
    assert_eq!(ask(&small).status, 200, "what is under way is answered");
    let refused = ask(&small);
    assert_eq!((refused.status, refused.json()["error"]["code"].clone()), (429, json!("insufficient_quota")));
    assert!(refused.header("retry-after").parse::<u64>().unwrap() <= 86_400);
}

#[test]
fn usage_by_key_and_app_is_what_the_engine_computed() {
    let accounts = Accounts::start();
    let (ada, ada_secret) = accounts.ledger.create_key("ada", Limits::default()).unwrap();
    let (_, bob_secret) = accounts.ledger.create_key("bob", Limits::default()).unwrap();
    let address = accounts.serving.address();
    let mut seen = (0, 0, 0);
    let mut add = |usage: &Value| {
        seen.0 += usage["prompt_tokens"].as_u64().unwrap();
        seen.1 += usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
        seen.2 += usage["completion_tokens"].as_u64().unwrap();
    };
    for i in 0..4 {
        let secret = if i % 2 == 0 { &ada_secret } else { &bob_secret };
        let more = json!({ "n": 1 + i % 2, "max_tokens": 5 + i, "temperature": 1.0, "seed": i });
        add(&accounts.chat(&format!("{}\r\nx-hearth-app: app{i}", bearer(secret)), &more).json()["usage"]);
    }
    let more = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let events = client::events(&accounts.chat(&bearer(&ada_secret), &more));
    add(&serde_json::from_str::<Value>(&events[events.len() - 2]).unwrap()["usage"]);
    let body = json!({ "prompt": ["one", "two two"], "max_tokens": 3 });
    add(&client::post_with(address, "/v1/completions", &bearer(&bob_secret), &body).json()["usage"]);

    let used = accounts.ledger.usage().unwrap();
    let sum = |pick: fn(&hearth_serve::Used) -> u64| used.iter().map(pick).sum::<u64>();
    assert_eq!((sum(|u| u.prompt_tokens), sum(|u| u.cached_tokens), sum(|u| u.completion_tokens)), seen);
    assert_eq!(sum(|u| u.requests), 6);
    let computed = accounts.serving.state.engine().unwrap().computed();
    assert_eq!(sum(|u| u.completion_tokens), computed.generated_tokens);
    assert_eq!(sum(|u| u.prompt_tokens - u.cached_tokens), computed.prompt_tokens);
    let of_ada: Vec<_> = used.iter().filter(|u| u.key == ada.id).collect();
    assert_eq!(of_ada.iter().map(|u| u.app.as_str()).collect::<Vec<_>>(), ["", "app0", "app2"]);
    assert!(of_ada.iter().all(|u| u.key_name == "ada" && u.model == "tiny" && u.cost.is_none()));
    accounts.ledger.set_price("tiny", 2.0, 10.0).unwrap();
    let priced = accounts.ledger.usage().unwrap();
    let cost: f64 = priced.iter().map(|u| u.cost.unwrap()).sum();
    assert!((cost * 1e6 - (2 * seen.0 + 10 * seen.2) as f64).abs() < 1e-6);
}

#[test]
fn an_answer_given_up_half_way_is_counted_as_far_as_it_came() {
    let accounts = Accounts::start();
    // The same beginning a second time: what is known of it is counted as known, however the request ends.
    let whole = accounts.chat("accept: */*", &json!({ "max_tokens": 2 })).json();
    let body = chat_body(&json!({ "stream": true, "max_tokens": 4000 }));
    let mut stream = client::open(
        accounts.serving.address(),
        &client::post_head("/v1/chat/completions"),
        body.to_string().as_bytes(),
    );
    for _ in 0..4 {
        stream.chunk().unwrap();
    }
    drop(stream);
    // The server notices when it writes the next token.
    let used = (0..400).find_map(|_| {
        let mut used = accounts.ledger.usage().unwrap();
        used.retain(|used| used.requests == 2);
        if used.is_empty() {
            std::thread::park_timeout(std::time::Duration::from_millis(25));
        }
        used.into_iter().next()
    });
    let used = used.expect("an entry");
    let prompt = whole["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!((used.prompt_tokens, used.cached_tokens), (2 * prompt, prompt - 1), "{used:?}");
    assert!(used.completion_tokens >= 4 && used.completion_tokens < 4000, "{used:?}");
}

#[test]
fn a_file_of_another_version_is_refused() {
    let accounts = Accounts::start();
    let path = accounts.serving.folder.join("other.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let error = Ledger::open(&path).unwrap_err().to_string();
    assert!(error.contains("version 99") && error.contains("other.db"), "{error}");
}
