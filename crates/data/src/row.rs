//! A row: a text or a conversation, where it came from, and what else is known about it.
//!
//! In a file it is one JSON object: `{"id", "text" | "messages", "origin": {"file", "line"}, …metadata}`. What a reader
//! doesn't know goes through unread, byte for byte, as metadata. Lineage holds because `origin` is set once, by the first
//! reader, and kept by every stage after it.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

/// Where a row stood in what was collected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Relative to the input folder.
    pub file: String,
    /// Line in a file of lines, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Row in a file of rows (Parquet, an array of JSON), from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<u64>,
    /// Byte in the unpacked file where the record begins (WARC, long texts).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

impl Origin {
    pub fn line(file: &str, line: u64) -> Self {
        Self { file: file.into(), line: Some(line), ..Self::default() }
    }

    pub fn row(file: &str, row: u64) -> Self {
        Self { file: file.into(), row: Some(row), ..Self::default() }
    }

    pub fn offset(file: &str, offset: u64) -> Self {
        Self { file: file.into(), offset: Some(offset), ..Self::default() }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.file)?;
        match (self.line, self.row, self.offset) {
            (Some(line), _, _) => write!(formatter, ":{line}"),
            (_, Some(row), _) => write!(formatter, "#{row}"),
            (_, _, Some(offset)) => write!(formatter, "@{offset}"),
            _ => Ok(()),
        }
    }
}

/// One turn of a conversation. What else the message holds (tool calls, names) is kept as it is.
#[derive(Debug, Clone, Default)]
pub struct Message {
    pub role: String,
    pub content: String,
    pub rest: Metadata,
}

#[derive(Debug, Clone)]
pub enum Content {
    Text(String),
    Messages(Vec<Message>),
}

/// Fields that stages don't look at, in the order they were read.
#[derive(Debug, Clone, Default)]
pub struct Metadata(Vec<(String, Box<RawValue>)>);

impl Metadata {
    /// The JSON of a field.
    pub fn raw(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|field| field.0 == name).map(|field| field.1.get())
    }

    /// A field that is a string.
    pub fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.raw(name)?).ok()
    }

    /// Sets or replaces a field. Values that aren't JSON (a NaN is `null`) can't occur here.
    pub fn set<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        if let Ok(raw) = to_raw_value(value) {
            self.put(name.into(), raw);
        }
    }

    pub(crate) fn put(&mut self, name: String, raw: Box<RawValue>) {
        match self.0.iter_mut().find(|field| field.0 == name) {
            Some(field) => field.1 = raw,
            None => self.0.push((name, raw)),
        }
    }

    pub(crate) fn extend(&mut self, other: Self) {
        other.0.into_iter().for_each(|(name, raw)| self.put(name, raw));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, raw)| (name.as_str(), raw.get()))
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Box<RawValue>> {
        let at = self.0.iter().position(|field| field.0 == name)?;
        Some(self.0.remove(at).1)
    }
}

#[derive(Debug, Clone)]
pub struct Row {
    pub id: String,
    pub content: Content,
    pub origin: Origin,
    pub metadata: Metadata,
}

impl Row {
    pub fn from_text(text: String, origin: Origin) -> Self {
        Self { id: origin.to_string(), content: Content::Text(text), origin, metadata: Metadata::default() }
    }

    /// The texts a stage works on: the text, or the content of each message.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let (text, messages) = match &self.content {
            Content::Text(text) => (Some(text.as_str()), [].as_slice()),
            Content::Messages(messages) => (None, messages.as_slice()),
        };
        text.into_iter().chain(messages.iter().map(|message| message.content.as_str()))
    }

    pub fn texts_mut(&mut self) -> impl Iterator<Item = &mut String> {
        let (text, messages) = match &mut self.content {
            Content::Text(text) => (Some(text), [].as_mut_slice()),
            Content::Messages(messages) => (None, messages.as_mut_slice()),
        };
        text.into_iter().chain(messages.iter_mut().map(|message| &mut message.content))
    }

    /// The whole as one text; turns of a conversation are parted by empty lines.
    pub fn joined(&self) -> std::borrow::Cow<'_, str> {
        match &self.content {
            Content::Text(text) => text.as_str().into(),
            Content::Messages(messages) => {
                let turns: Vec<&str> = messages.iter().map(|message| message.content.as_str()).collect();
                turns.join("\n\n").into()
            }
        }
    }

    pub fn text_bytes(&self) -> usize {
        self.texts().map(str::len).sum()
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("role", &self.role)?;
        map.serialize_entry("content", &self.content)?;
        for (name, raw) in &self.rest.0 {
            map.serialize_entry(name, raw)?;
        }
        map.end()
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        match &self.content {
            Content::Text(text) => map.serialize_entry("text", text)?,
            Content::Messages(messages) => map.serialize_entry("messages", messages)?,
        }
        map.serialize_entry("origin", &self.origin)?;
        for (name, raw) in &self.metadata.0 {
            map.serialize_entry(name, raw)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Metadata;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry::<String, Box<RawValue>>()? {
                    fields.push(field);
                }
                Ok(Metadata(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_nobody_knows_come_out_as_they_went_in() {
        let metadata: Metadata = serde_json::from_str(r#"{"a": 1.50, "b": {"c":[1, 2]}}"#).unwrap();
        let mut row = Row::from_text("hi".into(), Origin::line("a.jsonl", 3));
        row.metadata = metadata;
        row.metadata.set("language", "en");
        row.metadata.set("language", "de");
        assert_eq!(
            serde_json::to_string(&row).unwrap(),
            r#"{"id":"a.jsonl:3","text":"hi","origin":{"file":"a.jsonl","line":3},"a":1.50,"b":{"c":[1, 2]},"language":"de"}"#
        );
    }
}
