//! Canonical JSON, which writes each JSON value in exactly one way, with members sorted by name and
//! without white space.
//!
//! Documents that differ only in white space and in the order of members have the same canonical
//! text. Fingerprints are computed from this text.

use serde_json::Value;

/// Writes the canonical text of a value.
#[must_use]
pub fn to_string(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Object(object) => {
            let mut members: Vec<_> = object.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            text.push('{');
            for (index, (name, value)) in members.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write(value, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write(item, text);
            }
            text.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            text.push_str(&value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_spacing_do_not_matter() {
        let read = |text: &str| to_string(&serde_json::from_str(text).expect("JSON"));
        let canonical = r#"{"a":[1,{"x":"\"","y":null}],"b":1.5}"#;
        assert_eq!(read(r#" { "b" : 1.5, "a": [1, {"y": null, "x": "\u0022"}] } "#), canonical);
        assert_eq!(read(canonical), canonical);
    }
}
