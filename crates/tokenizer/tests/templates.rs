//! Chat templates against Jinja2 set up as transformers does it: `golden/templates.py` wrote what is expected.

#![expect(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "all of this file is tests")]

use std::sync::{Arc, LazyLock};

use hearth_tokenizer::{ChatFormat, Conversation, Error, Kind, TokenKind, Tokenizer, Vocabulary};
use serde_json::Value;

static GOLDEN: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../golden/templates.json")).unwrap());

/// Bytes that are printable ASCII and the rest as stand-ins, bos, eos and some tokens of templates.
fn tokenizer() -> Arc<Tokenizer> {
    let text = |field: &str| GOLDEN[field].as_str().unwrap().to_owned();
    let mut tokens: Vec<String> = (0x21..0x17f).filter_map(char::from_u32).map(String::from).collect();
    let mut kinds = vec![TokenKind::Normal; tokens.len()];
    let control = ["<|im_start|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<end_of_turn>"];
    let special = [text("bos"), text("eos")].into_iter().chain(control.map(str::to_owned));
    for token in special {
        tokens.push(token);
        kinds.push(TokenKind::Control);
    }
    for token in ["<think>", "</think>", "<tool_call>", "</tool_call>"] {
        tokens.push(token.to_owned());
        kinds.push(TokenKind::UserDefined);
    }
    let id = |name: &str| tokens.iter().position(|token| token == name).map(|id| id as u32);
    let (bos, eos) = (id(&text("bos")), id(&text("eos")));
    let mut vocabulary = Vocabulary::new(Kind::ByteBpe, tokens);
    (vocabulary.token_kinds, vocabulary.bos, vocabulary.eos) = (kinds, bos, eos);
    Arc::new(Tokenizer::from_parts(vocabulary).unwrap())
}

fn conversation(name: &str) -> Conversation {
    let mut json = GOLDEN["conversations"][name].clone();
    if let Some(variables) = json.as_object_mut().unwrap().remove("variables") {
        json["chat_template_kwargs"] = variables;
    }
    serde_json::from_value(json).unwrap()
}

fn format(template: &str) -> ChatFormat {
    let source = GOLDEN["templates"][template].as_str().unwrap();
    ChatFormat::new(tokenizer(), Some(source)).unwrap()
}

#[test]
fn rendering_equals_jinja2() {
    let cases = GOLDEN["cases"].as_array().unwrap();
    let mut num_refused = 0;
    let mut different = Vec::new();
    for case in cases {
        let (template, name) = (case["template"].as_str().unwrap(), case["conversation"].as_str().unwrap());
        let (format, conversation) = (format(template), conversation(name));
        for (key, found) in
            [("prompt", format.prompt_text(&conversation)), ("text", format.conversation_text(&conversation))]
        {
            match (case[key].as_str(), found) {
                (Some(expected), Ok(found)) if found == expected => {}
                (None, Err(Error::TemplateRender { .. })) => num_refused += 1,
                (expected, found) => different
                    .push(format!("{template} | {name} | {key}\n  jinja2 {expected:?}\n  hearth {found:?}")),
            }
        }
    }
    assert!(different.is_empty(), "{} of {}:\n{}", different.len(), 2 * cases.len(), different.join("\n"));
    assert!(cases.len() >= 100 && num_refused >= 10, "{} cases, {num_refused} refused", cases.len());
}
