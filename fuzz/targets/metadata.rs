//! JSON from a client: metadata, and the canonical text from which the service computes a
//! fingerprint.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use tollgate::domain::{canonical_json, text::Metadata};

/// Whether a value contains a double. The last bit of a double may change in a round trip.
fn has_double(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_double),
        Value::Object(members) => members.values().any(has_double),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

fuzz_target!(|text: &str| {
    let Ok(value) = serde_json::from_str::<Value>(text) else { return };
    let canonical = canonical_json::to_string(&value);
    let is_exact = !has_double(&value);
    if is_exact {
        let again: Value = serde_json::from_str(&canonical).expect("canonical JSON is JSON");
        assert_eq!(again, value);
        assert_eq!(canonical_json::to_string(&again), canonical);
    }
    let Value::Object(object) = value else { return };
    if let Ok(metadata) = Metadata::new(object) {
        let stored = metadata.to_string();
        let read: Map<String, Value> = serde_json::from_str(&stored).expect("metadata is JSON");
        if is_exact {
            assert_eq!(Metadata::new(read), Ok(metadata));
        }
    }
});
