//! What changes while the server runs, and the pages around the API.

use hearth_serve::{Assistant, Behind};
use serde_json::json;

use crate::serving::Serving;

#[test]
fn an_assistant_registered_later_is_served_and_can_be_the_default() {
    let serving = Serving::start();
    let names = || {
        let list = serving.get("/v1/models").json();
        let data = list["data"].as_array().unwrap().clone();
        data.iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(), ["tiny", "handbook", "letters"]);
    assert_eq!(serving.chat(&json!({ "model": "best/one" })).status, 404);
    let system = Some("Answer in one word.".into());
    serving.state.register(Assistant { system, ..Assistant::base("best/one") });
    assert_eq!(names(), ["tiny", "handbook", "best/one", "letters"]);
    assert_eq!(serving.get("/v1/models/best/one").json()["id"], "best/one");
    let plain = serving.chat(&json!({})).json();
    let best = serving.chat(&json!({ "model": "best/one" })).json();
    assert_eq!(best["model"], "best/one");
    assert!(best["usage"]["prompt_tokens"].as_u64() > plain["usage"]["prompt_tokens"].as_u64());
    serving.state.set_default("best/one").unwrap();
    assert_eq!(serving.chat(&json!({ "model": null })).json()["model"], "best/one");
    assert!(serving.state.set_default("none").is_err());
}

#[test]
fn status_tells_what_runs_behind_and_whether_there_is_a_report() {
    let serving = Serving::start();
    let status = serving.get("/api/status").json();
    assert_eq!(status["default"], "tiny");
    assert_eq!(status["documents"].as_array().unwrap().len(), 3);
    assert_eq!(status["behind"], json!(null));
    assert_eq!(status["report"], false);
    assert_eq!(serving.get("/report").status, 404);

    let behind = Behind { stage: "comparison".into(), text: "RAG".into(), done: 2, total: 5 };
    serving.state.set_behind(Some(behind));
    let file = serving.folder.join("report.html");
    serving.state.set_report(file.clone());
    assert_eq!(serving.get("/report").status, 404, "named, but not written yet");
    fs_err::write(&file, "<!doctype html><p>five ways").unwrap();
    let health = serving.get("/healthz").json();
    assert_eq!(health["status"], "ok");
    assert_eq!(health["behind"]["done"], 2);
    assert_eq!(serving.get("/api/status").json()["report"], true);
    let report = serving.get("/report");
    assert_eq!(report.text(), "<!doctype html><p>five ways");
    assert!(report.header("content-security-policy").starts_with("default-src 'none'"));
}

#[test]
fn the_page_loads_nothing_from_elsewhere() {
    let serving = Serving::start();
    for (path, kind) in [
        ("/", "text/html"),
        ("/app.js", "text/javascript"),
        ("/app.css", "text/css"),
        ("/icon.svg", "image/svg"),
    ] {
        let response = serving.get(path);
        assert_eq!(response.status, 200);
        assert!(response.header("content-type").starts_with(kind));
        assert!(response.header("content-security-policy").starts_with("default-src 'self'"));
        assert_eq!(response.header("x-content-type-options"), "nosniff");
        assert!(response.header("access-control-allow-origin").is_empty());
        let text = response.text().replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains("http://") && !text.contains("https://"), "{path} names another site");
    }
}
