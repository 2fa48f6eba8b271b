//! A node is a running service. Several nodes can share a database. A node verifies keys from a
//! cache while it holds its lease.
//!
//! ARCHITECTURE.md contains the protocol and its proof. [`auth`](crate::auth) contains the cache
//! and the lease, and the store contains the messages between nodes. This module combines the two.

mod counted_verifier;
mod handle;
mod held_session;
mod keeper;
mod lookup;
mod lost_tail;

pub use counted_verifier::{CountedVerifier, count_for, count_unverified};
pub use handle::{Node, NodeSettings};
pub use lookup::StoreLookup;
