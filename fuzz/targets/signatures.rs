//! Signatures of sign-in messages. No input is a valid signature for the address below, so every
//! signature must be refused.

#![no_main]

use std::fmt::Write as _;

use libfuzzer_sys::fuzz_target;
use tollgate::domain::tron_message::verify;

const ADDRESS: &str = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t";

fuzz_target!(|input: ([u8; 65], &str, &str)| {
    let (bytes, message, text) = input;
    assert!(verify(ADDRESS, message, text).is_err());
    let mut signature = "0x".to_owned();
    for byte in bytes {
        let _ = write!(signature, "{byte:02x}");
    }
    // The parser refuses other values of the last byte before any computation on the curve.
    for v in ["00", "01", "1b", "1c"] {
        signature.replace_range(130.., v);
        assert!(verify(ADDRESS, message, &signature).is_err());
    }
});
