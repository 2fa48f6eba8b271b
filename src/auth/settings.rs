use std::sync::Arc;

use axum::http::HeaderName;

use crate::domain::scope::Scope;

/// What a layer hands to each of its services.
pub(super) struct Settings<V> {
    pub verifier: Arc<V>,
    pub header: HeaderName,
    pub bearer: bool,
    pub required_scope: Option<Arc<Scope>>,
}

impl<V> Clone for Settings<V> {
    fn clone(&self) -> Self {
        Self {
            verifier: Arc::clone(&self.verifier),
            header: self.header.clone(),
            bearer: self.bearer,
            required_scope: self.required_scope.clone(),
        }
    }
}
