//! A request of the Anthropic API to a conversation.

use hearth_tokenizer::{Conversation, Message, Role};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::ask::Ask;
use crate::error::{Error, Result};
use crate::fields::Fields;
use crate::sampling::Asked;
use crate::state::State;
use crate::tools::{Choice, Tools};

type Object = Map<String, Value>;

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Blocks(Vec<Object>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Turn {
    role: Role,
    content: Content,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tool {
    name: String,
    description: Option<String>,
    input_schema: Option<Value>,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "cache_control")]
    _cache_control: Option<Value>,
    #[serde(rename = "strict")]
    _strict: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToolChoice {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    #[serde(default)]
    disable_parallel_tool_use: bool,
}

pub(crate) fn read(state: &State, mut fields: Fields, request: u64) -> Result<Ask> {
    let name: String = fields.require("model")?;
    let assistant = state.assistant(&name)?;
    let max_tokens: usize = fields.require("max_tokens")?;
    if max_tokens == 0 {
        return Err(Error::parameter("max_tokens", "must be at least 1"));
    }
    let system = fields.take("system")?;
    let turns: Vec<Turn> = fields.require("messages")?;
    if turns.is_empty() {
        return Err(Error::parameter("messages", "must hold at least one message"));
    }
    let mut messages = Vec::new();
    if let Some(system) = system {
        messages.push(Message::system(text_of(system, "system")?));
    }
    for (index, turn) in turns.into_iter().enumerate() {
        if !matches!(turn.role, Role::User | Role::Assistant) {
            let reason = "the role must be `user` or `assistant`; a system text goes into `system`";
            return Err(Error::parameter(format!("messages[{index}]"), reason));
        }
        turn_messages(turn, &format!("messages[{index}]"), &mut messages)?;
    }
    let tools = tools(&mut fields)?;
    let thinking: Option<Object> = fields.take("thinking")?;
    if thinking.is_some_and(|thinking| thinking.get("type") != Some(&json!("disabled"))) {
        return Err(Error::Unsupported {
            param: "thinking".into(),
            value: "other than disabled".into(),
            accepted: "`{\"type\": \"disabled\"}`; a model that thinks does so by its template".into(),
        });
    }
    if let Some(stops) = fields.take::<Value>("stop_sequences")? {
        fields.put("stop", stops);
    }
    let asked = Asked::take(&mut fields, assistant.sampling.clone(), state.seed_of(request))?;
    fields.finish()?;
    let conversation = Conversation::from(messages);
    Ok(Ask { assistant, conversation, asked, max_tokens, logprobs: None, tools, request })
}

fn tools(fields: &mut Fields) -> Result<Tools> {
    let tools: Vec<Tool> = fields.take("tools")?.unwrap_or_default();
    let choice: Option<ToolChoice> = fields.take("tool_choice")?;
    let is_parallel = !choice.as_ref().is_some_and(|choice| choice.disable_parallel_tool_use);
    let choice = match choice.map(|choice| (choice.kind, choice.name)) {
        None => Choice::Auto,
        Some((kind, name)) => match (kind.as_str(), name) {
            ("auto", None) => Choice::Auto,
            ("any", None) => Choice::Required,
            ("none", None) => Choice::None,
            ("tool", Some(name)) => Choice::Named(name),
            _ => {
                let reason = format!("`{kind}` isn't `auto`, `any`, `none`, or `tool` with a `name`");
                return Err(Error::parameter("tool_choice", reason));
            }
        },
    };
    let mut definitions = Vec::new();
    for (index, tool) in tools.into_iter().enumerate() {
        if let Some(kind) = tool.kind.filter(|kind| kind != "custom") {
            return Err(Error::parameter(
                format!("tools[{index}]"),
                format!("the type `{kind}` isn't supported; use `custom`"),
            ));
        }
        let mut function = json!({ "name": tool.name });
        if let Some(description) = tool.description {
            function["description"] = description.into();
        }
        if let Some(schema) = tool.input_schema {
            function["parameters"] = schema;
        }
        definitions.push(json!({ "type": "function", "function": function }));
    }
    Tools::new(definitions, choice, is_parallel)
}

/// Results of tools are messages of their own, in front of what else the turn says.
fn turn_messages(turn: Turn, place: &str, messages: &mut Vec<Message>) -> Result<()> {
    let blocks = match turn.content {
        Content::Text(text) => {
            messages.push(Message::new(turn.role, text));
            return Ok(());
        }
        Content::Blocks(blocks) => blocks,
    };
    let mut message = Message::new(turn.role, "");
    let mut texts = Vec::new();
    let mut has_results = false;
    for (index, mut block) in blocks.into_iter().enumerate() {
        let place = format!("{place}.content[{index}]");
        let kind = string(&mut block, "type", &place)?;
        block.remove("cache_control");
        block.remove("citations");
        match (kind.as_str(), turn.role) {
            ("text", _) => texts.push(string(&mut block, "text", &place)?),
            ("thinking", Role::Assistant) => {
                block.remove("signature");
                message.reasoning_content = Some(string(&mut block, "thinking", &place)?);
            }
            ("tool_use", Role::Assistant) => {
                let (id, name) = (string(&mut block, "id", &place)?, string(&mut block, "name", &place)?);
                let input = block.remove("input").unwrap_or_else(|| json!({}));
                message.tool_calls.push(json!({
                    "id": id, "type": "function", "function": { "name": name, "arguments": input.to_string() },
                }));
            }
            ("tool_result", Role::User) => {
                let id = string(&mut block, "tool_use_id", &place)?;
                // Templates have no word for a failed call; its text says so.
                block.remove("is_error");
                let content = match block.remove("content") {
                    None => String::new(),
                    Some(content) => {
                        let content = serde_json::from_value(content);
                        text_of(
                            content.map_err(|error| Error::parameter(&place, error.to_string()))?,
                            &place,
                        )?
                    }
                };
                messages.push(Message { tool_call_id: Some(id), ..Message::new(Role::Tool, content) });
                has_results = true;
            }
            _ => return Err(Error::parameter(place, format!("a block `{kind}` isn't supported here"))),
        }
        nothing_left(&block, &place)?;
    }
    message.content = texts.join("\n");
    if !message.content.is_empty() || !message.tool_calls.is_empty() || !has_results {
        messages.push(message);
    }
    Ok(())
}

fn text_of(content: Content, place: &str) -> Result<String> {
    let blocks = match content {
        Content::Text(text) => return Ok(text),
        Content::Blocks(blocks) => blocks,
    };
    let mut texts = Vec::new();
    for (index, mut block) in blocks.into_iter().enumerate() {
        let place = format!("{place}[{index}]");
        let kind = string(&mut block, "type", &place)?;
        block.remove("cache_control");
        block.remove("citations");
        if kind != "text" {
            return Err(Error::parameter(
                place,
                format!("a block `{kind}` isn't supported here; use `text`"),
            ));
        }
        texts.push(string(&mut block, "text", &place)?);
        nothing_left(&block, &place)?;
    }
    Ok(texts.join("\n"))
}

fn string(block: &mut Object, name: &str, place: &str) -> Result<String> {
    match block.remove(name) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Error::parameter(format!("{place}.{name}"), "must be a string")),
        None => Err(Error::Missing { param: format!("{place}.{name}") }),
    }
}

fn nothing_left(block: &Object, place: &str) -> Result<()> {
    match block.keys().next() {
        Some(key) => Err(Error::UnknownParameters { names: vec![format!("{place}.{key}")] }),
        None => Ok(()),
    }
}
