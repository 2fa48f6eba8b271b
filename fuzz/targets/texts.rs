//! Names and other display texts, colours and logos.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::domain::{
    dashboard::{AccentColor, DisplayName, Logo, LogoHash},
    text::{Description, Name, Reason, Reference},
};

macro_rules! check_texts {
    ($text:ident: $($kind:ident),*) => {
        $(if let Ok(text) = $kind::parse($text) {
            assert!((1..=$kind::MAX_CHARS).contains(&text.as_str().chars().count()));
            assert_eq!($kind::parse(text.as_str()), Ok(text));
        })*
    };
}

fuzz_target!(|text: &str| {
    check_texts!(text: Description, DisplayName, Name, Reason, Reference);
    if let Ok(color) = AccentColor::parse(text) {
        assert!(color.to_string().eq_ignore_ascii_case(text));
        let _ = color.palette();
    }
    if let Ok(hash) = text.parse::<LogoHash>() {
        assert_eq!(hash.to_string(), text);
    }
    let _ = Logo::from_base64(text);
    if let Ok(logo) = Logo::new(text.as_bytes().to_vec()) {
        assert_eq!(logo.bytes(), text.as_bytes());
    }
});
