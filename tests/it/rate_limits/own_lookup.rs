//! A program with its own lookup of keys attaches its own rate limits to them.

use std::{
    convert::Infallible,
    future::{Future, ready},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    http::{Request, Response},
};
use tollgate::{
    auth::{
        ApiKeyLayer, KeyLimits, KeyLookup, LeasedVerifier, Presented, Principal, PrincipalParts,
        RateLimited, Taken, Taking, Verdict, Waited,
    },
    domain::{
        account::{AccountFormat, ExternalId},
        rate_limit::{Cost, LimitLevel, LimitState, RateLimit},
        scope::{Scope, ScopeSet},
        server::ServerId,
        tenant::Environment,
        timestamp::Timestamp,
    },
};
use tower::{Layer as _, ServiceExt as _};

const KEY: &str = "ta_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

const NOW: Duration = Duration::from_secs(1000);

/// A limit of five calls, which the program counts itself.
#[derive(Debug)]
struct OwnLimits {
    left: Mutex<u32>,
    /// Whether the window ends after the next call was taken and before it is spent.
    ends_before_next: AtomicBool,
}

impl OwnLimits {
    fn left(&self) -> u32 {
        *self.left.lock().expect("the lock is not poisoned")
    }
}

impl KeyLimits for OwnLimits {
    fn take(&self, scopes: &[Scope], cost: Cost) -> Taking {
        let mut left = self.left.lock().expect("the lock is not poisoned");
        if let Some(less) = left.checked_sub(cost.get()) {
            *left = less;
            return Taking::Taken(Taken::new());
        }
        drop(left);
        let limits = vec!["default".to_owned()];
        Taking::Refused(RateLimited::new(limits, Some(7), self.states(scopes)))
    }

    fn may_spend(&self, _: &Taken, _: Duration) -> bool {
        !self.ends_before_next.swap(false, Ordering::SeqCst)
    }

    fn put_back(&self, _: &Taken, cost: Cost) {
        *self.left.lock().expect("the lock is not poisoned") += cost.get();
    }

    fn wait<'a>(
        &'a self,
        _: &'a [Scope],
        _: Cost,
    ) -> Pin<Box<dyn Future<Output = Waited> + Send + 'a>> {
        Box::pin(ready(Waited::TryAgain))
    }

    fn states(&self, _: &[Scope]) -> Vec<LimitState> {
        let limit: RateLimit = "default=5/60".parse().expect("the limit is valid");
        vec![LimitState::unused(LimitLevel::Key, &limit).running(self.left(), 7)]
    }
}

/// Accepts every key, with these limits.
struct OwnLookup(Arc<OwnLimits>);

impl KeyLookup for OwnLookup {
    async fn look_up(&self, _: &Presented<'_>, _: ServerId) -> Option<Verdict> {
        let parts = PrincipalParts::new(
            "tronagg".parse().expect("the slug is valid"),
            Environment::Test,
            ExternalId::parse("user-1", AccountFormat::Any).expect("the account id is valid"),
            "key_01h455vb4pex5vsknk084sn02q".parse().expect("the key id is valid"),
            ScopeSet::parse(["orders:read"]).expect("the scopes are valid"),
        );
        let limits: Arc<dyn KeyLimits> = self.0.clone();
        Some(Ok(Principal::new(parts.limited(Some(limits)))))
    }
}

/// Sends a request to a service behind the gate.
async fn respond(gate: &ApiKeyLayer<LeasedVerifier<OwnLookup>>) -> Response<Body> {
    let inner = tower::service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(Response::new(Body::empty()))
    });
    let mut request = Request::new(Body::empty());
    request.headers_mut().insert("x-api-key", KEY.parse().expect("the header value is valid"));
    gate.layer(inner).oneshot(request).await.expect("the service is infallible")
}

#[tokio::test]
async fn limits_that_a_lookup_attaches_are_charged_by_the_gate() {
    let limits =
        Arc::new(OwnLimits { left: Mutex::new(5), ends_before_next: AtomicBool::default() });
    let verifier = LeasedVerifier::new(OwnLookup(Arc::clone(&limits)), 10, || NOW);
    let clock = Timestamp::parse("2027-01-31T12:00:00Z").expect("the time is valid");
    verifier.grant_lease(NOW, Duration::from_secs(2), clock, ServerId::started_at(1));
    let tenant = "tronagg".parse().expect("the slug is valid");
    let gate = ApiKeyLayer::new(verifier, tenant, Environment::Test)
        .cost(Cost::try_from(2_i64).expect("the cost is valid"));
    let gate = |scope: &str| gate.clone().require_scope(scope.parse().expect("the scope is valid"));

    assert_eq!(respond(&gate("orders:write")).await.status(), 403);
    assert_eq!(limits.left(), 5);
    let gate = gate("orders:read");
    for (ends_before, status, left) in
        [(false, 200, 3), (true, 200, 1), (false, 429, 1), (true, 429, 1)]
    {
        limits.ends_before_next.store(ends_before, Ordering::SeqCst);
        let response = respond(&gate).await;
        assert_eq!(response.status(), status);
        assert_eq!(limits.left(), left);
        let header =
            |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        assert_eq!(header("ratelimit-policy"), Some("\"default\";q=5;w=60"));
        assert_eq!(header("ratelimit"), Some(format!("\"default\";r={left};t=7").as_str()));
        assert_eq!(header("retry-after"), (status == 429).then_some("7"));
    }
}
