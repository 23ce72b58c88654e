//! What differs between the job that was begun and the one that is asked for.

use serde_json::Value;

/// The path of the first field that differs, with both values.
pub(super) fn first_difference(old: &Value, new: &Value) -> Option<(String, String, String)> {
    find("", old, new)
}

fn find(path: &str, old: &Value, new: &Value) -> Option<(String, String, String)> {
    let inner = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
            names.into_iter().find_map(|name| {
                find(
                    &inner(name),
                    old.get(name).unwrap_or(&Value::Null),
                    new.get(name).unwrap_or(&Value::Null),
                )
            })
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            let pairs = old.iter().zip(new).enumerate();
            pairs.into_iter().find_map(|(index, (old, new))| find(&inner(&index.to_string()), old, new))
        }
        _ if old == new => None,
        _ => Some((path.to_owned(), shown(old), shown(new))),
    }
}

/// A value, short enough for a message.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(values) => format!("{} entries", values.len()),
        other => {
            let text = other.to_string();
            let end = text.floor_char_boundary(120);
            if end < text.len() { format!("{}…", &text[..end]) } else { text }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_difference_is_named_by_its_path() {
        let old = json!({"config": {"a": 1, "b": [1, {"c": "x"}]}});
        assert_eq!(first_difference(&old, &old.clone()), None);
        let new = json!({"config": {"a": 1, "b": [1, {"c": "y"}]}});
        let named = ("config.b.1.c".to_owned(), "\"x\"".to_owned(), "\"y\"".to_owned());
        assert_eq!(first_difference(&old, &new), Some(named));
    }
}
