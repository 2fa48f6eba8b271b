//! The dashboard over HTTP, through all layers: sign-in and sessions, the headers of every
//! response, which forms are accepted, and that no account sees data of another.

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
mod lists;
mod new_keys;
mod rights;
mod secrets;
mod sessions;
mod settings;
mod sign_in;
mod sign_in_limits;
mod strangers;
pub mod times;
pub mod visitor;
pub mod wallet;
