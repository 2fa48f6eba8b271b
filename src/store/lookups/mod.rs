//! Lookups of API keys, admin keys, dashboard sessions and links by their hash. Concurrent lookups
//! of one kind share a statement. No lookup takes a connection from the pool that requests share.

mod by_hash;
mod gathered;
mod rows;

pub(super) use by_hash::{CONNECTIONS, Lookups, SESSION};
pub(super) use gathered::{Gathered, Row};
