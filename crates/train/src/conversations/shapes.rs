//! The shapes in which conversations are published, and the one they become.
//!
//! * messages: `{"messages": [{"role", "content", "tool_calls"?, …}], "tools"?}`, as the OpenAI API, TRL and LLaMA-Factory
//!   have them
//! * `ShareGPT`: `{"conversations": [{"from", "value"}], "system"?, "tools"?}`; calls and their results as LLaMA-Factory
//!   writes them, `function_call` and `observation`
//! * Alpaca: `{"instruction", "input"?, "output", "system"?, "history"?}`
//! * `{"prompt", "completion"}` or `response`, texts or messages; `{"question", "answer"}`

use hearth_tokenizer::{Conversation, Message, Role};
use serde_json::{Map, Value, json};

/// The conversation of a row, checked: it can be learnt from. The error says what is wrong, in words that follow a place.
pub fn conversation(row: &Value) -> Result<Conversation, String> {
    let Value::Object(row) = row else {
        return Err(format!("is {}, expected an object", kind(row)));
    };
    let mut conversation = if row.contains_key("messages") {
        let mut messages = array(row, "messages")?.clone();
        messages.iter_mut().try_for_each(tidy_message)?;
        from_messages(messages)?
    } else if row.contains_key("conversations") {
        share_gpt(row)?
    } else if row.contains_key("instruction") {
        alpaca(row)?
    } else if let Some((prompt, answer)) = pair(row) {
        let messages = [turn(prompt, "user")?, turn(answer, "assistant")?].concat();
        from_messages([system(row)?, messages].concat())?
    } else {
        let keys: Vec<&str> = row.keys().map(String::as_str).take(8).collect();
        return Err(format!(
            "has none of `messages`, `conversations`, `instruction`, `prompt`, `question`; its keys are {keys:?}"
        ));
    };
    if let Some(tools) = row.get("tools") {
        conversation.tools = tools_of(tools)?;
    }
    if let Some(settings) = row.get("chat_template_kwargs") {
        let Value::Object(settings) = settings else {
            return Err(format!("`chat_template_kwargs` is {}, expected an object", kind(settings)));
        };
        conversation.variables.clone_from(settings);
    }
    check(&conversation)?;
    Ok(conversation)
}

fn check(conversation: &Conversation) -> Result<(), String> {
    let Some(last) = conversation.messages.last() else { return Err("has no messages".into()) };
    if last.role != Role::Assistant {
        let role = name(last.role);
        return Err(format!("ends with a `{role}` turn that nothing answers"));
    }
    for (index, message) in conversation.messages.iter().enumerate() {
        let says_nothing = message.content.trim().is_empty() && message.tool_calls.is_empty();
        if message.role == Role::Assistant && says_nothing {
            return Err(format!("message {} of the assistant is empty", index + 1));
        }
    }
    if conversation.messages[0].role == Role::Assistant {
        return Err("begins with the assistant: there is nothing it answers".into());
    }
    Ok(())
}

fn name(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

/// Other names of what the API calls `reasoning_content`, and what can't be honoured.
fn tidy_message(message: &mut Value) -> Result<(), String> {
    let Value::Object(message) = message else {
        return Err(format!("a message is {}, expected an object", kind(message)));
    };
    let is_learnt = message.get("role").and_then(Value::as_str) == Some("assistant");
    for name in ["weight", "loss_weight"] {
        let weight = message.get(name).filter(|weight| is_learnt && weight.as_f64() != Some(1.0));
        if let Some(weight) = weight {
            return Err(format!(
                "an answer has the `{name}` {weight}; every answer is learnt here, so remove it"
            ));
        }
    }
    open_parts(message)?;
    for other in ["thinking", "reasoning"] {
        if let Some(thought) = message.remove(other) {
            message.entry("reasoning_content").or_insert(thought);
        }
    }
    Ok(())
}

/// LLaMA-Factory's content: parts with a `value`, of which some are thoughts and calls.
fn open_parts(message: &mut Map<String, Value>) -> Result<(), String> {
    let Some(Value::Array(parts)) = message.get("content") else { return Ok(()) };
    if !parts.iter().any(|part| part.get("value").is_some()) {
        return Ok(());
    }
    let (mut texts, mut thoughts, mut tool_calls) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        let of = |key: &str| part.get(key).and_then(Value::as_str);
        match (of("type"), of("value")) {
            (Some("text"), Some(text)) => texts.push(text),
            (Some("reasoning"), Some(text)) => thoughts.push(text),
            (Some("tool_call"), Some(text)) => tool_calls.extend(calls(text)?),
            (other, _) => {
                return Err(format!(
                    "a part of a message is of type {other:?}, expected text, reasoning or tool_call"
                ));
            }
        }
    }
    let (text, thought) = (texts.join("\n"), thoughts.join("\n"));
    message.insert("content".into(), text.into());
    if !thought.is_empty() {
        message.insert("reasoning_content".into(), thought.into());
    }
    if !tool_calls.is_empty() {
        message.insert("tool_calls".into(), tool_calls.into());
    }
    Ok(())
}

fn from_messages(messages: Vec<Value>) -> Result<Conversation, String> {
    let read = |(index, message): (usize, Value)| {
        serde_json::from_value::<Message>(message).map_err(|error| format!("message {}: {error}", index + 1))
    };
    let messages: Vec<Message> = messages.into_iter().enumerate().map(read).collect::<Result<_, _>>()?;
    Ok(messages.into())
}

fn share_gpt(row: &Map<String, Value>) -> Result<Conversation, String> {
    let mut messages = system(row)?;
    for (index, entry) in array(row, "conversations")?.iter().enumerate() {
        let at = |what: &str| format!("turn {}: {what}", index + 1);
        let Value::Object(turn) = entry else {
            return Err(at(&format!("is {}, expected an object", kind(entry))));
        };
        if turn.contains_key("role") {
            let mut message = entry.clone();
            tidy_message(&mut message)?;
            messages.push(message);
            continue;
        }
        let from = turn.get("from").and_then(Value::as_str).ok_or_else(|| at("has no `from`"))?;
        let value = turn.get("value").and_then(Value::as_str).ok_or_else(|| at("has no text in `value`"))?;
        messages.push(match from {
            "human" | "user" => json!({"role": "user", "content": value}),
            "gpt" | "assistant" | "chatgpt" | "bing" | "bard" => {
                json!({"role": "assistant", "content": value})
            }
            "system" => json!({"role": "system", "content": value}),
            "observation" | "tool" => json!({"role": "tool", "content": value}),
            "function_call" => {
                json!({"role": "assistant", "content": "", "tool_calls": calls(value).map_err(|e| at(&e))?})
            }
            other => {
                return Err(at(&format!(
                    "`from` is `{other}`, expected human, gpt, system, function_call or observation"
                )));
            }
        });
    }
    from_messages(messages)
}

/// `{"name", "arguments"}` or a list of them, as JSON text.
fn calls(text: &str) -> Result<Vec<Value>, String> {
    let read: Value = serde_json::from_str(text).map_err(|error| format!("the call isn't JSON: {error}"))?;
    let calls = if let Value::Array(calls) = read { calls } else { vec![read] };
    calls
        .into_iter()
        .map(|call| match call.get("name") {
            Some(Value::String(_)) => Ok(json!({"type": "function", "function": call})),
            _ => Err(format!("the call {call} has no `name`")),
        })
        .collect()
}

fn alpaca(row: &Map<String, Value>) -> Result<Conversation, String> {
    let (instruction, output) = (text(row, "instruction")?, text(row, "output")?);
    let input = if row.contains_key("input") { text(row, "input")? } else { "" };
    let mut messages = system(row)?;
    if let Some(history) = row.get("history").filter(|history| !history.is_null()) {
        let turns: Vec<[String; 2]> = serde_json::from_value(history.clone())
            .map_err(|error| format!("`history` isn't a list of pairs of texts: {error}"))?;
        for [user, assistant] in turns {
            messages.push(json!({"role": "user", "content": user}));
            messages.push(json!({"role": "assistant", "content": assistant}));
        }
    }
    let question = match (instruction.is_empty(), input.is_empty()) {
        (false, false) => format!("{instruction}\n{input}"),
        (true, _) => input.to_owned(),
        (false, true) => instruction.to_owned(),
    };
    messages.push(json!({"role": "user", "content": question}));
    messages.push(json!({"role": "assistant", "content": output}));
    from_messages(messages)
}

fn pair(row: &Map<String, Value>) -> Option<(&Value, &Value)> {
    let answers = [("prompt", "completion"), ("prompt", "response"), ("question", "answer")];
    answers.into_iter().find_map(|(prompt, answer)| Some((row.get(prompt)?, row.get(answer)?)))
}

/// A text is one message of the role; a list holds messages.
fn turn(value: &Value, role: &str) -> Result<Vec<Value>, String> {
    match value {
        Value::String(text) => Ok(vec![json!({"role": role, "content": text})]),
        Value::Array(messages) => {
            let mut messages = messages.clone();
            messages.iter_mut().try_for_each(tidy_message)?;
            Ok(messages)
        }
        other => Err(format!("the {role}'s turn is {}, expected a text or messages", kind(other))),
    }
}

/// A system message that stands beside the turns.
fn system(row: &Map<String, Value>) -> Result<Vec<Value>, String> {
    match row.get("system") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) if text.is_empty() => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![json!({"role": "system", "content": text})]),
        Some(other) => Err(format!("`system` is {}, expected a text", kind(other))),
    }
}

/// Definitions as the API has them; bare functions are wrapped, and a list may stand as JSON text.
fn tools_of(tools: &Value) -> Result<Vec<Value>, String> {
    let read = match tools {
        Value::Null => return Ok(Vec::new()),
        Value::String(text) if text.trim().is_empty() => return Ok(Vec::new()),
        Value::String(text) => {
            serde_json::from_str(text).map_err(|error| format!("`tools` isn't JSON: {error}"))?
        }
        other => other.clone(),
    };
    let Value::Array(tools) = read else {
        return Err(format!("`tools` is {}, expected a list", kind(&read)));
    };
    let wrapped = |tool: Value| {
        if tool.get("type").is_some() { tool } else { json!({"type": "function", "function": tool}) }
    };
    Ok(tools.into_iter().map(wrapped).collect())
}

fn array<'a>(row: &'a Map<String, Value>, key: &str) -> Result<&'a Vec<Value>, String> {
    match &row[key] {
        Value::Array(values) => Ok(values),
        other => Err(format!("`{key}` is {}, expected a list", kind(other))),
    }
}

fn text<'a>(row: &'a Map<String, Value>, key: &str) -> Result<&'a str, String> {
    match row.get(key) {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Null) => Ok(""),
        Some(other) => Err(format!("`{key}` is {}, expected a text", kind(other))),
        None => Err(format!("has no `{key}`")),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Roles and contents, calls as JSON.
    fn said(row: &Value) -> Result<String, String> {
        let conversation = conversation(row)?;
        let turns = conversation.messages.iter().map(|message| {
            let calls = if message.tool_calls.is_empty() {
                String::new()
            } else {
                json!(message.tool_calls).to_string()
            };
            let thought = message.reasoning_content.as_ref().map(|t| format!("({t})")).unwrap_or_default();
            format!("{}:{thought}{}{calls}", name(message.role), message.content)
        });
        let turns: Vec<String> = turns.collect();
        Ok(turns.join("|"))
    }

    #[test]
    fn every_shape_becomes_messages() {
        let turns =
            json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "thinking": "t"}]);
        let call = json!([{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]);
        let call = format!("assistant:{call}");
        for (row, expected) in [
            (json!({"messages": turns}), "user:a|assistant:(t)b"),
            (json!({"conversations": turns}), "user:a|assistant:(t)b"),
            (json!({"instruction": "a", "input": "", "output": "b"}), "user:a|assistant:b"),
            (
                json!({"instruction": "a", "input": "c", "output": "b", "system": "s", "history": [["p", "q"]]}),
                "system:s|user:p|assistant:q|user:a\nc|assistant:b",
            ),
            (json!({"prompt": "a", "completion": "b"}), "user:a|assistant:b"),
            (json!({"prompt": [turns[0]], "completion": [turns[1]]}), "user:a|assistant:(t)b"),
            (json!({"question": "a", "answer": "b"}), "user:a|assistant:b"),
            (
                json!({"messages": [
                    {"role": "user", "content": [{"type": "text", "value": "a"}], "loss_weight": 0.0},
                    {"role": "assistant", "content": [
                        {"type": "reasoning", "value": "t"},
                        {"type": "tool_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": 1}}"},
                    ]},
                ]}),
                &format!("user:a|{}", call.replace("assistant:", "assistant:(t)")),
            ),
            (
                json!({"system": "s", "conversations": [
                    {"from": "human", "value": "a"},
                    {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": 1}}"},
                    {"from": "observation", "value": "2"},
                    {"from": "gpt", "value": "b"},
                ]}),
                &format!("system:s|user:a|{call}|tool:2|assistant:b"),
            ),
        ] {
            assert_eq!(said(&row).as_deref(), Ok(expected), "{row}");
        }
        let tools = json!({"prompt": "a", "completion": "b", "tools": "[{\"name\": \"f\"}]"});
        assert_eq!(
            conversation(&tools).unwrap().tools,
            [json!({"type": "function", "function": {"name": "f"}})]
        );
    }

    #[test]
    fn what_can_not_be_learnt_from_is_said() {
        let user = json!({"role": "user", "content": "a"});
        for (row, expected) in [
            (json!([]), "is a list, expected an object"),
            (json!({"text": "a"}), "has none of `messages`"),
            (json!({"messages": []}), "has no messages"),
            (json!({"messages": "a"}), "`messages` is a text"),
            (json!({"messages": [user]}), "ends with a `user` turn"),
            (
                json!({"messages": [user, {"role": "assistant", "content": " "}]}),
                "message 2 of the assistant is empty",
            ),
            (json!({"messages": [{"role": "assistant", "content": "a"}]}), "begins with the assistant"),
            (
                json!({"messages": [user, {"role": "robot", "content": "a"}]}),
                "message 2: unknown variant `robot`",
            ),
            (json!({"messages": [user, {"role": "assistant", "content": "a", "weight": 0}]}), "`weight` 0"),
            (json!({"conversations": [{"from": "narrator", "value": "a"}]}), "`from` is `narrator`"),
            (json!({"conversations": [{"from": "function_call", "value": "f("}]}), "the call isn't JSON"),
            (json!({"instruction": "a"}), "has no `output`"),
            (json!({"instruction": 1, "output": "a"}), "`instruction` is a number"),
            (json!({"prompt": 1, "completion": "a"}), "the user's turn is a number"),
        ] {
            let error = said(&row).unwrap_err();
            assert!(error.contains(expected), "{row}: {error}");
        }
    }
}
