//! Types for the concepts of the service, such as keys, amounts and holds, and the rules that need
//! no database.
//!
//! No code in this module does I/O, is async, or depends on axum or sqlx. Callers pass in the time
//! and randomness. Every value of these types is valid, so other code does not check it again.
//!
//! Without the feature `server`, only the modules that the gate needs are compiled.

#![warn(missing_docs, clippy::missing_errors_doc, clippy::missing_panics_doc)]

#[cfg(feature = "server")]
mod accent;
pub mod account;
pub mod address_set;
pub mod allowed_ips;
pub mod amount;
pub mod api_key;
#[cfg(feature = "server")]
pub mod audit;
#[cfg(feature = "server")]
pub mod canonical_json;
#[cfg(feature = "server")]
pub mod credit;
#[cfg(feature = "server")]
pub mod dashboard;
mod decimal_amount;
#[cfg(feature = "server")]
pub mod hold;
pub mod id;
#[cfg(feature = "server")]
pub mod idempotency;
#[cfg(feature = "server")]
pub mod key_clients;
pub mod key_group;
#[cfg(feature = "server")]
pub mod key_settings;
#[cfg(feature = "server")]
pub mod ledger_entry;
#[cfg(feature = "server")]
pub mod ledger_head;
pub mod lifecycle;
#[cfg(feature = "server")]
mod logo;
mod lower_name;
#[cfg(feature = "server")]
pub(crate) mod misspelling;
#[cfg(feature = "server")]
pub mod permission;
#[cfg(feature = "server")]
pub mod plan;
#[cfg(feature = "server")]
pub mod purchase;
pub mod rate_limit;
#[cfg(feature = "server")]
pub mod refund;
#[cfg(feature = "server")]
pub(crate) mod schema;
pub mod scope;
pub(crate) mod seconds;
pub mod server;
#[cfg(feature = "server")]
pub mod session_token;
#[cfg(feature = "server")]
pub mod spend_limit;
pub mod tenant;
#[cfg(feature = "server")]
pub mod text;
pub mod text_enum;
pub mod timestamp;
pub mod tron;
#[cfg(feature = "server")]
pub mod tron_message;
pub mod usage;
pub mod verification;
#[cfg(feature = "server")]
mod web_origin;
