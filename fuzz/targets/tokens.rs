//! Tokens of sessions, links, forms and sign-ins.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::domain::session_token::SessionToken;

fuzz_target!(|text: &str| {
    if let Ok(token) = SessionToken::parse(text) {
        assert_eq!(token.expose(), text);
        assert_eq!(
            &token.hash().session_id().uuid().as_bytes()[..],
            &token.hash().as_bytes()[..16]
        );
        let again = SessionToken::parse(token.expose()).expect("a token");
        assert_eq!(again.hash().as_bytes(), token.hash().as_bytes());
    }
});
