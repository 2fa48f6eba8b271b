//! Keys and their prefixes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::domain::api_key::{KeyPrefix, KeyText};

fuzz_target!(|text: &str| {
    if let Ok(prefix) = KeyPrefix::parse(text) {
        assert_eq!(prefix.as_str(), text);
    }
    if let Ok(key) = KeyText::parse(text) {
        assert_eq!(key.expose(), text);
        let body = text.strip_prefix(key.prefix()).expect("a key begins with its prefix");
        assert!(!format!("{key:?}").contains(body));
        assert!(!key.hint().as_str().contains(body));
        let again = KeyText::parse(key.expose()).expect("a key");
        assert_eq!(again.hash().as_bytes(), key.hash().as_bytes());
    }
});
