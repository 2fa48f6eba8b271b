use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::http::{Request, Response};
use pin_project_lite::pin_project;
use tower::Service;

use super::{
    KeyVerifier, Limits, Principal, Problem, RefusalBody,
    gate::{Requirement, judge, present},
    settings::Settings,
};

/// The service that [`ApiKeyLayer`](super::ApiKeyLayer) puts around another service.
///
/// It accepts requests with any body. A refusal is a response with the inner service's body type,
/// which must be a [`RefusalBody`]. A refusal is never an error. Only the inner service returns
/// errors.
pub struct ApiKeyService<S, V> {
    inner: S,
    settings: Arc<Settings<V>>,
}

pin_project! {
    /// The response future of [`ApiKeyService`].
    pub struct ApiKeyFuture<F, B, E> {
        #[pin]
        state: State<F, B, E>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, B, E> {
        /// The gate refused the request.
        Refused { response: Option<Response<B>> },
        /// The verdict was available without waiting.
        Passed { #[pin] answer: F, charged: Option<Charged> },
        /// The verdict is pending. If the key is accepted, the inner service is called next.
        Asking { answer: Asking<B, E> },
    }
}

type Asking<B, E> = Pin<Box<dyn Future<Output = Result<Response<B>, E>> + Send>>;

/// The rate limits that an accepted request was charged to.
struct Charged {
    limits: Limits,
    requirement: Arc<Requirement>,
}

impl Charged {
    fn of(principal: &Principal, requirement: &Arc<Requirement>) -> Option<Self> {
        let limits = principal.limits.clone().filter(|_| requirement.cost.is_some())?;
        Some(Self { limits, requirement: Arc::clone(requirement) })
    }
}

fn add_fields<B>(charged: Option<&Charged>, response: &mut Response<B>) {
    let Some(Charged { limits, requirement }) = charged else { return };
    let fields = limits.fields(requirement.scope.as_slice());
    for (name, value) in fields.into_iter().flatten() {
        response.headers_mut().append(name, value);
    }
}

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
        let Settings { gate, requirement } = &*self.settings;
        let key = match gate.read_key(request.headers()) {
            Ok(key) => key,
            Err(problem) => return ApiKeyFuture::refused(problem),
        };
        let presented = present(&key, requirement, request.extensions());
        if let Some(verdict) = gate.verifier().verify_at_once(&presented) {
            return match judge(verdict, &presented, request.extensions()) {
                Ok(principal) => {
                    let charged = Charged::of(&principal, requirement);
                    request.extensions_mut().insert(principal);
                    ApiKeyFuture::passed(self.inner.call(request), charged)
                }
                Err(problem) => ApiKeyFuture::refused(problem),
            };
        }
        // Only the instance that was polled ready may be called. The clone has to be polled ready
        // before its first call.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let settings = Arc::clone(&self.settings);
        ApiKeyFuture::asking(async move {
            let Settings { gate, requirement } = &*settings;
            let presented = present(&key, requirement, request.extensions());
            let verdict = gate.verifier().verify(&presented).await;
            let judged = judge(verdict, &presented, request.extensions());
            drop(key);
            match judged {
                Ok(principal) => {
                    let charged = Charged::of(&principal, requirement);
                    request.extensions_mut().insert(principal);
                    let mut response = inner.call(request).await?;
                    add_fields(charged.as_ref(), &mut response);
                    Ok(response)
                }
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

    fn passed(answer: F, charged: Option<Charged>) -> Self {
        Self { state: State::Passed { answer, charged } }
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
        const ONCE: &str = "a completed future is not polled again";
        match self.project().state.project() {
            StateProjection::Refused { response } => Poll::Ready(Ok(response.take().expect(ONCE))),
            StateProjection::Passed { answer, charged } => {
                let mut answer = ready!(answer.poll(context));
                if let Ok(response) = &mut answer {
                    add_fields(charged.as_ref(), response);
                }
                Poll::Ready(answer)
            }
            StateProjection::Asking { answer } => answer.as_mut().poll(context),
        }
    }
}

impl<S: Clone, V> Clone for ApiKeyService<S, V> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), settings: self.settings.clone() }
    }
}
