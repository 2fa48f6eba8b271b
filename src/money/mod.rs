//! The path of money between HTTP and the store.
//!
//! Every operation that changes a balance, or reserves a part of it, goes through this module. The
//! operations of API keys wait in the queue of their account until the previous batch has returned.
//! The next batch applies all waiting operations in one transaction. A caller that disconnects
//! before its operation is in a batch has not bought anything. A later disconnect does not stop the
//! operation.
//!
//! The module never guesses an outcome. If a connection is lost, it sends the same batch again,
//! which finds its own effects. Credits and refunds always have an idempotency key, with which the
//! module retries them.

mod batcher;
mod path;
mod queues;

pub use path::{Buyer, Decision, Money};
