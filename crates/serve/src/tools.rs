//! Tools of a request: what the model is told of them, and what it must write to call one.
//!
//! Each family has a form of its own, told by its chat template: `<tool_call>` (Qwen, Hermes), `[TOOL_CALLS]` (Mistral),
//! `<|tool_call|>` (Phi), and plain JSON (Llama 3). A template that knows no tools gets them in Hermes' form as text.
//! `tool_choice: required` or a name is held by a grammar: the answer can't be anything but calls.
//! Left out: forms that aren't JSON (Qwen3-Coder's XML, Gemma's code blocks).

use hearth_engine::Constraint;
use hearth_tokenizer::{Conversation, Message, Role};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::fields::Fields;

/// Longer lists don't fit into a prompt; the OpenAI API's limit.
const MAX_TOOLS: usize = 128;

/// White space as the families were trained on: a model that may write more of it may never end.
const WHITE_SPACE: &str = r#"{"whitespace_flexible":false,"item_separator":", ","key_separator":": "}"#;

/// How a family writes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dialect {
    /// Stands before the JSON of a call, or of a list of them.
    pub(crate) open: &'static str,
    pub(crate) close: &'static str,
    /// The mark may be a control token, which isn't part of the text: JSON that names a tool is a call, too.
    pub(crate) is_bare: bool,
    /// What the object of arguments is called.
    arguments: &'static str,
    is_list: bool,
}

pub(crate) const HERMES: Dialect = Dialect {
    open: "<tool_call>",
    close: "</tool_call>",
    is_bare: false,
    arguments: "arguments",
    is_list: false,
};
const MISTRAL: Dialect =
    Dialect { open: "[TOOL_CALLS]", close: "", is_bare: true, arguments: "arguments", is_list: true };
const PHI: Dialect = Dialect {
    open: "<|tool_call|>",
    close: "<|/tool_call|>",
    is_bare: true,
    arguments: "arguments",
    is_list: true,
};
const LLAMA: Dialect =
    Dialect { open: "<|python_tag|>", close: "", is_bare: true, arguments: "parameters", is_list: false };

impl Dialect {
    /// The form a template asks for.
    pub(crate) fn of_template(template: &str) -> Self {
        let known = [("<tool_call>", HERMES), ("[TOOL_CALLS]", MISTRAL), ("<|tool_call|>", PHI)];
        let marked = known.into_iter().find(|(mark, _)| template.contains(mark));
        match marked {
            Some((_, dialect)) => dialect,
            None if template.contains("\"parameters\"") && template.contains("tools") => LLAMA,
            None => HERMES,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Choice {
    None,
    #[default]
    Auto,
    Required,
    Named(String),
}

#[derive(Debug, Clone)]
struct Tool {
    name: String,
    /// As it came, for the template.
    definition: Value,
}

/// Tools, and whether they may or must be called.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tools {
    list: Vec<Tool>,
    choice: Choice,
    is_parallel: bool,
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

    pub(crate) fn has(&self, name: &str) -> bool {
        self.list.iter().any(|tool| tool.name == name)
    }

    /// Whether the answer can be nothing but calls.
    pub(crate) fn must_call(&self) -> bool {
        matches!(self.choice, Choice::Required | Choice::Named(_))
    }

    /// What the answer must look like if it must be a call.
    pub(crate) fn constraint(&self, dialect: Dialect) -> Option<Constraint> {
        let names = |tool: &&Tool| match &self.choice {
            Choice::Named(name) => tool.name == *name,
            _ => true,
        };
        if !self.must_call() {
            return None;
        }
        let mut rules = String::new();
        let mut alternatives = Vec::new();
        for (index, tool) in self.list.iter().filter(names).enumerate() {
            let name = Value::from(tool.name.as_str());
            let parameters = tool.definition.pointer("/function/parameters").cloned();
            let parameters = parameters.unwrap_or_else(|| json!({ "type": "object" }));
            let arguments = dialect.arguments;
            // Written by hand, because the order of the two is part of the form. White space is that of the templates:
            // left free, a small model may write nothing else until its tokens are used up.
            let rule = format!(
                "\ncall_{index}: %json {{\"type\":\"object\",\"properties\":{{\"name\":{{\"const\":{name}}},\
                 \"{arguments}\":{parameters}}},\"required\":[\"name\",\"{arguments}\"],\"additionalProperties\":false,\
                 \"x-guidance\":{WHITE_SPACE}}}"
            );
            rules.push_str(&rule);
            alternatives.push(format!("call_{index}"));
        }
        let (open, between, close) = match (dialect.is_bare, dialect.is_list) {
            (false, _) => ("<tool_call>\\n", "\\n</tool_call>\\n<tool_call>\\n", "\\n</tool_call>"),
            (true, true) => ("[", ", ", "]"),
            (true, false) => ("", "; ", ""),
        };
        let more = if self.is_parallel { format!(" (\"{between}\" call)*") } else { String::new() };
        let literal = |text: &str| if text.is_empty() { String::new() } else { format!("\"{text}\" ") };
        let (open, close) = (literal(open), literal(close));
        let alternatives = alternatives.join(" | ");
        Some(Constraint::Grammar(format!("start: {open}call{more} {close}\ncall: {alternatives}{rules}\n")))
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
