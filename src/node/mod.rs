//! One running service among those on a database: it verifies keys out of a cache, by a lease that
//! it keeps.
//!
//! ARCHITECTURE.md has the protocol and why it is right. [`auth`](crate::auth) has the cache and
//! the lease, the store what is said between nodes; here both are put together.

mod counted_verifier;
mod handle;
mod keeper;
mod verifier;

pub use counted_verifier::{CountedVerifier, count_for, count_unverified};
pub use handle::{Node, NodeSettings};
pub use verifier::StoreVerifier;
