//! The path of money between HTTP and the store.
//!
//! Every operation that moves a balance, or reserves a part of it, goes through this module. The
//! operations of API keys wait in the queue of their account until the previous batch has returned.
//! The next batch applies all that have gathered, in one transaction. A caller that disconnects
//! before its operation is in a batch has bought nothing. Disconnecting later does not stop the
//! operation.
//!
//! No outcome is guessed: when a connection is lost, the same batch is sent again and finds its own
//! effects. Credits and refunds always have an idempotency key, and are retried by it.

mod batcher;
mod path;
mod queues;

pub use path::{Buyer, Decision, Money};
