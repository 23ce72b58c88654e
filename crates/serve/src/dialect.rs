//! How families write calls of tools: the marks to look for, and the grammar of an answer that must be calls.
//!
//! The template tells the family: `<tool_call>` around JSON (Qwen, Hermes) or around tags (Qwen3-Coder), `[TOOL_CALLS]`
//! before JSON or before `name[ARGS]` (Mistral), `<|tool_call|>` (Phi), and plain JSON (Llama 3). A template that knows no
//! tools gets them in Hermes' form as text; what it is answered in may then be a fenced block of JSON or, by Gemma, of
//! Python. Left out: the forms of gpt-oss and of `DeepSeek`, whose templates don't run here yet.

use std::fmt::Write as _;

use hearth_engine::Constraint;
use serde_json::{Value, json};

use crate::tools::{Choice, Tools};

/// White space as the families were trained on: a model that may write more of it may never end.
const WHITE_SPACE: &str = r#"{"whitespace_flexible":false,"item_separator":", ","key_separator":": "}"#;

/// What stands around calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) open: &'static str,
    pub(crate) close: &'static str,
    /// Nothing but a call follows; otherwise only a tool of the request is one.
    pub(crate) is_sure: bool,
    /// The mark is part of the call.
    pub(crate) is_part: bool,
}

const fn sure(open: &'static str, close: &'static str) -> Mark {
    Mark { open, close, is_sure: true, is_part: false }
}

const fn fence(open: &'static str) -> Mark {
    Mark { open, close: "```", is_sure: false, is_part: false }
}

/// Python in a fence: Gemma's form.
pub(crate) const TOOL_CODE: Mark = fence("```tool_code");
const TAGS: Mark = Mark { open: "<function=", close: "</tool_call>", is_sure: true, is_part: true };

/// How a call looks where it must be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `{"name": …, "arguments": …}`, with this name for the arguments.
    Json(&'static str),
    /// `name{…}`; the marks between are control tokens.
    Named,
    /// `<function=name>` with `<parameter=name>` inside.
    Tagged,
}

/// How a family writes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dialect {
    pub(crate) marks: &'static [Mark],
    /// The mark may be a control token, which isn't part of the text: what names a tool is a call, too.
    pub(crate) is_bare: bool,
    /// Calls may be a name with JSON behind it.
    pub(crate) is_named: bool,
    form: Form,
    /// What is written around and between calls that must be made.
    around: [&'static str; 3],
}

pub(crate) const HERMES: Dialect = Dialect {
    // Small models answer the same instruction with a fence now and then, or with the tag of the list they were shown.
    marks: &[
        sure("<tool_call>", "</tool_call>"),
        Mark { is_sure: false, ..sure("<tools>", "</tools>") },
        TOOL_CODE,
        fence("```json"),
        fence("```xml"),
    ],
    // Qwen2.5-Coder leaves the mark out more often than not.
    is_bare: true,
    is_named: false,
    form: Form::Json("arguments"),
    around: ["<tool_call>\\n", "\\n</tool_call>\\n<tool_call>\\n", "\\n</tool_call>"],
};
const QWEN_CODER: Dialect = Dialect {
    // It forgets the first mark at times.
    marks: &[sure("<tool_call>", "</tool_call>"), TAGS],
    is_bare: false,
    form: Form::Tagged,
    ..HERMES
};
const MISTRAL: Dialect = Dialect {
    marks: &[sure("[TOOL_CALLS]", "")],
    is_bare: true,
    is_named: true,
    form: Form::Json("arguments"),
    around: ["[", ", ", "]"],
};
const MISTRAL_NAMED: Dialect = Dialect { form: Form::Named, around: ["", "", ""], ..MISTRAL };
const PHI: Dialect =
    Dialect { marks: &[sure("<|tool_call|>", "<|/tool_call|>")], is_named: false, ..MISTRAL };
const LLAMA: Dialect = Dialect {
    marks: &[sure("<|python_tag|>", ""), fence("```json")],
    is_bare: true,
    is_named: false,
    form: Form::Json("parameters"),
    around: ["", "; ", ""],
};

impl Dialect {
    /// The form a template asks for.
    pub(crate) fn of_template(template: &str) -> Self {
        let known = [
            ("<function=", QWEN_CODER),
            ("<tool_call>", HERMES),
            ("[ARGS]", MISTRAL_NAMED),
            ("[TOOL_CALLS]", MISTRAL),
            ("<|tool_call|>", PHI),
        ];
        let marked = known.into_iter().find(|(mark, _)| template.contains(mark));
        match marked {
            Some((_, dialect)) => dialect,
            None if template.contains("\"parameters\"") && template.contains("tools") => LLAMA,
            None => HERMES,
        }
    }

    /// What the answer must look like if it must be a call.
    pub(crate) fn constraint(&self, tools: &Tools) -> Option<Constraint> {
        if !tools.must_call() {
            return None;
        }
        let named = |name: &str| match &tools.choice {
            Choice::Named(wanted) => wanted == name,
            _ => true,
        };
        let mut rules = String::new();
        let mut alternatives = Vec::new();
        for (index, tool) in tools.list.iter().filter(|tool| named(&tool.name)).enumerate() {
            rules.push_str(&self.rule(index, &tool.name, tool.parameters()));
            alternatives.push(format!("call_{index}"));
        }
        let [open, between, close] = self.around;
        let literal = |text: &str| if text.is_empty() { String::new() } else { format!("\"{text}\" ") };
        let more = if tools.is_parallel { format!(" ({}call)*", literal(between)) } else { String::new() };
        let (open, close) = (literal(open), literal(close));
        let alternatives = alternatives.join(" | ");
        Some(Constraint::Grammar(format!("start: {open}call{more} {close}\ncall: {alternatives}{rules}\n")))
    }

    /// The rule of one tool. Written by hand, because the order of name and arguments is part of the form. White space is that
    /// of the templates: left free, a small model may write nothing else until its tokens are used up.
    fn rule(&self, index: usize, name: &str, parameters: Option<&Value>) -> String {
        let parameters = &closed(parameters);
        match self.form {
            Form::Json(arguments) => {
                let name = Value::from(name);
                format!(
                    "\ncall_{index}: %json {{\"type\":\"object\",\"properties\":{{\"name\":{{\"const\":{name}}},\
                     \"{arguments}\":{parameters}}},\"required\":[\"name\",\"{arguments}\"],\
                     \"additionalProperties\":false,\"x-guidance\":{WHITE_SPACE}}}"
                )
            }
            Form::Named => {
                let mut schema = parameters.clone();
                schema["x-guidance"] = serde_json::from_str(WHITE_SPACE).unwrap_or_default();
                format!("\ncall_{index}: \"{name}\" args_{index}\nargs_{index}: %json {schema}")
            }
            Form::Tagged => tagged(index, name, parameters),
        }
    }
}

/// A schema of arguments that has nothing against more than it names allows what it names: small models go on and on
/// otherwise.
fn closed(parameters: Option<&Value>) -> Value {
    let mut schema = parameters.cloned().unwrap_or_else(|| json!({ "type": "object", "properties": {} }));
    let is_open = schema.get("properties").is_some() && schema.get("additionalProperties").is_none();
    let combines = ["anyOf", "oneOf", "allOf", "$ref", "patternProperties"];
    if is_open && combines.iter().all(|name| schema.get(name).is_none()) {
        schema["additionalProperties"] = false.into();
    }
    schema
}

/// Parameters in the schema's order, those that aren't required only if the model wants them.
fn tagged(index: usize, name: &str, parameters: &Value) -> String {
    let required = parameters["required"].as_array().cloned().unwrap_or_default();
    let mut items = String::new();
    let mut rules = String::new();
    let properties = parameters["properties"].as_object().cloned().unwrap_or_default();
    for (at, (key, schema)) in properties.iter().enumerate() {
        let optional = if required.iter().any(|name| name == key) { "" } else { "?" };
        let open = Value::from(format!("<parameter={key}>\n"));
        let _ = write!(items, " p_{index}_{at}{optional}");
        let _ = write!(rules, "\np_{index}_{at}: {open} v_{index}_{at} \"\\n</parameter>\\n\"");
        let choices = schema["enum"].as_array().filter(|all| all.iter().all(Value::is_string));
        let value = match choices {
            Some(choices) => choices.iter().map(Value::to_string).collect::<Vec<_>>().join(" | "),
            // A forced text can't hold what may begin the closing tag.
            None if is_text(schema) => "/[^<]+/".into(),
            None => format!("%json {schema}"),
        };
        let _ = write!(rules, "\nv_{index}_{at}: {value}");
    }
    format!("\ncall_{index}: \"<function={name}>\\n\"{items} \"</function>\"{rules}")
}

/// Whether a parameter's value is text as it stands.
pub(crate) fn is_text(schema: &Value) -> bool {
    match &schema["type"] {
        Value::String(kind) => kind == "string",
        Value::Array(kinds) => kinds.iter().any(|kind| kind == "string"),
        _ => schema["enum"].as_array().is_none_or(|all| all.iter().any(Value::is_string)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grammar(template: &str, choice: Choice) -> String {
        let tool = json!({ "type": "function", "function": { "name": "weather", "parameters": {
            "type": "object",
            "properties": { "city": { "enum": ["Bonn", "Oslo"] }, "note": { "type": "string" }, "days": { "type": "integer" } },
            "required": ["city"],
        }}});
        let time = json!({ "type": "function", "function": { "name": "time" } });
        let tools = Tools::new(vec![tool, time], choice, true).unwrap();
        match Dialect::of_template(template).constraint(&tools) {
            Some(Constraint::Grammar(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn forced_calls_have_the_form_of_their_family() {
        let tags = grammar("<tool_call> <function=", Choice::Required);
        for part in [
            r#"start: "<tool_call>\n" call ("\n</tool_call>\n<tool_call>\n" call)* "\n</tool_call>""#,
            "call: call_0 | call_1",
            r#"call_0: "<function=weather>\n" p_0_0 p_0_1? p_0_2? "</function>""#,
            r#"p_0_0: "<parameter=city>\n" v_0_0 "\n</parameter>\n""#,
            r#"v_0_0: "Bonn" | "Oslo""#,
            "v_0_1: /[^<]+/",
            r#"v_0_2: %json {"type":"integer"}"#,
            r#"call_1: "<function=time>\n" "</function>""#,
        ] {
            assert!(tags.contains(part), "{part} in {tags}");
        }
        let json = grammar("", Choice::Required);
        assert!(json.contains(r#""required":["city"],"additionalProperties":false}"#), "{json}");
        let named = grammar("[TOOL_CALLS] [ARGS]", Choice::Named("time".into()));
        assert!(named.starts_with("start: call (call)*"), "{named}");
        assert!(named.contains("call_0: \"time\" args_0") && !named.contains("weather"), "{named}");
    }
}
