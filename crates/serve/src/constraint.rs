//! What an answer must look like: `response_format` of the OpenAI API, and `guided_…` as vLLM names them.

use hearth_engine::Constraint;
use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::fields::Fields;

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum ResponseFormat {
    Text,
    JsonObject,
    JsonSchema { json_schema: NamedSchema },
}

/// Name, description and strictness say nothing the schema doesn't: it always holds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedSchema {
    #[serde(rename = "name")]
    _name: Option<String>,
    #[serde(rename = "description")]
    _description: Option<String>,
    #[serde(rename = "strict")]
    _strict: Option<bool>,
    schema: Option<Value>,
}

/// At most one of them may be asked for.
pub(crate) fn take(fields: &mut Fields) -> Result<Option<Constraint>> {
    let format = match fields.take("response_format")? {
        None | Some(ResponseFormat::Text) => None,
        Some(
            ResponseFormat::JsonObject
            | ResponseFormat::JsonSchema { json_schema: NamedSchema { schema: None, .. } },
        ) => Some(Constraint::JsonObject),
        Some(ResponseFormat::JsonSchema { json_schema: NamedSchema { schema: Some(schema), .. } }) => {
            Some(Constraint::JsonSchema(schema.to_string()))
        }
    };
    let json = fields.take::<Value>("guided_json")?.map(|schema| match schema {
        Value::String(text) => Constraint::JsonSchema(text),
        schema => Constraint::JsonSchema(schema.to_string()),
    });
    let regex = fields.take("guided_regex")?.map(Constraint::Regex);
    let grammar = fields.take("guided_grammar")?.map(Constraint::Grammar);
    let choice = match fields.take::<Vec<String>>("guided_choice")? {
        Some(choices) if choices.is_empty() => {
            return Err(Error::parameter("guided_choice", "must hold at least one text"));
        }
        choices => choices.map(|choices| Constraint::Regex(one_of(&choices))),
    };
    let names = ["response_format", "guided_json", "guided_regex", "guided_grammar", "guided_choice"];
    let mut asked = names.into_iter().zip([format, json, regex, grammar, choice]);
    let mut asked = asked.by_ref().filter_map(|(name, constraint)| Some((name, constraint?)));
    let Some((first, constraint)) = asked.next() else {
        return Ok(None);
    };
    match asked.next() {
        Some((second, _)) => Err(Error::parameter(second, format!("only one of it and `{first}`"))),
        None => Ok(Some(constraint)),
    }
}

/// An expression that matches these texts and nothing else.
fn one_of(texts: &[String]) -> String {
    let escaped = |text: &String| {
        let escape = |character: char| match character.is_ascii_punctuation() {
            true => format!("\\{character}"),
            false => character.to_string(),
        };
        text.chars().map(escape).collect::<String>()
    };
    format!("({})", texts.iter().map(escaped).collect::<Vec<_>>().join("|"))
}
