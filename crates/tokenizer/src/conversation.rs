//! Conversations in the shape of the OpenAI API: who said what, in order.
//!
//! Only text is carried; parts of another type (images, sound) are an error that names them. Tool calls and tools
//! are passed to the template as they came; arguments that stand as JSON text are read first.

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    #[serde(alias = "developer")]
    System,
    User,
    Assistant,
    Tool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub role: Role,
    #[serde(default, deserialize_with = "text_of_content")]
    pub content: String,
    /// The assistant's calls, as the API spells them.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub tool_calls: Vec<Value>,
    /// Which call a tool message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the assistant thought before it answered, where it is kept apart from the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    pub messages: Vec<Message>,
    /// Definitions of the tools the assistant may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub tools: Vec<Value>,
    /// Settings that some templates know by name, such as `enable_thinking`.
    #[serde(default, rename = "chat_template_kwargs", skip_serializing_if = "Map::is_empty")]
    pub variables: Map<String, Value>,
}

impl Message {
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            tool_calls: Vec::new(),
            tool_call_id: None,
            name: None,
            reasoning_content: None,
        }
    }

    pub fn system(content: impl Into<String>) -> Self {
        Self::new(Role::System, content)
    }

    pub fn user(content: impl Into<String>) -> Self {
        Self::new(Role::User, content)
    }

    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new(Role::Assistant, content)
    }
}

impl From<Vec<Message>> for Conversation {
    fn from(messages: Vec<Message>) -> Self {
        Self { messages, ..Self::default() }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

/// Content is a string, null, or a list of text parts, which are joined by line breaks.
fn text_of_content<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let parts = match Option::<Content>::deserialize(deserializer)? {
        None => return Ok(String::new()),
        Some(Content::Text(text)) => return Ok(text),
        Some(Content::Parts(parts)) => parts,
    };
    let text = |part: Part| match (part.kind.as_str(), part.text) {
        ("text" | "input_text", Some(text)) => Ok(text),
        _ => Err(D::Error::custom(crate::Error::ContentPart { kind: part.kind })),
    };
    let texts: Vec<String> = parts.into_iter().map(text).collect::<Result<_, _>>()?;
    Ok(texts.join("\n"))
}

fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Value>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(json: &str) -> Result<String, String> {
        let message: Result<Message, _> = serde_json::from_str(json);
        message.map(|message| message.content).map_err(|error| error.to_string())
    }

    #[test]
    fn shapes_of_content() {
        for (json, expected) in [
            (r#"{"role":"user","content":"hi"}"#, "hi"),
            (r#"{"role":"developer","content":""}"#, ""),
            (r#"{"role":"assistant","content":null,"tool_calls":null}"#, ""),
            (r#"{"role":"assistant"}"#, ""),
            (r#"{"role":"user","content":[]}"#, ""),
            (r#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}"#, "a\nb"),
        ] {
            assert_eq!(content(json).as_deref(), Ok(expected), "{json}");
        }
    }

    #[test]
    fn what_is_not_text_is_named() {
        let json = r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}"#;
        assert!(content(json).unwrap_err().contains("`image_url`"));
        assert!(content(r#"{"role":"robot","content":"x"}"#).unwrap_err().contains("robot"));
    }

    #[test]
    fn plain_messages_are_written_without_empty_fields() {
        let conversation = Conversation::from(vec![Message::user("hi")]);
        let json = serde_json::to_string(&conversation).unwrap();
        assert_eq!(json, r#"{"messages":[{"role":"user","content":"hi"}]}"#);
        assert_eq!(serde_json::from_str::<Conversation>(&json).unwrap(), conversation);
    }
}
