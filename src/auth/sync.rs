//! What the cache and the lease share between threads, by a name of its own: with the feature
//! `model` it is the model checker's, which tries the orders in which threads can meet.

#[cfg(not(feature = "model"))]
pub use std::sync::{
    RwLock,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

#[cfg(feature = "model")]
pub use shuttle::sync::{
    RwLock,
    atomic::{AtomicI64, AtomicU64, Ordering},
};
