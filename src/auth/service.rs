use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::http::{HeaderMap, Request, Response};
use pin_project_lite::pin_project;
use tower::Service;

use super::{
    Caller, Challenge, ClientAddress, Credentials, CredentialsError, KeyVerifier, Presented,
    Problem, ProblemCode, RefusalBody, Verdict,
    settings::{Requirement, Settings},
};
use crate::domain::{
    api_key::KeyText,
    verification::{Denial, GateDecision},
};

/// The service that [`ApiKeyLayer`](super::ApiKeyLayer) puts around another.
///
/// It takes requests with any body. A refusal is a response with the inner service's kind of body,
/// which has to be a [`RefusalBody`], and never an error: the only errors are those of the inner
/// service.
pub struct ApiKeyService<S, V> {
    inner: S,
    settings: Arc<Settings<V>>,
}

pin_project! {
    /// What [`ApiKeyService`] answers with in the end.
    pub struct ApiKeyFuture<F, B, E> {
        #[pin]
        state: State<F, B, E>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, B, E> {
        /// It does not pass.
        Refused { response: Option<Response<B>> },
        /// The verdict was known at once.
        Passed { #[pin] answer: F },
        /// The verdict has to be waited for, and then the answer.
        Asking { answer: Asking<B, E> },
    }
}

type Asking<B, E> = Pin<Box<dyn Future<Output = Result<Response<B>, E>> + Send>>;

impl<S, V> ApiKeyService<S, V> {
    pub(super) fn new(inner: S, settings: Arc<Settings<V>>) -> Self {
        Self { inner, settings }
    }
}

impl<S, V, RequestBody, ResponseBody> Service<Request<RequestBody>> for ApiKeyService<S, V>
where
    S: Service<Request<RequestBody>, Response = Response<ResponseBody>> + Clone + Send + 'static,
    S::Future: Send,
    V: KeyVerifier,
    RequestBody: Send + 'static,
    ResponseBody: RefusalBody,
{
    type Response = Response<ResponseBody>;
    type Error = S::Error;
    type Future = ApiKeyFuture<S::Future, ResponseBody, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> Self::Future {
        let settings = &self.settings;
        let key = match read_key(request.headers(), settings) {
            Ok(key) => key,
            Err(problem) => return ApiKeyFuture::refused(problem),
        };
        let own = request.extensions_mut().remove::<Requirement>();
        let presented = present(&key, own.as_ref().unwrap_or(&settings.requirement), &request);
        if let Some(verdict) = settings.verifier.verify_at_once(&presented) {
            return match admit(verdict, &presented, &mut request) {
                Ok(()) => ApiKeyFuture::passed(self.inner.call(request)),
                Err(problem) => ApiKeyFuture::refused(problem),
            };
        }
        // The service that was polled ready is the one to call; its clone waits for its own turn.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let settings = Arc::clone(settings);
        ApiKeyFuture::asking(async move {
            let requirement = own.as_ref().unwrap_or(&settings.requirement);
            let presented = present(&key, requirement, &request);
            let verdict = settings.verifier.verify(&presented).await;
            let admitted = admit(verdict, &presented, &mut request);
            drop(key);
            match admitted {
                Ok(()) => inner.call(request).await,
                Err(problem) => Ok(problem.into_http_response()),
            }
        })
    }
}

impl<F, B, E> ApiKeyFuture<F, B, E> {
    fn refused(problem: Problem) -> Self
    where
        B: RefusalBody,
    {
        Self { state: State::Refused { response: Some(problem.into_http_response()) } }
    }

    fn passed(answer: F) -> Self {
        Self { state: State::Passed { answer } }
    }

    fn asking(answer: impl Future<Output = Result<Response<B>, E>> + Send + 'static) -> Self {
        Self { state: State::Asking { answer: Box::pin(answer) } }
    }
}

impl<F, B, E> Future for ApiKeyFuture<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        const ONCE: &str = "a future that is ready is not polled again";
        match self.project().state.project() {
            StateProjection::Refused { response } => Poll::Ready(Ok(response.take().expect(ONCE))),
            StateProjection::Passed { answer } => answer.poll(context),
            StateProjection::Asking { answer } => answer.as_mut().poll(context),
        }
    }
}

fn present<'a, B>(
    key: &'a KeyText,
    requirement: &'a Requirement,
    request: &Request<B>,
) -> Presented<'a> {
    let client = request.extensions().get::<ClientAddress>();
    let tenant = requirement.tenant.as_ref();
    Presented::new(key)
        .for_tenant(tenant.map(|(slug, environment)| (slug, *environment)))
        .for_scope(requirement.scope.as_ref())
        .from_client(client.map(|client| client.0))
}

/// Lets the request pass with its principal in it, or says why not.
fn admit<B>(
    verdict: Verdict,
    presented: &Presented<'_>,
    request: &mut Request<B>,
) -> Result<(), Problem> {
    let known = verdict.as_ref().map_or_else(|denied| denied.principal.as_ref(), Some);
    // First, also for a key that is denied: whether another tenant suspended the account is not
    // for this tenant to know. The caller stays unknown, so that nothing is counted for the key.
    if known.is_some_and(|principal| !presented.is_served(principal)) {
        return Err(Problem::from(Denial::NotFound).decided(GateDecision::WrongTenant));
    }
    if let (Some(principal), Some(caller)) = (known, request.extensions().get::<Caller>()) {
        caller.is(principal);
    }
    let principal = verdict.map_err(|denied| denied.reason)?;
    if let Some(scope) = presented.scope
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
            ProblemCode::MissingApiKey,
            format!("The request has no API key. Send one in the {header} header."),
            Challenge::Bare,
        )
        .decided(GateDecision::Missing)),
        Err(CredentialsError::Conflicting) => Err(Problem::unauthorized(
            ProblemCode::MissingApiKey,
            "The request has several API keys that differ. Send one.",
            Challenge::Bare,
        )
        .decided(GateDecision::Conflicting)),
    }
}

impl<S: Clone, V> Clone for ApiKeyService<S, V> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), settings: self.settings.clone() }
    }
}
