//! Account ids of a tenant, in both formats.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::domain::{
    account::{AccountFormat, ExternalId},
    tron::check_address,
};

fuzz_target!(|text: &str| {
    for format in [AccountFormat::Any, AccountFormat::Tron] {
        if let Ok(id) = ExternalId::parse(text, format) {
            assert_eq!(id.to_string(), text);
            assert_eq!(ExternalId::parse(id.as_str(), format), Ok(id));
        }
    }
    let is_tron = ExternalId::parse(text, AccountFormat::Tron).is_ok();
    assert_eq!(is_tron, check_address(text).is_ok());
    if is_tron {
        assert!(ExternalId::parse(text, AccountFormat::Any).is_ok());
    }
});
