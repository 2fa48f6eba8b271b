//! Endpoints for admin keys.

pub mod accounts;
pub mod api_keys;
pub mod audit_events;
pub mod credits;
pub mod dashboard_links;
pub mod dashboard_sessions;
pub mod dashboard_settings;
pub mod holds;
pub mod key_clients;
pub mod ledger;
pub mod limits;
pub mod plans;
pub mod purchases;
pub mod refunds;
pub mod usage;
pub mod verify;
