//! What the pages show: a template struct a page, and the views of a key that pages share.
//!
//! They hold texts that are ready to be read. Handlers fill them; templates escape them.

pub mod balance;
pub mod compromised;
pub mod frame;
pub mod key_actions;
pub mod key_detail;
pub mod key_form;
pub mod key_shown;
pub mod key_views;
pub mod keys;
pub mod message;
pub mod notices;
pub mod purchases;
pub mod security_log;
pub mod sign_in;
