//! A verifier that asks a running Tollgate over HTTP.

mod answer;
mod settings;
mod verifier;

pub use settings::{RemoteSettings, RemoteVerifierError};
pub use verifier::RemoteVerifier;
