//! Rate limits that are exact over all nodes. The database gives a node shares of a limit, and the
//! node spends them without database work.
//!
//! `docs/src/explanation/rate-limits.md` contains the protocol and its proof.

mod cell;
mod key_limits;
mod limit_list;
mod limiter;
mod registry;
mod share;
#[cfg(test)]
mod share_tests;
mod states;

pub use cell::{ShareCell, Slot, Take};
pub use key_limits::{CurrentShare, Limit, Limits, ShareSource};
pub use limit_list::LimitList;
pub use limiter::Limiter;
pub use share::{Newest, Next, Share};
