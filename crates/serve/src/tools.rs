//! Tools of a request: what the model is told of them.
//!
//! A template that knows no tools gets them in Hermes' form as text. `tool_choice: required` or a name is held by a
//! grammar ([`Dialect::constraint`](crate::dialect::Dialect::constraint)): the answer can't be anything but calls.

use hearth_tokenizer::{Conversation, Message, Role};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::fields::Fields;

/// Longer lists don't fit into a prompt; the OpenAI API's limit.
const MAX_TOOLS: usize = 128;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Choice {
    None,
    #[default]
    Auto,
    Required,
    Named(String),
}

#[derive(Debug, Clone)]
pub(crate) struct Tool {
    pub(crate) name: String,
    /// As it came, for the template.
    definition: Value,
}

impl Tool {
    /// The schema of its arguments.
    pub(crate) fn parameters(&self) -> Option<&Value> {
        self.definition.pointer("/function/parameters")
    }
}

/// Tools, and whether they may or must be called.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tools {
    pub(crate) list: Vec<Tool>,
    pub(crate) choice: Choice,
    pub(crate) is_parallel: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Definition {
    #[serde(rename = "type")]
    kind: String,
    function: Function,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Function {
    name: String,
    #[serde(rename = "description")]
    _description: Option<String>,
    #[serde(rename = "parameters")]
    _parameters: Option<serde_json::Map<String, Value>>,
    #[serde(rename = "strict")]
    _strict: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum AskedChoice {
    Word(String),
    Named { function: Named },
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

impl Tools {
    /// `tools`, `tool_choice` and `parallel_tool_calls` in the shape of chat completions.
    pub(crate) fn take(fields: &mut Fields) -> Result<Self> {
        let definitions: Vec<Value> = fields.take("tools")?.unwrap_or_default();
        let choice = match fields.take("tool_choice")? {
            None => Choice::Auto,
            Some(AskedChoice::Named { function }) => Choice::Named(function.name),
            Some(AskedChoice::Word(word)) => match word.as_str() {
                "none" => Choice::None,
                "auto" => Choice::Auto,
                "required" => Choice::Required,
                _ => {
                    let reason = format!("`{word}` isn't `none`, `auto`, `required` or a function");
                    return Err(Error::parameter("tool_choice", reason));
                }
            },
        };
        let is_parallel = fields.take("parallel_tool_calls")?.unwrap_or(true);
        Self::new(definitions, choice, is_parallel)
    }

    pub(crate) fn new(definitions: Vec<Value>, choice: Choice, is_parallel: bool) -> Result<Self> {
        if definitions.len() > MAX_TOOLS {
            return Err(Error::parameter(
                "tools",
                format!("{} tools, at most {MAX_TOOLS}", definitions.len()),
            ));
        }
        let tools: Vec<Tool> = definitions
            .into_iter()
            .enumerate()
            .map(|(index, value)| tool(index, value))
            .collect::<Result<_>>()?;
        if tools.is_empty() && !matches!(choice, Choice::None | Choice::Auto) {
            return Err(Error::parameter("tool_choice", "only allowed with `tools`"));
        }
        if let Choice::Named(name) = &choice
            && !tools.iter().any(|tool| tool.name == *name)
        {
            return Err(Error::parameter("tool_choice", format!("`{name}` isn't one of the `tools`")));
        }
        Ok(Self { list: tools, choice, is_parallel })
    }

    /// Whether calls are looked for in the answer.
    pub(crate) fn may_call(&self) -> bool {
        !self.list.is_empty() && self.choice != Choice::None
    }

    pub(crate) fn tool(&self, name: &str) -> Option<&Tool> {
        self.list.iter().find(|tool| tool.name == name)
    }

    /// Whether the answer can be nothing but calls.
    pub(crate) fn must_call(&self) -> bool {
        matches!(self.choice, Choice::Required | Choice::Named(_))
    }

    /// Puts the tools where the template reads them; into text if it reads none.
    pub(crate) fn put(&self, conversation: &mut Conversation, template: &str) {
        if !template.contains("tools") {
            as_text(conversation);
            if self.may_call() {
                self.describe(conversation);
            }
        } else if self.may_call() {
            conversation.tools = self.list.iter().map(|tool| tool.definition.clone()).collect();
        }
    }

    /// The instruction that Hermes' template writes.
    fn describe(&self, conversation: &mut Conversation) {
        let tools: Vec<String> = self.list.iter().map(|tool| tool.definition.to_string()).collect();
        let text = format!(
            "You may call one or more functions to assist with the user query. You are provided with function \
             signatures within <tools></tools> XML tags:\n<tools>\n{}\n</tools>\n\nFor each function call, return a \
             json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n\
             {{\"name\": <function-name>, \"arguments\": <args-json-object>}}\n</tool_call>",
            tools.join("\n")
        );
        match conversation.messages.first_mut() {
            Some(first) if first.role == Role::System => {
                first.content = format!("{}\n\n{text}", first.content);
            }
            _ => conversation.messages.insert(0, Message::system(text)),
        }
    }
}

/// Calls and results as text, for a template that has no place for them.
fn as_text(conversation: &mut Conversation) {
    for message in &mut conversation.messages {
        for call in std::mem::take(&mut message.tool_calls) {
            let name = call.pointer("/function/name").cloned().unwrap_or_default();
            let arguments = match call.pointer("/function/arguments") {
                Some(Value::String(text)) => text.clone(),
                other => other.cloned().unwrap_or_else(|| json!({})).to_string(),
            };
            let call = format!("<tool_call>\n{{\"name\": {name}, \"arguments\": {arguments}}}\n</tool_call>");
            let gap = if message.content.is_empty() { "" } else { "\n" };
            message.content = format!("{}{gap}{call}", message.content);
        }
        if message.role == Role::Tool {
            let content = format!("<tool_response>\n{}\n</tool_response>", message.content);
            *message = Message::user(content);
        }
    }
}

fn tool(index: usize, value: Value) -> Result<Tool> {
    let wrong = |reason: String| Error::parameter(format!("tools[{index}]"), reason);
    let definition: Definition =
        serde_json::from_value(value.clone()).map_err(|error| wrong(error.to_string()))?;
    if definition.kind != "function" {
        return Err(wrong(format!("the type `{}` isn't supported; use `function`", definition.kind)));
    }
    let name = definition.function.name;
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_name) {
        return Err(wrong(format!("the name `{name}` must be 1 to 64 letters, digits, `_`, `-` or `.`")));
    }
    Ok(Tool { name, definition: value })
}
