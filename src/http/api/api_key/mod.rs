//! Endpoints for API keys.

pub mod authorize;
pub mod holds;
pub mod me;
pub mod purchases;
