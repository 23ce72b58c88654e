//! A request of the Responses API to a conversation.

use hearth_tokenizer::{Conversation, Message, Role};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::ask::Ask;
use crate::error::{Error, Result};
use crate::fields::Fields;
use crate::sampling::Asked;
use crate::state::State;
use crate::tools::{Choice, Tools};

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Items(Vec<Map<String, Value>>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tool {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    description: Option<String>,
    parameters: Option<Value>,
    strict: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum AskedChoice {
    Word(String),
    Named { name: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    format: Option<Value>,
}

/// The request, and the settings that the response repeats.
pub(crate) fn read(state: &State, mut fields: Fields, request: u64) -> Result<(Ask, Value)> {
    let name = fields.take::<String>("model")?.unwrap_or_else(|| state.default_name());
    let assistant = state.assistant(&name)?;
    let instructions: Option<String> = fields.take("instructions")?;
    let input = fields.require("input")?;
    refuse_stored(&mut fields)?;
    let mut messages: Vec<Message> = instructions.iter().map(|text| Message::system(text.as_str())).collect();
    match input {
        Input::Text(text) => messages.push(Message::user(text)),
        Input::Items(items) => {
            for (index, item) in items.into_iter().enumerate() {
                add(item, &format!("input[{index}]"), &mut messages)?;
            }
        }
    }
    one_system(&mut messages);
    let asked_max: Option<usize> = fields.take("max_output_tokens")?;
    let max_tokens = asked_max.unwrap_or(assistant.max_tokens);
    if max_tokens == 0 {
        return Err(Error::parameter("max_output_tokens", "must be at least 1"));
    }
    let format =
        fields.take::<Text>("text")?.and_then(|text| text.format).unwrap_or(json!({ "type": "text" }));
    fields.put("response_format", response_format(&format));
    let (tools, echoed_tools, echoed_choice, is_parallel) = tools(&mut fields)?;
    let metadata = fields.take::<Value>("metadata")?.unwrap_or_else(|| json!({}));
    let user: Option<String> = fields.take("user")?;
    let asked = Asked::take(&mut fields, assistant.sampling.clone(), state.seed_of(request))?;
    if asked.n != 1 {
        return Err(Error::parameter("n", "a response is one answer"));
    }
    fields.finish()?;
    let echo = json!({
        "instructions": instructions, "max_output_tokens": asked_max, "temperature": asked.sampling.temperature,
        "top_p": asked.sampling.top_p, "tools": echoed_tools, "tool_choice": echoed_choice,
        "parallel_tool_calls": is_parallel, "text": { "format": format }, "metadata": metadata, "user": user,
        "previous_response_id": null, "store": false, "truncation": "disabled", "background": false,
        "reasoning": { "effort": null, "summary": null },
    });
    let conversation = Conversation::from(messages);
    Ok((Ask { assistant, conversation, asked, max_tokens, logprobs: None, tools, request }, echo))
}

/// Parameters of what isn't built: only the values that ask for nothing.
fn refuse_stored(fields: &mut Fields) -> Result<()> {
    if let Some(id) = fields.take::<String>("previous_response_id")? {
        return Err(Error::Unsupported {
            param: "previous_response_id".into(),
            value: format!("`{id}`"),
            accepted: "`input` with the whole conversation: responses aren't stored here".into(),
        });
    }
    fields.accept_only("background", &[json!(false)])?;
    fields.accept_only("truncation", &[json!("disabled")])?;
    fields.accept_only("include", &[json!([])])?;
    fields.accept_only("reasoning", &[json!({})])?;
    fields.accept_only("top_logprobs", &[json!(0)])?;
    fields.accept_only("max_tool_calls", &[])
}

/// The same format in the shape of chat completions.
fn response_format(format: &Value) -> Value {
    let mut format = format.clone();
    if format["type"] != "json_schema" {
        return format;
    }
    if let Some(map) = format.as_object_mut() {
        map.remove("type");
    }
    json!({ "type": "json_schema", "json_schema": format })
}

fn tools(fields: &mut Fields) -> Result<(Tools, Value, Value, bool)> {
    let echoed_tools: Vec<Value> = fields.take("tools")?.unwrap_or_default();
    let mut definitions = Vec::new();
    for (index, value) in echoed_tools.iter().enumerate() {
        let wrong = |reason: String| Error::parameter(format!("tools[{index}]"), reason);
        let tool: Tool = serde_json::from_value(value.clone()).map_err(|error| wrong(error.to_string()))?;
        if tool.kind != "function" {
            return Err(wrong(format!("the type `{}` isn't supported; use `function`", tool.kind)));
        }
        let mut function = json!({ "name": tool.name.ok_or_else(|| wrong("`name` is missing".into()))? });
        for (name, value) in [
            ("description", tool.description.map(Value::from)),
            ("parameters", tool.parameters),
            ("strict", tool.strict.map(Value::from)),
        ] {
            if let Some(value) = value {
                function[name] = value;
            }
        }
        definitions.push(json!({ "type": "function", "function": function }));
    }
    let echoed_choice = fields.take::<Value>("tool_choice")?.unwrap_or_else(|| json!("auto"));
    let choice = serde_json::from_value(echoed_choice.clone());
    let choice = match choice.map_err(|error| Error::parameter("tool_choice", error.to_string()))? {
        AskedChoice::Named { name } => Choice::Named(name),
        AskedChoice::Word(word) => match word.as_str() {
            "none" => Choice::None,
            "auto" => Choice::Auto,
            "required" => Choice::Required,
            _ => {
                return Err(Error::parameter(
                    "tool_choice",
                    format!("`{word}` isn't `none`, `auto` or `required`"),
                ));
            }
        },
    };
    let is_parallel = fields.take("parallel_tool_calls")?.unwrap_or(true);
    Ok((Tools::new(definitions, choice, is_parallel)?, echoed_tools.into(), echoed_choice, is_parallel))
}

/// Adds an item of the input. Calls belong to the assistant's message before them.
fn add(mut item: Map<String, Value>, place: &str, messages: &mut Vec<Message>) -> Result<()> {
    let text = |item: &mut Map<String, Value>, name: &str| match item.remove(name) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Error::parameter(format!("{place}.{name}"), "must be a string")),
        None => Err(Error::Missing { param: format!("{place}.{name}") }),
    };
    let kind = if item.contains_key("type") { text(&mut item, "type")? } else { "message".into() };
    // What an earlier response said of its items.
    item.remove("status");
    match kind.as_str() {
        "message" => {
            item.remove("id");
            let mut message = Map::new();
            for name in ["role", "content"] {
                message.insert(name.into(), item.remove(name).unwrap_or_default());
            }
            as_text_parts(message.get_mut("content"));
            let message = serde_json::from_value(message.into());
            messages.push(message.map_err(|error| Error::parameter(place, error.to_string()))?);
        }
        "function_call" => {
            item.remove("id");
            let call = json!({
                "id": text(&mut item, "call_id")?, "type": "function",
                "function": { "name": text(&mut item, "name")?, "arguments": text(&mut item, "arguments")? },
            });
            match messages.last_mut().filter(|last| last.role == Role::Assistant) {
                Some(last) => last.tool_calls.push(call),
                None => messages.push(Message { tool_calls: vec![call], ..Message::assistant("") }),
            }
        }
        "function_call_output" => {
            item.remove("id");
            let id = text(&mut item, "call_id")?;
            let output = text(&mut item, "output")?;
            messages.push(Message { tool_call_id: Some(id), ..Message::new(Role::Tool, output) });
        }
        "reasoning" => return Ok(()),
        _ => return Err(Error::parameter(place, format!("an item `{kind}` isn't supported"))),
    }
    match item.keys().next() {
        Some(key) => Err(Error::UnknownParameters { names: vec![format!("{place}.{key}")] }),
        None => Ok(()),
    }
}

/// What an earlier answer said comes back as `output_text`.
fn as_text_parts(content: Option<&mut Value>) {
    for part in content.and_then(Value::as_array_mut).into_iter().flatten() {
        if part["type"] == "output_text" {
            part["type"] = "text".into();
        }
    }
}

/// Templates know one system message: instructions and leading system items become it.
fn one_system(messages: &mut Vec<Message>) {
    while messages.len() > 1 && messages[0].role == Role::System && messages[1].role == Role::System {
        let second = messages.remove(1);
        messages[0].content = format!("{}\n\n{}", messages[0].content, second.content);
    }
}
