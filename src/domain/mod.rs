//! The terms of the service as types, and the rules that need no database.
//!
//! Nothing here does I/O, is async, or names axum or sqlx. Time and randomness are arguments. Every
//! value of these types is valid, so inner code does not check it again.

#![warn(missing_docs, clippy::missing_errors_doc, clippy::missing_panics_doc)]

mod accent;
pub mod account;
pub mod amount;
pub mod api_key;
pub mod audit;
pub mod canonical_json;
pub mod credit;
pub mod dashboard;
pub mod hold;
pub mod id;
pub mod idempotency;
pub mod key_settings;
pub mod ledger_entry;
pub mod lifecycle;
mod logo;
pub mod permission;
pub mod purchase;
pub mod refund;
#[cfg(feature = "server")]
pub(crate) mod schema;
pub mod scope;
pub mod session_token;
pub mod spend_limit;
pub mod tenant;
pub mod text;
pub mod text_enum;
pub mod timestamp;
pub mod tron;
#[cfg(feature = "server")]
pub mod tron_message;
pub mod usage;
pub mod verification;
mod web_origin;
