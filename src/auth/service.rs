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
    Challenge, Credentials, CredentialsError, Denied, KeyVerifier, Principal, Problem, Verdict,
    layer::Settings,
};
use crate::domain::{api_key::KeyText, scope::Scope, verification::Denial};

/// The service that [`ApiKeyLayer`](super::ApiKeyLayer) puts around another.
///
/// A refusal is a response, never an error: the only errors are those of the inner service.
pub struct ApiKeyService<S, V> {
    inner: S,
    settings: Settings<V>,
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
        Passed { #[pin] answer: F, principal: Option<Principal> },
        /// The verdict has to be waited for, and then the answer.
        Asking { answer: Pin<Box<dyn Future<Output = Result<Response, E>> + Send>> },
    }
}

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
        let scope = settings.required_scope.as_deref();
        if let Some(verdict) = settings.verifier.verify_at_once(&key) {
            return match admit(verdict, scope) {
                Ok(principal) => {
                    request.extensions_mut().insert(principal.clone());
                    ApiKeyFuture::passed(self.inner.call(request), principal)
                }
                Err(response) => ApiKeyFuture::refused(response),
            };
        }
        // The service that was polled ready is the one to call; its clone waits for its own turn.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let verifier = Arc::clone(&settings.verifier);
        let scope = settings.required_scope.clone();
        ApiKeyFuture::asking(async move {
            let principal = match admit(verifier.verify(&key).await, scope.as_deref()) {
                Ok(principal) => principal,
                Err(response) => return Ok(response),
            };
            drop(key);
            request.extensions_mut().insert(principal.clone());
            Ok(name(inner.call(request).await?, principal))
        })
    }
}

impl<F, E> ApiKeyFuture<F, E> {
    fn refused(response: Response) -> Self {
        Self { state: State::Refused { response: Some(response) } }
    }

    fn passed(answer: F, principal: Principal) -> Self {
        Self { state: State::Passed { answer, principal: Some(principal) } }
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
            StateProjection::Passed { answer, principal } => {
                let answer = ready!(answer.poll(context))?;
                Poll::Ready(Ok(name(answer, principal.take().expect(ONCE))))
            }
            StateProjection::Asking { answer } => answer.as_mut().poll(context),
        }
    }
}

/// Who passes, or the response to who does not.
#[expect(clippy::result_large_err, reason = "it is looked at once, by the caller")]
fn admit(verdict: Verdict, required: Option<&Scope>) -> Result<Principal, Response> {
    match verdict {
        Ok(principal) => match required {
            Some(scope) if !principal.scopes.allows(scope) => {
                Err(name(Problem::insufficient_scope(scope), principal))
            }
            _ => Ok(principal),
        },
        Err(Denied { reason, principal: Some(principal) }) => {
            Err(name(Problem::from(reason), principal))
        }
        Err(Denied { reason, principal: None }) => Err(Problem::from(reason).into_response()),
    }
}

/// Says in the response whose key the request carried, for whoever logs and counts it: outside of
/// the gate the request is gone.
fn name(answer: impl IntoResponse, principal: Principal) -> Response {
    let mut response = answer.into_response();
    response.extensions_mut().insert(principal);
    response
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
