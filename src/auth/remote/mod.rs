//! A verifier that sends each key to a running Tollgate server over HTTP.

mod answer;
mod settings;
mod verifier;

pub use settings::{RemoteSettings, RemoteVerifierError};
pub use verifier::RemoteVerifier;
