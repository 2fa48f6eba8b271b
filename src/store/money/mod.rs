//! Balances: the operations that change them, and the reports about them.

pub mod batches;
pub mod composites;
pub mod credits;
pub mod entries;
pub mod holds;
pub mod idempotency;
pub mod ledger_check;
pub mod ledger_heads;
pub mod operations;
pub mod purchases;
pub mod refunds;
pub mod settlement;
