use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    http::{HeaderMap, Request},
    response::{IntoResponse, Response},
};
use pin_project_lite::pin_project;
use tower::Service;

use super::{
    Caller, Challenge, Credentials, CredentialsError, KeyVerifier, Problem, Verdict,
    layer::Settings,
};
use crate::domain::{api_key::KeyText, verification::Denial};

/// The service that [`ApiKeyLayer`](super::ApiKeyLayer) puts around another.
///
/// A refusal is a response, never an error: the only errors are those of the inner service.
pub struct ApiKeyService<S, V> {
    inner: S,
    settings: Arc<Settings<V>>,
}

pin_project! {
    /// What [`ApiKeyService`] answers with in the end.
    pub struct ApiKeyFuture<F, E> {
        #[pin]
        state: State<F, E>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, E> {
        /// It does not pass.
        Refused { response: Option<Response> },
        /// The verdict was known at once.
        Passed { #[pin] answer: F },
        /// The verdict has to be waited for, and then the answer.
        Asking { answer: Pin<Box<dyn Future<Output = Result<Response, E>> + Send>> },
    }
}

impl<S, V> ApiKeyService<S, V> {
    pub(super) fn new(inner: S, settings: Arc<Settings<V>>) -> Self {
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
    type Future = ApiKeyFuture<S::Future, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let settings = &self.settings;
        let key = match read_key(request.headers(), settings) {
            Ok(key) => key,
            Err(problem) => return ApiKeyFuture::refused(problem.into_response()),
        };
        if let Some(verdict) = settings.verifier.verify_at_once(&key) {
            return match admit(verdict, &mut request, settings) {
                Ok(()) => ApiKeyFuture::passed(self.inner.call(request)),
                Err(problem) => ApiKeyFuture::refused(problem.into_response()),
            };
        }
        // The service that was polled ready is the one to call; its clone waits for its own turn.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let settings = Arc::clone(settings);
        ApiKeyFuture::asking(async move {
            let verdict = settings.verifier.verify(&key).await;
            drop(key);
            match admit(verdict, &mut request, &settings) {
                Ok(()) => Ok(inner.call(request).await?.into_response()),
                Err(problem) => Ok(problem.into_response()),
            }
        })
    }
}

impl<F, E> ApiKeyFuture<F, E> {
    fn refused(response: Response) -> Self {
        Self { state: State::Refused { response: Some(response) } }
    }

    fn passed(answer: F) -> Self {
        Self { state: State::Passed { answer } }
    }

    fn asking(answer: impl Future<Output = Result<Response, E>> + Send + 'static) -> Self {
        Self { state: State::Asking { answer: Box::pin(answer) } }
    }
}

impl<F, R, E> Future for ApiKeyFuture<F, E>
where
    F: Future<Output = Result<R, E>>,
    R: IntoResponse,
{
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        const ONCE: &str = "a future that is ready is not polled again";
        match self.project().state.project() {
            StateProjection::Refused { response } => Poll::Ready(Ok(response.take().expect(ONCE))),
            StateProjection::Passed { answer } => {
                Poll::Ready(Ok(ready!(answer.poll(context))?.into_response()))
            }
            StateProjection::Asking { answer } => answer.as_mut().poll(context),
        }
    }
}

/// Lets the request pass with its principal in it, or says why not.
fn admit<B, V>(
    verdict: Verdict,
    request: &mut Request<B>,
    settings: &Settings<V>,
) -> Result<(), Problem> {
    let known = verdict.as_ref().map_or_else(|denied| denied.principal.as_ref(), Some);
    if let (Some(principal), Some(caller)) = (known, request.extensions().get::<Caller>()) {
        caller.is(principal);
    }
    let principal = verdict.map_err(|denied| denied.reason)?;
    if let Some(scope) = settings.required_scope.as_deref()
        && !principal.scopes.allows(scope)
    {
        return Err(Problem::insufficient_scope(scope));
    }
    request.extensions_mut().insert(principal);
    Ok(())
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

impl<S: Clone, V> Clone for ApiKeyService<S, V> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), settings: self.settings.clone() }
    }
}
