//! Generates pages of the book's reference, with one file per page. `make docs` writes them to
//! `docs/src/reference/`.

mod command;
mod commands;
mod errors;
mod http_api;
mod markdown;
mod metrics;
mod operation;
mod schema;
mod settings;

pub use command::Reference;
