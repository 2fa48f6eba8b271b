//! API keys in the headers of a request.

#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use libfuzzer_sys::fuzz_target;
use tollgate::auth::Credentials;

fuzz_target!(|input: (&[u8], &[u8], &[u8])| {
    let own = HeaderName::from_static("x-api-key");
    let (one, two, three) = input;
    let mut headers = HeaderMap::new();
    for (name, bytes) in [(&own, one), (&AUTHORIZATION, two), (&AUTHORIZATION, three)] {
        if let Ok(value) = HeaderValue::from_bytes(bytes) {
            headers.append(name.clone(), value);
        }
    }
    let both = Credentials::read(&headers, &own);
    let alone = [Credentials::read_header(&headers, &own), Credentials::read_bearer(&headers)];
    if let Ok(credentials) = both {
        let key = credentials.into_key();
        let is_sent = |value: &HeaderValue| value.as_bytes().ends_with(key.expose().as_bytes());
        assert!(headers.values().any(is_sent));
        // The parser refuses a request with different keys in its two headers. So if it accepts
        // the request, each header that contains a key contains this key.
        for credentials in alone.into_iter().flatten() {
            assert_eq!(credentials.into_key().expose(), key.expose());
        }
    }
});
