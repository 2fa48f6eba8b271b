//! The dashboard: pages for the owner of an account, rendered here and whole without JavaScript.
//!
//! [`routes()`] has all routes and layers. A page is a handler that loads what the session's account
//! has ([`session`]), fills a struct of [`pages`], and lets its template write it. A form comes back
//! through [`submission`], is read by the types of `domain` as the API's bodies are, and leads to a
//! redirect, so that a reload does nothing again; the one page that shows a key's text is the answer
//! to its form, which can be sent once.
//!
//! Architecture invariant: no request names a tenant or an account once there is a session. No
//! script and no style stands in a page, and nothing is loaded from elsewhere.

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
mod key_claims;
mod key_detail;
mod key_fields;
mod key_form;
mod keys;
mod new_key;
mod pages;
mod platform;
mod purchases;
mod rotate;
mod routes;
mod security_log;
mod session;
mod sign_in;
mod submission;
mod views;

pub use routes::routes;
