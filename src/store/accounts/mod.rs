//! Tenants, their admin keys, and their accounts.

pub mod account;
pub mod admin_keys;
pub mod handle;
pub mod plans;
pub mod tenant_status;
pub mod tenants;
