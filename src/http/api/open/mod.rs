//! Endpoints that need no credential.

pub mod health;
pub mod service;
