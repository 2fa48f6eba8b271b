//! The way of money between HTTP and the store.
//!
//! Everything that moves a balance or reserves a part of it goes through here, whichever door it
//! came in by. What API keys ask for waits in the queue of its account until the batch before has
//! returned, and then goes with all that has gathered, in one transaction. A caller that goes away
//! while it waits has asked for nothing; once it is in a batch, it does not stop what it asked for.
//!
//! No outcome is guessed: when a connection is lost on the way, the same batch is sent again and
//! finds what it did. Credits and refunds, which carry an idempotency key always, are asked for
//! again in the same way.

mod batcher;
mod path;
mod queues;

pub use path::{Buyer, Decision, Money};
