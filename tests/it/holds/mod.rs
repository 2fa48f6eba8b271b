//! Every hold is captured, voided or expired exactly once.

mod backend;
mod calls;
mod lifecycle;
mod limits;
mod races;
mod requests;
mod revoked_keys;
