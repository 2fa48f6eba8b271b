//! Ids, times, slugs of tenants, and ledger heads that clients send.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::domain::{
    id::{AdminKeyId, AuditEventId, CreditId, HoldId, KeyId, PurchaseId, RefundId},
    ledger_head::LedgerHead,
    tenant::Slug,
    timestamp::Timestamp,
};

macro_rules! check_ids {
    ($text:ident: $($id:ident),*) => {
        $(if let Ok(id) = $text.parse::<$id>() {
            assert_eq!(id.to_string(), $text);
            assert_eq!($id::from_uuid(id.uuid()), id);
        })*
    };
}

fuzz_target!(|text: &str| {
    check_ids!(text: AdminKeyId, AuditEventId, CreditId, HoldId, KeyId, PurchaseId, RefundId);
    if let Ok(slug) = text.parse::<Slug>() {
        assert_eq!(slug.as_str(), text);
    }
    if let Ok(head) = text.parse::<LedgerHead>() {
        assert_eq!(head.to_string(), text);
    }
    if let Ok(time) = Timestamp::parse(text) {
        assert_eq!(Timestamp::parse(&time.to_string()), Ok(time));
        assert_eq!(Timestamp::from_unix_micros(time.unix_micros()), Some(time));
    }
});
