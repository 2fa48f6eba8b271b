use std::sync::Arc;

use axum::http::HeaderName;

use crate::domain::{
    scope::Scope,
    tenant::{Environment, Slug},
};

/// What a layer hands to each of its services.
pub(super) struct Settings<V> {
    pub verifier: Arc<V>,
    pub header: HeaderName,
    pub bearer: bool,
    pub requirement: Requirement,
}

/// What a route requires of a key beside that it is live.
///
/// If a request has one in its extensions, it applies instead of that of the layer: the type is
/// private to the crate, so only Tollgate's own routes can do this.
#[derive(Clone)]
pub(crate) struct Requirement {
    /// The tenant whose keys pass; `None`: each key is served in its own tenant.
    pub tenant: Option<(Slug, Environment)>,
    pub scope: Option<Scope>,
}

impl<V> Clone for Settings<V> {
    fn clone(&self) -> Self {
        Self {
            verifier: Arc::clone(&self.verifier),
            header: self.header.clone(),
            bearer: self.bearer,
            requirement: self.requirement.clone(),
        }
    }
}
