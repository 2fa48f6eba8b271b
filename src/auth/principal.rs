use std::{
    convert::Infallible,
    ops::Deref,
    sync::{Arc, OnceLock},
};

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::request::Parts,
};

use super::Problem;
use crate::domain::{
    account::ExternalId,
    id::KeyId,
    scope::ScopeSet,
    tenant::{Environment, Slug},
    timestamp::Timestamp,
};

/// Who a verified request is: the tenant, the account, the key, and what the key may do.
///
/// In the extensions of every request that passed [`ApiKeyLayer`](super::ApiKeyLayer), and an
/// axum extractor. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Principal(Arc<PrincipalParts>);

/// What a [`Principal`] consists of.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PrincipalParts {
    /// The platform whose key it is.
    pub tenant: Slug,
    /// The platform's environment, live or test.
    pub environment: Environment,
    /// The tenant's own id of the account.
    pub account: ExternalId,
    /// The key's id, which is no secret.
    pub key_id: KeyId,
    /// What the key may do.
    pub scopes: ScopeSet,
    /// When the key dies; `None`: never.
    pub expires_at: Option<Timestamp>,
}

impl PrincipalParts {
    /// The parts of a principal whose key never expires; set `expires_at` for one that does.
    #[must_use]
    pub fn new(
        tenant: Slug,
        environment: Environment,
        account: ExternalId,
        key_id: KeyId,
        scopes: ScopeSet,
    ) -> Self {
        Self { tenant, environment, account, key_id, scopes, expires_at: None }
    }

    /// The same with a key that dies at a moment of the database's clock; `None`: never.
    #[must_use]
    pub fn expiring(self, expires_at: Option<Timestamp>) -> Self {
        Self { expires_at, ..self }
    }
}

impl Principal {
    /// A principal of these parts.
    #[must_use]
    pub fn new(parts: PrincipalParts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for Principal {
    type Target = PrincipalParts;

    fn deref(&self) -> &PrincipalParts {
        &self.0
    }
}

/// Whose key a request carried, for who stands outside of the gate, where the request is gone once
/// it is answered: whoever logs or counts.
///
/// Put one into the request's extensions before it comes to the gate, and keep a clone. The gate
/// says who it is, also of a key that it refuses, if it knows it. It does not say whose a key of
/// another tenant is.
#[derive(Clone, Default, Debug)]
pub struct Caller(Arc<OnceLock<Principal>>);

impl Caller {
    /// `None`: the request did not come to a gate, or carried no key of the gate's tenant that is
    /// known.
    #[must_use]
    pub fn principal(&self) -> Option<&Principal> {
        self.0.get()
    }

    pub(super) fn is(&self, principal: &Principal) {
        // A second gate behind the first finds the same key.
        let _ = self.0.set(principal.clone());
    }
}

impl<S: Sync> FromRequestParts<S> for Principal {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let principal = parts.extensions.get::<Self>().cloned();
        principal.ok_or_else(|| Problem::internal("no ApiKeyLayer around the handler"))
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Principal {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}
