//! Tests that use the dashboard over HTTP, through all layers. They cover sign-in and sessions, the
//! headers of every response, forged and invalid forms, and the isolation of accounts.

mod allowed_ips;
mod announced_ends;
mod audit;
mod compromise;
mod ended_sessions;
mod entry;
mod escaping;
mod expired_rows;
mod forgery;
mod headers;
mod holds;
mod key_clients;
mod lists;
mod new_keys;
mod plans;
mod rate_limits;
mod rights;
mod secrets;
mod sessions;
mod settings;
mod sign_in;
mod sign_in_limits;
mod strangers;
mod suspended_tenant;
pub mod times;
pub mod visitor;
pub mod wallet;
