//! Endpoints that need no credential.

pub mod health;
