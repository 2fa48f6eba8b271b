//! The gate: a tower middleware that lets a request pass when it carries a live API key.
//!
//! [`ApiKeyLayer`] reads the key out of `X-API-Key` (or `Authorization: Bearer`), asks a
//! [`KeyVerifier`] about it, and either answers with a problem (RFC 9457) or hands the request on
//! with a [`Principal`] in its extensions. It needs no database: the verifier is the one port.
//!
//! ```
//! use axum::{Router, body::Body, http::{Request, StatusCode}, routing::get};
//! use tollgate::{
//!     auth::{ApiKeyLayer, Denial, Denied, KeyVerifier, Principal, PrincipalParts},
//!     domain::{
//!         account::{AccountFormat, ExternalId},
//!         api_key::{KeyHash, KeyText},
//!         id::KeyId,
//!         scope::ScopeSet,
//!         tenant::Environment,
//!     },
//! };
//! use tower::ServiceExt as _;
//!
//! /// Knows one key by its hash.
//! struct OneKey(KeyHash, Principal);
//!
//! impl KeyVerifier for OneKey {
//!     async fn verify(&self, key: &KeyText) -> Result<Principal, Denied> {
//!         if key.hash() == self.0 { Ok(self.1.clone()) } else { Err(Denial::NotFound.into()) }
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let key = KeyText::parse("ta_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")?;
//! let principal = Principal::new(PrincipalParts {
//!     tenant: "tronagg".parse()?,
//!     environment: Environment::Live,
//!     account: ExternalId::parse("user-1", AccountFormat::Any)?,
//!     key_id: "key_01h455vb4pex5vsknk084sn02q".parse::<KeyId>()?,
//!     scopes: ScopeSet::parse(["orders:read"])?,
//!     expires_at: None,
//! });
//! let gate = ApiKeyLayer::new(OneKey(key.hash(), principal));
//!
//! let app = Router::new()
//!     .route("/orders", get(|caller: Principal| async move { caller.account.to_string() }))
//!     .route_layer(gate.require_scope("orders:read".parse()?));
//!
//! let request = Request::get("/orders").header("X-API-Key", key.expose()).body(Body::empty())?;
//! assert_eq!(app.clone().oneshot(request).await?.status(), StatusCode::OK);
//!
//! let request = Request::get("/orders").body(Body::empty())?;
//! assert_eq!(app.oneshot(request).await?.status(), StatusCode::UNAUTHORIZED);
//! # Ok(())
//! # }
//! ```

mod credentials;
mod key_cache;
mod layer;
mod lease;
mod leased_verifier;
// Beside what they test and not in it: tests/model takes those files as they are.
#[cfg(test)]
mod key_cache_tests;
#[cfg(test)]
mod lease_tests;
#[cfg(test)]
mod leased_verifier_tests;
mod principal;
mod problem;
#[cfg(feature = "remote")]
mod remote;
mod service;
mod sync;
mod verifier;

pub use credentials::{Credentials, CredentialsError};
pub use key_cache::MAX_ENTRIES;
pub use layer::ApiKeyLayer;
pub use leased_verifier::{CacheState, LeasedVerifier};
pub use principal::{Caller, Principal, PrincipalParts};
#[cfg(any(feature = "remote", feature = "server"))]
pub(crate) use problem::chain;
pub use problem::{Challenge, Problem};
#[cfg(feature = "remote")]
pub use remote::{RemoteSettings, RemoteVerifier, RemoteVerifierError};
pub use service::{ApiKeyFuture, ApiKeyService};
pub use verifier::{Denied, KeyVerifier, Verdict};

pub use crate::domain::verification::Denial;
