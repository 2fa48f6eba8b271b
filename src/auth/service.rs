use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    http::{HeaderMap, Request},
    response::{IntoResponse, Response},
};
use tower::Service;

use super::{
    Challenge, Credentials, CredentialsError, KeyVerifier, Principal, Problem, layer::Settings,
};
use crate::domain::{api_key::KeyText, scope::Scope, verification::Denial};

/// The service that [`ApiKeyLayer`](super::ApiKeyLayer) puts around another.
///
/// A refusal is a response, never an error: the only errors are those of the inner service.
pub struct ApiKeyService<S, V> {
    inner: S,
    settings: Settings<V>,
}

/// What [`ApiKeyService`] answers with in the end.
pub type ApiKeyFuture<E> = Pin<Box<dyn Future<Output = Result<Response, E>> + Send>>;

impl<S, V> ApiKeyService<S, V> {
    pub(super) fn new(inner: S, settings: Settings<V>) -> Self {
        Self { inner, settings }
    }
}

impl<S, V, B> Service<Request<B>> for ApiKeyService<S, V>
where
    S: Service<Request<B>> + Clone + Send + 'static,
    S::Response: IntoResponse,
    S::Future: Send,
    V: KeyVerifier,
    B: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = ApiKeyFuture<S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The service that was polled ready is the one to call; its clone waits for its own turn.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let verifier = Arc::clone(&self.settings.verifier);
        let required_scope = self.settings.required_scope.clone();
        let key = read_key(request.headers(), &self.settings);
        Box::pin(async move {
            let principal = match key {
                Ok(key) => verifier.verify(&key).await.map_err(Problem::from),
                Err(problem) => Err(problem),
            };
            let principal = match principal {
                Ok(principal) => principal,
                Err(problem) => return Ok(problem.into_response()),
            };
            let mut response = match check_scope(&principal, required_scope.as_deref()) {
                Ok(()) => {
                    request.extensions_mut().insert(principal.clone());
                    inner.call(request).await?.into_response()
                }
                Err(problem) => problem.into_response(),
            };
            // For whoever logs the response: outside of the gate the request is gone.
            response.extensions_mut().insert(principal);
            Ok(response)
        })
    }
}

fn read_key<V>(headers: &HeaderMap, settings: &Settings<V>) -> Result<KeyText, Problem> {
    let header = &settings.header;
    let credentials = if settings.bearer {
        Credentials::read(headers, header)
    } else {
        Credentials::read_header(headers, header)
    };
    match credentials {
        Ok(credentials) => Ok(credentials.into_key()),
        Err(CredentialsError::Malformed) => Err(Denial::Malformed.into()),
        Err(CredentialsError::Missing) => Err(Problem::unauthorized(
            "missing_api_key",
            "An API key is required",
            format!("Send the API key in the header {header}."),
            Challenge::Bare,
        )
        .because("missing")),
        Err(CredentialsError::Conflicting) => Err(Problem::unauthorized(
            "missing_api_key",
            "An API key is required",
            "The request carries API keys that differ. Send one.",
            Challenge::Bare,
        )
        .because("conflicting")),
    }
}

fn check_scope(principal: &Principal, required: Option<&Scope>) -> Result<(), Problem> {
    match required {
        Some(scope) if !principal.scopes.allows(scope) => Err(Problem::insufficient_scope(scope)),
        _ => Ok(()),
    }
}

impl<S: Clone, V> Clone for ApiKeyService<S, V> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), settings: self.settings.clone() }
    }
}
