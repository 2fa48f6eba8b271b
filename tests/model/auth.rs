//! `src/auth`, as far as it is checked, with shuttle's primitives in the place of `std`'s.

#[path = "../../src/auth/key_cache.rs"]
pub mod key_cache;
#[path = "../../src/auth/lease.rs"]
mod lease;
#[expect(dead_code, reason = "what only the service uses")]
#[path = "../../src/auth/leased_verifier.rs"]
mod leased_verifier;

pub use leased_verifier::LeasedVerifier;
pub use tollgate::auth::{Denial, Denied, KeyVerifier, Principal, PrincipalParts, Verdict};

mod sync {
    pub use shuttle::sync::{
        RwLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    };
}
