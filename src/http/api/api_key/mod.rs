//! What an API key can call.

pub mod authorize;
pub mod holds;
pub mod me;
pub mod purchases;
