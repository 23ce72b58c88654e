//! A request's body, field by field: each is taken with its type, and what nobody took is an error.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Long conversations with pasted documents stay far below this.
pub(crate) const MAX_BODY_BYTES: usize = 8 << 20;

#[derive(Debug)]
pub(crate) struct Fields {
    map: Map<String, Value>,
}

impl Fields {
    pub(crate) fn read(body: Result<Bytes, BytesRejection>) -> Result<Self> {
        let body = body.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Error::TooLarge { max_bytes: MAX_BODY_BYTES },
            _ => Error::BrokenBody { reason: rejection.body_text() },
        })?;
        Self::parse(&body)
    }

    fn parse(body: &[u8]) -> Result<Self> {
        let text =
            std::str::from_utf8(body).map_err(|error| Error::NotUtf8 { offset: error.valid_up_to() })?;
        match serde_json::from_str(text) {
            Ok(Value::Object(map)) => Ok(Self { map }),
            Ok(_) => Err(Error::NotJson { reason: "it is another kind of value".into() }),
            Err(error) => Err(Error::NotJson { reason: error.to_string() }),
        }
    }

    /// A field that may be absent or null.
    pub(crate) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>> {
        match self.map.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let parsed = serde_json::from_value(value);
                parsed.map(Some).map_err(|error| Error::parameter(name, error.to_string()))
            }
        }
    }

    /// Puts a value where the request said nothing.
    pub(crate) fn put(&mut self, name: &str, value: Value) {
        self.map.entry(name).or_insert(value);
    }

    pub(crate) fn require<T: DeserializeOwned>(&mut self, name: &str) -> Result<T> {
        self.take(name)?.ok_or_else(|| Error::Missing { param: name.into() })
    }

    /// Takes a known parameter that isn't built: only the value that asks for nothing may stand there.
    pub(crate) fn accept_only(&mut self, name: &str, accepted: &[Value]) -> Result<()> {
        let Some(value) = self.take::<Value>(name)? else {
            return Ok(());
        };
        // 1 and 1.0 ask for the same.
        let is_equal = |other: &Value| match (value.as_f64(), other.as_f64()) {
            (Some(a), Some(b)) => a.total_cmp(&b).is_eq(),
            _ => value == *other,
        };
        if accepted.iter().any(is_equal) {
            return Ok(());
        }
        let accepted: Vec<String> = accepted.iter().map(|value| format!("`{value}`")).collect();
        let value = format!("`{}`", value.to_string().chars().take(80).collect::<String>());
        Err(Error::Unsupported { param: name.into(), value, accepted: accepted.join(" or ") })
    }

    /// Takes parameters that only label a request.
    pub(crate) fn ignore_labels(&mut self) {
        for name in ["user", "metadata", "safety_identifier", "prompt_cache_key"] {
            self.map.remove(name);
        }
    }

    /// Refuses what nobody took.
    pub(crate) fn finish(self) -> Result<()> {
        if self.map.is_empty() {
            return Ok(());
        }
        let mut names: Vec<String> = self.map.into_iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        Err(Error::UnknownParameters { names })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(body: &str) -> Fields {
        Fields::parse(body.as_bytes()).unwrap()
    }

    #[test]
    fn what_nobody_took_is_named() {
        let mut fields = fields(r#"{"seed": 3, "tempreature": 0.5, "x": null}"#);
        assert_eq!(fields.take::<u64>("seed").unwrap(), Some(3));
        assert_eq!(fields.take::<u64>("absent").unwrap(), None);
        let message = fields.finish().unwrap_err().to_string();
        assert_eq!(message, "unknown parameters `tempreature`, `x`");
    }

    #[test]
    fn a_wrong_type_names_its_field() {
        let error = fields(r#"{"temperature": "hot"}"#).take::<f32>("temperature").unwrap_err();
        assert!(matches!(&error, Error::Parameter { param, .. } if param == "temperature"), "{error}");
    }

    #[test]
    fn only_values_that_ask_for_nothing_pass() {
        for (body, is_accepted) in [
            ("{}", true),
            (r#"{"n": null}"#, true),
            (r#"{"n": 1}"#, true),
            (r#"{"n": 1.0}"#, true),
            (r#"{"n": 2}"#, false),
            (r#"{"n": "1"}"#, false),
        ] {
            assert_eq!(fields(body).accept_only("n", &[json!(1)]).is_ok(), is_accepted, "{body}");
        }
    }

    #[test]
    fn bodies_that_are_no_object_are_refused() {
        for body in [&b""[..], b"{", b"[]", b"null", b"{\"a\":\xff}", b"{} {}"] {
            assert!(Fields::parse(body).is_err());
        }
        let deep = "[".repeat(100_000);
        assert!(Fields::parse(format!("{{\"a\":{deep}").as_bytes()).is_err(), "no overflow of the stack");
    }
}
