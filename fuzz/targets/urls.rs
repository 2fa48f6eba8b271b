//! Origins of the dashboard and of platforms, and return URLs.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::domain::dashboard::{MAX_RETURN_URL, ReturnUrl, WebOrigin};

fuzz_target!(|text: &str| {
    if let Ok(origin) = WebOrigin::parse(text) {
        assert!(origin.as_str().ends_with(origin.host()));
        assert!(origin.is_secure() || origin.is_loopback());
        assert_eq!(WebOrigin::parse(&origin.to_string()), Ok(origin));
    }
    if let Ok(url) = ReturnUrl::parse(text) {
        let after_origin = url.as_str().strip_prefix(url.origin().as_str());
        assert!(after_origin.is_some_and(|rest| rest.starts_with('/')), "{url}");
        // An empty path becomes a slash, which can make the URL one character too long.
        if url.as_str().len() <= MAX_RETURN_URL {
            assert_eq!(ReturnUrl::parse(&url.to_string()), Ok(url));
        }
    }
});
