pub mod auth;
pub mod domain;
#[cfg(feature = "server")]
pub mod entropy;
#[cfg(feature = "server")]
pub mod store;
