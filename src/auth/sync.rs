//! The synchronization primitives of the cache and the lease. With the feature `model`, they come
//! from a model checker, which explores the orders in which threads can run.

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
