//! API keys: their rows, changes, verification, and usage.

pub mod activity;
pub mod api_key_changes;
pub mod api_keys;
pub mod clients;
pub mod row;
pub mod usage;
pub mod verifications;
