//! API keys: made, changed, looked up, counted.

pub mod activity;
pub mod api_key_changes;
pub mod api_keys;
pub mod row;
pub mod usage;
pub mod verifications;
