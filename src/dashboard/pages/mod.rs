//! The contents of the pages: a template struct for each page, and the views of a key that pages
//! share.
//!
//! The structs contain the texts that the pages show. Handlers fill the structs. The templates
//! escape the texts.

pub mod balance;
pub mod compromised;
pub mod frame;
pub mod holds;
pub mod key_actions;
pub mod key_clients;
pub mod key_detail;
pub mod key_form;
pub mod key_shown;
pub mod key_views;
pub mod keys;
pub mod limits;
pub mod message;
pub mod notices;
pub mod purchases;
pub mod search;
pub mod security_log;
pub mod sign_in;
pub mod start;
