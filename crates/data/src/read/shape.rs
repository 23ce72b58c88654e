//! A JSON object to a row: a text, or a conversation in the forms of OpenAI (`messages`), `ShareGPT` (`conversations` of
//! `from` and `value`), Alpaca (`instruction`, `input`, `output`, `history`) and pairs (`prompt`, `completion`).

use std::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::ReadConfig;
use crate::row::{Content, Message, Metadata, Origin, Row};

/// Where a text is looked for when no field is named.
const TEXT_FIELDS: [&str; 4] = ["text", "content", "body", "document"];

/// An object's text, and its other fields unread.
#[derive(Debug, Default)]
pub(super) struct Fields {
    text: Option<String>,
    rest: Metadata,
}

struct FieldsOf<'a>(&'a str);

impl<'de> Visitor<'de> for FieldsOf<'_> {
    type Value = Fields;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if name == self.0 {
                fields.text = map.next_value()?;
            } else {
                let raw: Box<RawValue> = map.next_value()?;
                fields.rest.put(name.into_owned(), raw);
            }
        }
        Ok(fields)
    }
}

impl<'de> DeserializeSeed<'de> for FieldsOf<'_> {
    type Value = Fields;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Fields, D::Error> {
        deserializer.deserialize_map(self)
    }
}

pub(super) fn fields(json: &str, config: &ReadConfig) -> serde_json::Result<Fields> {
    let name = config.text_field.as_deref().unwrap_or(TEXT_FIELDS[0]);
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let fields = (&mut deserializer).deserialize_map(FieldsOf(name))?;
    deserializer.end()?;
    Ok(fields)
}

/// Fields that were read as values.
pub(super) fn from_values(values: impl IntoIterator<Item = (String, Value)>, config: &ReadConfig) -> Fields {
    let name = config.text_field.as_deref().unwrap_or(TEXT_FIELDS[0]);
    let mut fields = Fields::default();
    for (field, value) in values {
        match value {
            Value::String(text) if field == name => fields.text = Some(text),
            // Parquet of our own holds all other fields as one object.
            Value::String(text) if field == "metadata" && text.starts_with('{') => {
                match serde_json::from_str::<Metadata>(&text) {
                    Ok(metadata) => fields.rest.extend(metadata),
                    Err(_) => fields.rest.set(&field, &text),
                }
            }
            value => fields.rest.set(&field, &value),
        }
    }
    fields
}

pub(super) fn row(fields: Fields, origin: &Origin, config: &ReadConfig) -> Result<Row, String> {
    let Fields { text, rest: mut metadata } = fields;
    // Rows of an earlier stage know where they came from.
    let earlier = metadata.raw("origin").and_then(|raw| serde_json::from_str::<Origin>(raw).ok());
    if earlier.is_some() {
        metadata.take("origin");
    }
    let origin = earlier.unwrap_or_else(|| origin.clone());
    let id = metadata.take(&config.id_field).map_or_else(
        || origin.to_string(),
        |raw| serde_json::from_str::<String>(raw.get()).unwrap_or_else(|_| raw.get().to_owned()),
    );
    let content = match config.all_strings {
        true => Content::Text(all_strings(text, &metadata)),
        false => content(text, &mut metadata, config)?,
    };
    let row = Row { id, content, origin, metadata };
    if row.texts().all(|text| text.trim().is_empty()) && !has_calls(&row) {
        return Err("no text but white space".into());
    }
    Ok(row)
}

/// Every string of a row, whatever its field is called.
fn all_strings(text: Option<String>, metadata: &Metadata) -> String {
    fn collect(value: &Value, texts: &mut Vec<String>) {
        match value {
            Value::String(text) => texts.push(text.clone()),
            Value::Array(values) => values.iter().for_each(|value| collect(value, texts)),
            Value::Object(fields) => fields.values().for_each(|value| collect(value, texts)),
            _ => {}
        }
    }
    let mut texts: Vec<String> = text.into_iter().collect();
    for (_, raw) in metadata.iter() {
        if let Ok(value) = serde_json::from_str(raw) {
            collect(&value, &mut texts);
        }
    }
    texts.join("\n")
}

fn has_calls(row: &Row) -> bool {
    matches!(&row.content, Content::Messages(messages) if messages.iter().any(|message| !message.rest.is_empty()))
}

fn content(text: Option<String>, metadata: &mut Metadata, config: &ReadConfig) -> Result<Content, String> {
    if let Some(text) = text {
        return Ok(Content::Text(text));
    }
    if let Some(name) = &config.text_field {
        return Err(format!("no field `{name}` with a text; there is {}", names(metadata)));
    }
    for name in ["messages", "conversations", "conversation"] {
        if metadata.raw(name).is_some_and(|raw| raw.starts_with('[') || raw.starts_with("\"[")) {
            return turns(name, metadata).map(Content::Messages);
        }
    }
    if metadata.text("instruction").is_some() && metadata.text("output").is_some() {
        return alpaca(metadata).map(Content::Messages);
    }
    for answer in ["completion", "response", "answer", "chosen"] {
        for question in ["prompt", "question", "query"] {
            if let (Some(asked), Some(answered)) = (metadata.text(question), metadata.text(answer)) {
                metadata.take(question);
                metadata.take(answer);
                return Ok(Content::Messages(vec![message("user", asked), message("assistant", answered)]));
            }
        }
    }
    for name in &TEXT_FIELDS[1..] {
        if let Some(text) = metadata.text(name) {
            metadata.take(name);
            return Ok(Content::Text(text));
        }
    }
    Err(format!("neither a text (`text`, `content`) nor a conversation; there is {}", names(metadata)))
}

fn names(metadata: &Metadata) -> String {
    let names: Vec<String> = metadata.iter().take(12).map(|field| format!("`{}`", field.0)).collect();
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}

fn message(role: &str, content: String) -> Message {
    Message { role: role.into(), content, rest: Metadata::default() }
}

fn alpaca(metadata: &mut Metadata) -> Result<Vec<Message>, String> {
    let mut messages = Vec::new();
    if let Some(system) = metadata.text("system").filter(|text| !text.is_empty()) {
        messages.push(message("system", system));
    }
    metadata.take("system");
    if let Some(raw) = metadata.take("history") {
        let history: Option<Vec<[String; 2]>> =
            serde_json::from_str(raw.get()).map_err(|error| format!("`history`: {error}"))?;
        for [asked, answered] in history.unwrap_or_default() {
            messages.push(message("user", asked));
            messages.push(message("assistant", answered));
        }
    }
    let mut take = |name: &str| {
        let text = metadata.text(name);
        metadata.take(name);
        text.unwrap_or_default()
    };
    let (mut asked, input, output) = (take("instruction"), take("input"), take("output"));
    if !input.is_empty() {
        asked.push_str(if asked.is_empty() { "" } else { "\n" });
        asked.push_str(&input);
    }
    messages.push(message("user", asked));
    messages.push(message("assistant", output));
    Ok(messages)
}

/// The turns of `messages` or `conversations`, whatever their parts are called.
fn turns(name: &str, metadata: &mut Metadata) -> Result<Vec<Message>, String> {
    let raw = metadata.take(name).ok_or("no turns")?;
    // Parquet of our own holds them as JSON in a string.
    let inner: Option<String> = serde_json::from_str(raw.get()).ok();
    let json = inner.as_deref().unwrap_or_else(|| raw.get());
    let turns: Vec<Metadata> = serde_json::from_str(json).map_err(|error| format!("`{name}`: {error}"))?;
    if turns.is_empty() {
        return Err(format!("`{name}` is empty"));
    }
    let mut messages = Vec::with_capacity(turns.len() + 1);
    if let Some(system) = metadata.text("system").filter(|text| name != "messages" && !text.is_empty()) {
        metadata.take("system");
        messages.push(message("system", system));
    }
    for (index, turn) in turns.into_iter().enumerate() {
        messages.push(one_turn(turn).map_err(|reason| format!("turn {} of `{name}`: {reason}", index + 1))?);
    }
    Ok(messages)
}

fn one_turn(mut turn: Metadata) -> Result<Message, String> {
    let role = ["role", "from"].into_iter().find_map(|name| {
        let role = turn.text(name)?;
        turn.take(name);
        Some(role)
    });
    let role = role.ok_or("neither `role` nor `from`")?;
    let field = ["content", "value", "text"].into_iter().find(|name| turn.raw(name).is_some());
    let content = match field.and_then(|name| turn.take(name)) {
        Some(raw) => content_text(&raw)?,
        None if turn.raw("tool_calls").is_some() => String::new(),
        None => return Err("neither `content` nor `value`".into()),
    };
    let known = match role.as_str() {
        "human" | "user" => "user",
        "gpt" | "assistant" | "bot" | "model" | "chatgpt" => "assistant",
        "observation" | "function_response" | "tool" | "function" => "tool",
        "function_call" => return Ok(call(content, turn)),
        other => other,
    };
    Ok(Message { role: known.into(), content, rest: turn })
}

/// `ShareGPT`'s call of a function, as OpenAI writes it.
fn call(content: String, mut rest: Metadata) -> Message {
    let role = "assistant".to_owned();
    match serde_json::from_str::<Value>(&content) {
        Ok(function) if function.get("name").is_some() => {
            rest.set("tool_calls", &serde_json::json!([{ "type": "function", "function": function }]));
            Message { role, content: String::new(), rest }
        }
        _ => Message { role, content, rest },
    }
}

/// A message's content: a string, nothing, or parts of text.
fn content_text(raw: &RawValue) -> Result<String, String> {
    let value: Value = serde_json::from_str(raw.get()).map_err(|error| error.to_string())?;
    match value {
        Value::String(text) => Ok(text),
        Value::Null => Ok(String::new()),
        Value::Array(parts) => {
            let texts = parts.iter().map(|part| match part["text"].as_str() {
                Some(text) => Ok(text),
                None => Err(format!("a part of type {} has no text", part["type"])),
            });
            Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
        }
        other => Err(format!("`{other}` is no text")),
    }
}
