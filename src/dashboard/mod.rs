//! The dashboard: server-rendered pages for the owner of an account, which work without JavaScript.
//!
//! [`routes()`] defines all routes and layers. A handler loads the data of the session's account
//! ([`session`]), fills a struct of [`pages`], and renders its template. A submitted form arrives
//! as a [`submission`]. The types of `domain` parse its fields, as they parse the bodies of the
//! API. After a successful change, the response is a redirect, so that a reload does not repeat the
//! change. A page that shows a key's plaintext is an exception. It is the response to its form, and
//! the form creates only one key.
//!
//! Architecture invariant: with a session, no request names a tenant or an account. No page
//! contains an inline script or style, or loads anything from another origin.

mod account_keys;
mod assets;
mod balance;
mod brand;
mod change_key;
mod compromise;
mod cookies;
mod csv;
mod entry;
mod events;
mod failures;
mod holds;
mod key_claims;
mod key_clients;
mod key_detail;
mod key_fields;
mod key_form;
mod key_in_path;
mod key_limits;
mod keys;
mod limit_table;
mod new_key;
mod pages;
mod platform;
mod purchases;
mod rotate;
mod routes;
mod search;
mod security_log;
mod session;
mod sign_in;
mod start;
mod submission;
mod views;

pub use routes::routes;
pub use start::start_page;
