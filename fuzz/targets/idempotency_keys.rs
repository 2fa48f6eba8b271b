//! The header `Idempotency-Key`, quoted and bare.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::domain::idempotency::IdempotencyKey;

fuzz_target!(|text: &str| {
    if let Ok(key) = IdempotencyKey::parse(text) {
        assert_eq!(key.as_str(), text);
    }
    if let Ok(key) = IdempotencyKey::parse_header(text) {
        assert_eq!(IdempotencyKey::parse(key.as_str()), Ok(key.clone()));
        let escaped = key.as_str().replace('\\', "\\\\").replace('"', "\\\"");
        assert_eq!(IdempotencyKey::parse_header(&format!("\"{escaped}\"")), Ok(key));
    }
});
