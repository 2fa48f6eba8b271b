//! What anybody can call.

pub mod health;
