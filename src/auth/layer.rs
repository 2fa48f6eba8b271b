use std::sync::Arc;

use axum::http::HeaderName;
use tower::Layer;

use super::{
    ApiKeyService, KeyVerifier,
    gate::{Gate, Requirement},
    settings::Settings,
};
use crate::domain::{
    rate_limit::Cost,
    scope::Scope,
    tenant::{Environment, Slug},
};

/// A tower [`Layer`] that accepts a request only if it contains a live API key of one tenant.
///
/// [The module](super) shows a program that uses it.
pub struct ApiKeyLayer<V> {
    settings: Settings<V>,
}

impl<V: KeyVerifier> ApiKeyLayer<V> {
    /// Creates a gate for the keys of this tenant. It reads `X-API-Key` and requires no scope.
    ///
    /// An account's id is only unique within its tenant, so a key of another tenant, or of the
    /// tenant's other environment, gets the same 401 as an unknown key.
    #[must_use]
    pub fn new(verifier: V, tenant: Slug, environment: Environment) -> Self {
        Self::shared(Arc::new(verifier), tenant, environment)
    }

    /// Creates a gate as [`Self::new`] does, with a verifier that other layers also use.
    #[must_use]
    pub fn shared(verifier: Arc<V>, tenant: Slug, environment: Environment) -> Self {
        Self::requiring(verifier, Some((tenant, environment)))
    }

    /// Creates a gate for Tollgate's own routes, which serve each key in its own tenant.
    #[cfg(feature = "server")]
    pub(crate) fn for_every_tenant(verifier: Arc<V>) -> Self {
        Self::requiring(verifier, None)
    }

    fn requiring(verifier: Arc<V>, tenant: Option<(Slug, Environment)>) -> Self {
        let requirement = Requirement { tenant, scope: None, cost: Some(Cost::ONE) };
        let requirement = Arc::new(requirement);
        Self { settings: Settings { gate: Gate::new(verifier), requirement } }
    }

    fn requirement(&mut self) -> &mut Requirement {
        Arc::make_mut(&mut self.settings.requirement)
    }

    /// Requires a scope. The response is 403 unless one of the key's scopes implies this one.
    #[must_use]
    pub fn require_scope(mut self, scope: Scope) -> Self {
        self.requirement().scope = Some(scope);
        self
    }

    /// Sets the number of calls that each request counts as in rate limits. Without this call, a
    /// request counts as one.
    #[must_use]
    pub fn cost(mut self, cost: Cost) -> Self {
        self.requirement().cost = Some(cost);
        self
    }

    /// Does not charge requests to rate limits.
    #[cfg(feature = "server")]
    #[must_use]
    pub(crate) fn without_charge(mut self) -> Self {
        self.requirement().cost = None;
        self
    }

    /// Ignores `Authorization: Bearer`. Use this if the service reads another credential from that
    /// header, because the gate would otherwise see two different keys.
    #[must_use]
    pub fn header_only(mut self) -> Self {
        self.settings.gate = self.settings.gate.header_only();
        self
    }

    /// Reads the key from this header instead of `X-API-Key`.
    #[must_use]
    pub fn header_name(mut self, header: HeaderName) -> Self {
        self.settings.gate = self.settings.gate.header_name(header);
        self
    }
}

impl<S, V> Layer<S> for ApiKeyLayer<V> {
    type Service = ApiKeyService<S, V>;

    fn layer(&self, inner: S) -> Self::Service {
        ApiKeyService::new(inner, Arc::new(self.settings.clone()))
    }
}

impl<V> Clone for ApiKeyLayer<V> {
    fn clone(&self) -> Self {
        Self { settings: self.settings.clone() }
    }
}
