//! The dashboard over HTTP, through all layers: who comes in and for how long, what every answer
//! says to a browser, which forms are taken, and that nothing is shown of anybody else.

mod audit;
mod compromise;
mod entry;
mod escaping;
mod forgery;
mod headers;
mod new_keys;
mod secrets;
mod sessions;
mod settings;
mod sign_in;
mod strangers;
pub mod times;
pub mod visitor;
pub mod wallet;
