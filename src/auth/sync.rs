//! What the cache and the lease share between threads. By a name of its own, so that
//! `tests/model` can put the model checker's in its place, which tries the orders in which threads
//! can meet.

pub use std::sync::{
    RwLock,
    atomic::{AtomicI64, AtomicU64, Ordering},
};
