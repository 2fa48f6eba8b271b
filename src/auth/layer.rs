use std::sync::Arc;

use axum::http::HeaderName;
use tower::Layer;

use super::{ApiKeyService, KeyVerifier, settings::Settings};
use crate::domain::scope::Scope;

/// Lets a request pass when it carries a live API key: a tower [`Layer`].
///
/// See [the module](super) for a program that uses it.
pub struct ApiKeyLayer<V> {
    settings: Settings<V>,
}

impl<V: KeyVerifier> ApiKeyLayer<V> {
    /// A gate that reads `X-API-Key` and asks for no scope.
    #[must_use]
    pub fn new(verifier: V) -> Self {
        Self::shared(Arc::new(verifier))
    }

    /// The same with a verifier that other layers use too.
    #[must_use]
    pub fn shared(verifier: Arc<V>) -> Self {
        let header = HeaderName::from_static("x-api-key");
        Self { settings: Settings { verifier, header, bearer: true, required_scope: None } }
    }

    /// Answers 403 unless one of the key's scopes implies this one.
    #[must_use]
    pub fn require_scope(mut self, scope: Scope) -> Self {
        self.settings.required_scope = Some(Arc::new(scope));
        self
    }

    /// Does not take the key from `Authorization: Bearer`: for a service that reads another
    /// credential of its own there, which would be one that differs.
    #[must_use]
    pub fn header_only(mut self) -> Self {
        self.settings.bearer = false;
        self
    }

    /// Reads the key out of another header than `X-API-Key`.
    #[must_use]
    pub fn header_name(mut self, header: HeaderName) -> Self {
        self.settings.header = header;
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
