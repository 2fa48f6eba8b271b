//! The resources of the API. Each has its own file, in the folder of the credential that it
//! requires.

pub mod admin_key;
pub mod api_key;
pub mod open;
pub mod shared;
