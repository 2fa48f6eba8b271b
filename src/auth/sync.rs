//! The synchronization primitives of the cache, the lease and the shares of rate limits. With the
//! feature `model`, they come from a model checker, which explores the orders in which threads can
//! run.

#[cfg(all(not(feature = "model"), feature = "server"))]
pub use std::sync::{Mutex, MutexGuard};
#[cfg(not(feature = "model"))]
pub use std::sync::{
    RwLock,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

#[cfg(feature = "model")]
pub use shuttle::sync::{
    Mutex, MutexGuard, RwLock,
    atomic::{AtomicI64, AtomicU64, Ordering},
};
