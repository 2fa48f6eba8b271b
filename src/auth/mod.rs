//! The gate: a tower middleware that accepts a request only with a valid API key of its tenant.
//!
//! [`ApiKeyLayer`] reads the key from `X-API-Key` (or `Authorization: Bearer`) and asks a
//! [`KeyVerifier`] about it. Then it either responds with a problem (RFC 9457), or calls the inner
//! service with a [`Principal`] in the request's extensions. The gate needs no database, because
//! the verifier is its only port.
//!
//! ```
//! use axum::{Router, body::Body, http::{Request, StatusCode}, routing::get};
//! use tollgate::{
//!     auth::{ApiKeyLayer, Denial, KeyVerifier, Presented, Principal, PrincipalParts, Verdict},
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
//!     async fn verify(&self, presented: &Presented<'_>) -> Verdict {
//!         if presented.key.hash() == self.0 { Ok(self.1.clone()) } else { Err(Denial::NotFound.into()) }
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let key = KeyText::parse("ta_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")?;
//! let principal = Principal::new(PrincipalParts::new(
//!     "tronagg".parse()?,
//!     Environment::Live,
//!     ExternalId::parse("user-1", AccountFormat::Any)?,
//!     "key_01h455vb4pex5vsknk084sn02q".parse::<KeyId>()?,
//!     ScopeSet::parse(["orders:read"])?,
//! ));
//! let gate =
//!     ApiKeyLayer::new(OneKey(key.hash(), principal), "tronagg".parse()?, Environment::Live);
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

#![warn(missing_docs, clippy::missing_errors_doc, clippy::missing_panics_doc)]

mod body;
mod credentials;
mod gate;
mod group_changes;
mod key_cache;
#[cfg(test)]
mod key_cache_tests;
mod key_lookup;
mod layer;
pub(crate) mod lease;
#[cfg(test)]
mod lease_tests;
mod leased_verifier;
#[cfg(test)]
mod leased_verifier_tests;
mod presented;
mod principal;
mod problem;
mod problem_code;
mod rate_limit_fields;
mod rate_limit_refusal;
mod rate_limits;
#[cfg(feature = "remote")]
mod remote;
mod service;
mod settings;
pub(crate) mod sync;
mod verifier;

pub use body::RefusalBody;
pub use credentials::{Credentials, CredentialsError};
#[cfg(feature = "server")]
pub(crate) use gate::{Gate, Requirement};
pub use key_cache::MAX_ENTRIES;
#[cfg(feature = "model")]
#[doc(hidden)]
pub use key_cache::{Found, KeyCache};
pub use key_lookup::{KeyLookup, NoVerdict};
pub use layer::ApiKeyLayer;
pub use leased_verifier::{CacheState, LeasedVerifier};
pub use presented::{ClientAddress, Presented};
pub use principal::{Caller, Limits, Principal, PrincipalParts};
#[cfg(any(feature = "remote", feature = "server"))]
pub(crate) use problem::chain;
pub use problem::{Challenge, Problem};
pub use problem_code::ProblemCode;
pub use rate_limit_fields::RateLimitFields;
#[cfg(feature = "server")]
pub(crate) use rate_limit_fields::{ItemName, PolicyField, ShownLimit, rate_limit_fields};
pub use rate_limits::{KeyLimits, RateLimited, Taken, Taking, Waited};
#[cfg(feature = "remote")]
pub use remote::{RemoteSettings, RemoteVerifier, RemoteVerifierError};
pub use service::{ApiKeyFuture, ApiKeyService};
pub use verifier::{Denied, KeyVerifier, Verdict};

pub use crate::domain::verification::{Denial, GateDecision};
