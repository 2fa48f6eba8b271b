//! The HTTP interface: axum.
//!
//! [`transport`] has what happens to every request, [`api`] the resources, grouped by the credential
//! that calls them. All routes stand in [`routes`], all layers in [`router`](self::router()).

mod api;
mod openapi;
mod problem;
mod router;
mod routes;
mod transport;

pub use openapi::document as openapi_document;
pub use router::router;
pub use transport::{
    forwarded::TrustedProxies,
    server::{ServerLimits, serve},
};
