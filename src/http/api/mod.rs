//! The resources: one file each, in the folder of the credential that calls them.

pub mod admin_key;
pub mod api_key;
pub mod open;
pub mod shared;
