use std::{
    convert::Infallible,
    ops::Deref,
    sync::{Arc, OnceLock},
};

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::request::Parts,
};

use super::{KeyLimits, Problem};
use crate::domain::{
    account::ExternalId,
    address_set::AddressSet,
    id::KeyId,
    key_group::KeyGroup,
    scope::ScopeSet,
    tenant::{Environment, Slug},
    timestamp::Timestamp,
};

/// The caller of a verified request: its tenant, its account, its key and the key's scopes.
///
/// The extensions of every request that [`ApiKeyLayer`](super::ApiKeyLayer) accepts contain a
/// principal. A principal is also an axum extractor, and cheap to clone.
// This `Arc` has no count of weak references, which saves 8 bytes for each cached key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Principal(triomphe::Arc<PrincipalParts>);

/// The fields of a [`Principal`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PrincipalParts {
    /// The platform that owns the account.
    pub tenant: Slug,
    /// The platform's environment, live or test.
    pub environment: Environment,
    /// The tenant's own id for the account.
    pub account: ExternalId,
    /// The key's id, which is not secret.
    pub key_id: KeyId,
    /// The scopes, which define what the key may do.
    pub scopes: ScopeSet,
    /// The moment when the key expires. `None` means that it never expires.
    pub expires_at: Option<Timestamp>,
    /// The addresses from which the key may be used. `None` means any address.
    pub allowed_ips: Option<AddressSet>,
    /// The rate limits of the key, its account and its tenant. `None` means that no limit applies.
    pub limits: Option<Limits>,
    /// The group that a change to the tenant affects.
    pub(crate) group: KeyGroup,
}

/// The rate limits of a principal. Two values are equal if they show the same limits.
#[derive(Clone, Debug)]
pub struct Limits(Arc<dyn KeyLimits>);

impl PrincipalParts {
    /// Creates the parts for a key that never expires, and that may be used from any address. Call
    /// [`Self::expiring`] and [`Self::allowed_from`] for other keys.
    #[must_use]
    pub fn new(
        tenant: Slug,
        environment: Environment,
        account: ExternalId,
        key_id: KeyId,
        scopes: ScopeSet,
    ) -> Self {
        Self {
            tenant,
            environment,
            account,
            key_id,
            scopes,
            expires_at: None,
            allowed_ips: None,
            limits: None,
            group: KeyGroup::default(),
        }
    }

    /// Sets the moment when the key expires, by the database's clock. `None` means never.
    #[must_use]
    pub fn expiring(self, expires_at: Option<Timestamp>) -> Self {
        Self { expires_at, ..self }
    }

    /// Sets the addresses from which the key may be used. `None` means any address.
    #[must_use]
    pub fn allowed_from(self, allowed_ips: Option<AddressSet>) -> Self {
        Self { allowed_ips, ..self }
    }

    /// Sets the group of the key. See
    /// [`LeasedVerifier::invalidate_group`](super::LeasedVerifier::invalidate_group).
    #[must_use]
    pub fn in_group(self, group: KeyGroup) -> Self {
        Self { group, ..self }
    }

    /// Sets the rate limits. `None` means that no limit applies.
    #[must_use]
    pub fn limited(self, limits: Option<Arc<dyn KeyLimits>>) -> Self {
        Self { limits: limits.map(Limits), ..self }
    }
}

impl Deref for Limits {
    type Target = dyn KeyLimits;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl PartialEq for Limits {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || format!("{self:?}") == format!("{other:?}")
    }
}

impl Eq for Limits {}

impl Principal {
    /// Creates a principal from these parts.
    #[must_use]
    pub fn new(parts: PrincipalParts) -> Self {
        Self(triomphe::Arc::new(parts))
    }
}

impl Deref for Principal {
    type Target = PrincipalParts;

    fn deref(&self) -> &PrincipalParts {
        &self.0
    }
}

/// The owner of the key in a request, for a layer outside the gate that logs or counts requests.
/// Such a layer no longer has the request when it sees the response.
///
/// Insert a `Caller` into the request's extensions before the request reaches the gate, and keep a
/// clone. The gate fills it in for every known key, even if it refuses the key. For a key of
/// another tenant, it stays empty.
#[derive(Clone, Default, Debug)]
pub struct Caller(Arc<OnceLock<Principal>>);

impl Caller {
    /// Returns the owner of the key. `None` if the request did not reach a gate, or contained no
    /// known key of the gate's tenant.
    #[must_use]
    pub fn principal(&self) -> Option<&Principal> {
        self.0.get()
    }

    pub(super) fn is(&self, principal: &Principal) {
        // A second gate behind the first one finds the same key.
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
