//! Everything that moves a balance or tells of it.

pub mod batches;
pub mod credits;
pub mod entries;
pub mod holds;
pub mod idempotency;
pub mod ledger_check;
pub mod purchases;
pub mod refunds;
pub mod settlement;
