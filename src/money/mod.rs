//! Applies the operations on money that HTTP handlers request to the store.
//!
//! Every operation that changes a balance or reserves a part of a balance goes through this module.
//! The operations of API keys wait in the queue of their account until the previous batch has
//! returned. The next batch applies all waiting operations in one transaction. If a caller
//! disconnects before its operation is in a batch, the operation has no effect. A later disconnect
//! does not stop the operation.
//!
//! The module never guesses an outcome. If a connection is lost, the module sends the same batch
//! again, and the repeated batch finds the effects of the first attempt. Credits and refunds always
//! have an idempotency key, so the module can retry them.

mod batcher;
mod path;
mod queues;

pub use path::{Buyer, Decision, Money};
